"""A result says what was ordered, what came and what it cost, and comes back from XCom as it was."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_seedream.apixo.records import Submission
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.apixo.status import TaskStatus
from airflow_provider_seedream.result import Result
from airflow_provider_seedream.storage.manifest import SavedImage

NOW = 1_790_000_000.0
PRICE = Decimal("0.035")
IMAGE = SavedImage(
    index=1,
    path="file:///images/t-1.png",
    name="t-1.png",
    url="https://results.example.com/1",
    bytes=7,
    sha256="ab",
    format="png",
    width=2048,
    height=2048,
)


def purchase(
    task_id: str = "task_1", *, ordered: int = 3, came: int = 3, **status: Any
) -> tuple[Submission, TaskStatus]:
    request = GenerateRequest(prompt="a fox", max_images=ordered, aspect_ratio="1:1")
    submission = Submission.of(request, task_id, price_per_image=PRICE, now=NOW)
    urls = tuple(f"https://results.example.com/{task_id}/{number}" for number in range(came))
    return submission, TaskStatus(task_id, "success", urls, **status)


class TestMoney:
    def test_is_that_of_the_images_that_came(self) -> None:
        result = Result.of(purchase(ordered=3, came=2))
        assert (result.charged_usd, result.cost_usd, result.refunded_usd) == (0.105, 0.07, 0.035)
        assert (result.requested, result.delivered, result.missing) == (3, 2, 1)

    def test_of_top_ups_is_added(self) -> None:
        result = Result.of(purchase(ordered=3, came=2), purchase("task_2", ordered=1, came=1))
        assert (result.charged_usd, result.cost_usd) == (0.14, 0.105)
        assert (result.requested, result.delivered, result.missing) == (3, 3, 0)
        assert (result.seedream_task_id, result.top_up_task_ids) == ("task_1", ("task_2",))

    def test_is_not_known_of_a_task_that_nobody_recorded(self) -> None:
        _, status = purchase()
        result = Result.of((Submission.unrecorded("task_1", price_per_image=PRICE), status))
        assert (result.charged_usd, result.refunded_usd, result.cost_usd) == (None, None, 0.105)
        assert (result.requested, result.missing) == (None, 0)


class TestTimes:
    def test_are_those_that_the_api_reports(self) -> None:
        result = Result.of(purchase(created_at=NOW, completed_at=NOW + 30))
        assert result.created_at == "2026-09-21T14:13:20+00:00"
        assert result.completed_at == "2026-09-21T14:13:50+00:00"
        assert result.expires_at == "2026-10-06T14:13:50+00:00"

    def test_are_that_of_the_submission_where_it_reports_none(self) -> None:
        result = Result.of(purchase())
        assert (result.created_at, result.completed_at) == ("2026-09-21T14:13:20+00:00", None)


class TestXCom:
    @pytest.mark.parametrize(
        "result",
        [
            Result.of(purchase()),
            Result.of(purchase(came=2), purchase("task_2", ordered=1, came=1)),
            replace(Result.of(purchase()), destination="file:///images", manifest="m.json", images=(IMAGE,)),
            Result(seedream_task_id="urls-1", urls=("https://results.example.com/1",), delivered=1),
        ],
        ids=["of a task", "with a top-up", "saved", "of plain URLs"],
    )
    def test_brings_it_back_as_it_was(self, result: Result) -> None:
        assert Result.from_json(json.loads(json.dumps(result.to_json()))) == result

    def test_has_what_was_saved_only_where_something_was(self) -> None:
        saved = {"destination", "manifest", "images"}
        assert saved.isdisjoint(Result.of(purchase()).to_json())
        assert Result.of(purchase()).to_json().keys() == {one.name for one in fields(Result)} - saved

    def test_does_not_tell_how_the_result_was_delivered(self) -> None:
        submission, status = purchase()
        called = replace(submission, callback_digest="d1")
        assert Result.of((called, status)) == Result.of((submission, status))

    @pytest.mark.parametrize("request_", ["a fox", 7, ["a fox"]])
    def test_may_hold_more_than_is_known_and_less(self, request_: Any) -> None:
        images = ["no image", 3, None, {"index": 1, "newer": 2}]
        read = Result.from_json({"seedream_task_id": "t", "newer": 1, "request": request_, "images": images})
        assert read == Result(seedream_task_id="t")

    def test_without_a_task_id_is_no_result(self) -> None:
        with pytest.raises(TypeError, match="seedream_task_id"):
            Result.from_json({"urls": []})
