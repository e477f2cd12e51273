"""How long Airflow waits before it tries again, and when it does not."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from airflow.sdk.definitions.retry_policy import RetryAction

from airflow_provider_seedream.apixo.causes import find_fail_cause, find_http_cause
from airflow_provider_seedream.errors import (
    DeadlineError,
    InvalidRequestError,
    NotDeliveredError,
    Problem,
    RefusedError,
    SeedreamError,
    TaskFailedError,
)
from airflow_provider_seedream.retry_policy import SeedreamRetryPolicy


def refused(code: int, retry_after: float | None = None) -> RefusedError:
    return RefusedError(code, "refused", find_http_cause(code), retry_after)


def failed(code: str) -> TaskFailedError:
    return TaskFailedError("failed", find_fail_cause(code), fail_code=code)


class TestTheDelay:
    @pytest.mark.parametrize(
        ("error", "try_number", "seconds"),
        [
            (refused(429, 75.0), 1, 75.0),
            (refused(429, 7200.0), 1, 7200.0),
            (refused(429, 0.0), 1, 1.0),
            (refused(429), 1, 60.0),
            (refused(429), 3, 240.0),
            (refused(429), 90, 900.0),
            (refused(500), 1, 20.0),
            (NotDeliveredError("no route"), 2, 40.0),
            (failed("Timeout"), 1, 20.0),
            (failed("RateLimitExceeded"), 1, 60.0),
            (failed("SomethingNew"), 1, 60.0),
            (DeadlineError("late"), 5, 10.0),
        ],
    )
    def test_follows_what_apixo_said_and_the_kind_of_failure(
        self, error: SeedreamError, try_number: int, seconds: float
    ) -> None:
        decision = SeedreamRetryPolicy().evaluate(error, try_number, 5)
        assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, timedelta(seconds=seconds))
        assert decision.reason

    def test_has_a_bound_of_ones_own(self) -> None:
        policy = SeedreamRetryPolicy(max_delay=timedelta(seconds=30))
        assert policy.evaluate(refused(429), 1, 5).retry_delay == timedelta(seconds=30)


class TestWhatIsNotRetried:
    @pytest.mark.parametrize(
        "error",
        [
            refused(401),
            refused(402),
            failed("SensitiveContentDetected"),
            InvalidRequestError([Problem("prompt", "''", "is empty", "Say what to draw.")]),
        ],
        ids=lambda error: error.cause.kind.value,
    )
    def test_what_no_retry_can_help_fails_at_once(self, error: SeedreamError) -> None:
        assert SeedreamRetryPolicy().evaluate(error, 1, 5).action is RetryAction.FAIL


class TestOtherExceptions:
    def test_are_left_to_the_tasks_own_settings(self) -> None:
        assert SeedreamRetryPolicy().evaluate(KeyError("x"), 1, 5).action is RetryAction.DEFAULT


def test_it_survives_serialization() -> None:
    data = json.loads(json.dumps(SeedreamRetryPolicy(max_delay=30).serialize()))
    assert SeedreamRetryPolicy.deserialize(data).max_delay == 30.0
