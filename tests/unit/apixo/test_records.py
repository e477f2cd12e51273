"""A submission goes to XCom and the task state store and comes back as it was, to the last digit."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from airflow_provider_seedream.apixo.model import SEEDREAM_4_5
from airflow_provider_seedream.apixo.records import Submission, to_usd
from airflow_provider_seedream.apixo.request import GenerateRequest

SUBMISSION = Submission.of(
    GenerateRequest(prompt="a fox", max_images=3, aspect_ratio="16:9", provider="value"),
    "task_1",
    price_per_image=Decimal("0.035"),
    now=1_790_000_000.25,
)


@pytest.mark.parametrize(
    "submission",
    [
        SUBMISSION,
        replace(SUBMISSION, callback_digest="d1" * 32),
        Submission.unrecorded("task_1", price_per_image=Decimal("0.1"), resolution="4K", requested=2),
        Submission.unrecorded("task_1", price_per_image=Decimal("0.0333333333333333")),
    ],
    ids=["recorded", "with a callback", "unrecorded", "of an odd price"],
)
def test_a_submission_comes_back_as_it_was(submission: Submission) -> None:
    assert Submission.from_json(json.loads(json.dumps(submission.to_json()))) == submission


def test_it_holds_what_was_ordered() -> None:
    assert SUBMISSION.charged == Decimal("0.105")
    assert SUBMISSION.size == (2848, 1600)
    assert SUBMISSION.request == {
        "mode": "text-to-image",
        "prompt": "a fox",
        "max_images": 3,
        "resolution": "2K",
        "sequential_image_generation": "disabled",
        "aspect_ratio": "16:9",
    }


def test_its_pace_is_that_of_its_resolution() -> None:
    assert replace(SUBMISSION, resolution="4K").pace == SEEDREAM_4_5.resolutions["4K"].pace


def test_the_digest_of_a_callback_is_there_only_where_airflow_is_called() -> None:
    assert "callback_digest" not in SUBMISSION.to_json()


def test_a_charge_that_is_not_known_is_not_zero() -> None:
    assert Submission.unrecorded("task_1", price_per_image=Decimal("0.035")).charged is None
    assert to_usd(None) is None
