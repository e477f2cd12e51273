"""Every refusal is worded as on the vendor's page."""

from __future__ import annotations

import json

import pytest

from airflow_provider_seedream.sandbox.envelope import RefusedCall, find_message, make_refusal, make_success


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (402, "Insufficient balance or quota"),
        (429, "Rate limit or concurrency limit reached"),
        # Not on the page.
        (418, "I'm a Teapot"),
        (599, "Error"),
    ],
)
def test_a_status_has_the_words_of_the_page_or_of_http(code: int, message: str) -> None:
    assert find_message(code) == message


def test_a_refusal_repeats_its_status_in_the_body() -> None:
    answer = make_refusal(RefusedCall(404, "Task not found"), {"Retry-After": "2"})
    assert (answer.status_code, answer.headers["retry-after"]) == (404, "2")
    assert json.loads(answer.body) == {
        "code": 404,
        "message": "Model route or task ID was not found",
        "data": {"error": "Task not found"},
    }


def test_a_success_carries_its_data_as_it_is() -> None:
    assert json.loads(make_success(99.965).body) == {"code": 200, "message": "success", "data": 99.965}
