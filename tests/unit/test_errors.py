"""Every error says what a retry does, and arrives whole in another process."""

from __future__ import annotations

import pickle
from decimal import Decimal

import pytest

from airflow_provider_seedream.errors import (
    AmbiguousSubmitError,
    BalanceError,
    BudgetError,
    Cause,
    ChargedError,
    ConnectionConfigError,
    DeadlineError,
    DestinationError,
    DownloadError,
    InterruptedJobError,
    InvalidRequestError,
    Kind,
    NotChargedError,
    NotDeliveredError,
    NotFinishedError,
    PollFailedError,
    Problem,
    RefusedError,
    ResultExpiredError,
    SeedreamError,
    TaskFailedError,
    TooFewImagesError,
    UnreadableAnswerError,
)

BUSY = Cause(Kind.RATE_LIMIT, "busy", "Wait.")
REFUSED = RefusedError(429, "no", BUSY, 7.0)
ERRORS = [
    InvalidRequestError([Problem("prompt", "''", "is empty", "Say what to draw.")]),
    ConnectionConfigError("it has no API key.", "Put it there.", about="Connection 'c'"),
    NotDeliveredError("ConnectError"),
    REFUSED,
    DestinationError("no", "Do.", retryable=True),
    BudgetError(Decimal("0.07"), Decimal("0.05"), Decimal(0)),
    BalanceError(Decimal("0.07"), Decimal("0.05")),
    InterruptedJobError("a bug"),
    AmbiguousSubmitError("lost", Decimal(10), None, "t1"),
    PollFailedError("no", BUSY, code=429, retry_after=9.0),
    UnreadableAnswerError("no state", "t1"),
    TaskFailedError("no", BUSY, fail_code="Timeout"),
    DeadlineError("late"),
    NotFinishedError("t1", "pending"),
    TooFewImagesError(1, 2, None, REFUSED),
    DownloadError("no"),
    ResultExpiredError("gone"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
class TestEveryError:
    def test_arrives_whole_in_another_process(self, error: SeedreamError) -> None:
        error.retry_helps = True
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert (str(again), vars(again).keys()) == (str(error), vars(error).keys())
        assert (again.cause, again.retry_after, again.retryable) == (error.cause, error.retry_after, True)

    def test_says_whether_money_may_have_been_spent(self, error: SeedreamError) -> None:
        assert isinstance(error, NotChargedError) is not isinstance(error, ChargedError)

    def test_has_a_remedy(self, error: SeedreamError) -> None:
        assert error.cause.meaning
        assert error.cause.remedy


class TestRetryAfter:
    def test_is_known_where_the_api_named_it(self) -> None:
        assert REFUSED.retry_after == 7.0
        assert PollFailedError("no", BUSY, retry_after=9.0).retry_after == 9.0

    def test_is_none_for_everything_else(self) -> None:
        assert [error.retry_after for error in ERRORS if not isinstance(error, RefusedError)].count(None) == (
            len(ERRORS) - 2
        )


class TestWhetherARetryHelps:
    @pytest.mark.parametrize("kind", list(Kind))
    def test_follows_from_who_can_make_the_failure_go_away(self, kind: Kind) -> None:
        passing = {Kind.RATE_LIMIT, Kind.TRANSIENT, Kind.UNKNOWN}
        assert SeedreamError("no", Cause(kind, "m", "r")).retryable is (kind in passing)

    @pytest.mark.parametrize("helps", [True, False])
    def test_is_what_the_situation_says_where_it_says_something(self, helps: bool) -> None:
        error = SeedreamError("no", BUSY)
        error.retry_helps = helps
        assert error.retryable is helps


class TestALostAnswer:
    def test_tells_the_balance_before_and_after(self) -> None:
        lost = AmbiguousSubmitError("ReadTimeout.", seedream_task_id="t1")
        error = lost.with_balances(Decimal("10.00"), Decimal("9.93"))
        assert "its answer was lost: ReadTimeout. Balance before: 10.00 USD; after: 9.93 USD" in str(error)
        assert error.seedream_task_id == "t1"

    def test_says_where_a_balance_is_not_known(self) -> None:
        assert "before: not known; after: not known" in str(AmbiguousSubmitError("ReadTimeout"))


def test_all_problems_of_a_request_are_told() -> None:
    problems = [Problem("prompt", "''", "is empty", "Say."), Problem("model", "'x'", "is unknown", "Choose.")]
    assert str(InvalidRequestError(problems)) == (
        "Invalid Seedream request, it was not sent. prompt='': is empty. Say. model='x': is unknown. Choose."
    )
