"""A verdict survives an event, and stands for a status or for an error that says what happened."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_seedream.apixo.model import SEEDREAM_4_5
from airflow_provider_seedream.apixo.status import TaskStatus
from airflow_provider_seedream.apixo.verdict import Verdict, make_task_failed_error
from airflow_provider_seedream.apixo.watch import Outcome, Watch
from airflow_provider_seedream.errors import (
    Cause,
    DeadlineError,
    Kind,
    PollFailedError,
    SeedreamError,
    TaskFailedError,
)

MOMENTS = st.none() | st.floats(0.001, 1e11)
STATUSES = st.builds(
    TaskStatus,
    task_id=st.text(),
    state=st.text() | st.sampled_from(["success", "failed"]),
    urls=st.lists(st.text()).map(tuple),
    fail_code=st.none() | st.text(),
    fail_message=st.none() | st.text(),
    created_at=MOMENTS,
    completed_at=MOMENTS,
)
VERDICTS = st.builds(
    Verdict,
    task_id=st.text(),
    outcome=st.sampled_from(Outcome),
    polls=st.integers(0, 10**6),
    deadline=st.floats(0, 1e11),
    status=st.none() | STATUSES,
    problem=st.none() | st.text(),
    kind=st.sampled_from(Kind),
)

DELIVERED = TaskStatus("t1", "success", urls=("https://r/1.png",))
DEADLINE = 1_767_965_610.0


@given(VERDICTS)
def test_it_comes_through_json_as_it_was(verdict: Verdict) -> None:
    assert Verdict.from_json(json.loads(json.dumps(verdict.to_json()))) == verdict


@given(VERDICTS)
def test_every_one_is_a_success_or_a_documented_error(verdict: Verdict) -> None:
    with suppress(SeedreamError):
        assert verdict.require_success().succeeded


class TestTheEndOfAWatch:
    def watch(self, deadline: float = DEADLINE) -> Watch:
        pace = SEEDREAM_4_5.resolutions["2K"].pace
        return Watch.start(
            "t1", pace, created_at=None, deadline=deadline, now=0.0, uniform=lambda low, high: low
        )

    def test_with_images_is_their_status(self) -> None:
        watch = self.watch()
        watch.add_status(DELIVERED, now=1.0, uniform=lambda low, high: low)
        assert Verdict.of(watch).require_success() == DELIVERED

    def test_at_the_deadline_says_when_that_was_and_what_was_seen(self) -> None:
        watch = self.watch()
        watch.add_status(TaskStatus("t1", "processing"), now=DEADLINE, uniform=lambda low, high: low)
        said = r"deadline 2026-01-09T13:33:30\+00:00; last seen processing after 1 polls.*cannot be cancelled"
        with pytest.raises(DeadlineError, match=said):
            Verdict.of(watch).require_success()

    def test_with_a_key_that_was_revoked_leaves_the_task_alone(self) -> None:
        watch = self.watch()
        error = PollFailedError("HTTP 401", Cause(Kind.KEY, "m", "r"))
        watch.add_failure(error, now=1.0, uniform=lambda low, high: low)
        said = "Gave up watching task t1 after 1 polls: HTTP 401 The task itself is not affected"
        with pytest.raises(PollFailedError, match=said) as caught:
            Verdict.of(watch).require_success()
        assert caught.value.cause.kind is Kind.KEY

    def test_forgets_a_failure_that_was_made_good(self) -> None:
        watch = self.watch()
        watch.add_failure(PollFailedError("x", Cause(Kind.TRANSIENT, "m", "r")), now=1.0, uniform=max)
        watch.add_status(DELIVERED, now=2.0, uniform=max)
        assert Verdict.of(watch).problem is None


def test_one_poll_of_a_task_in_progress_is_no_verdict() -> None:
    assert Verdict.from_status(TaskStatus("t1", "processing_r2")) is None
    assert Verdict.from_status(DELIVERED) is not None


class TestAnEvent:
    def test_of_another_release_is_read_as_far_as_it_goes(self) -> None:
        whole = Verdict(task_id="t1", outcome=Outcome.FINISHED, polls=2, deadline=9.0, status=DELIVERED)
        items = [whole.to_json(), {"task_id": "t2", "outcome": "vanished"}, {"task_id": 3}, "x"]
        assert Verdict.read_event({"verdicts": items}) == (["t1", "t2"], {"t1": whole})

    @pytest.mark.parametrize("event", [None, {}, [], {"verdicts": None}, {"verdicts": {"t1": 1}}])
    def test_of_something_else_names_no_task(self, event: object) -> None:
        assert Verdict.read_event(event) == ([], {})


class TestAFailedTask:
    def status(self, code: str | None) -> TaskStatus:
        return TaskStatus("t1", "failed", fail_code=code, fail_message="NSFW")

    def test_says_why_what_it_costs_and_what_to_do(self) -> None:
        error = make_task_failed_error(self.status("SensitiveContentDetected"))
        assert str(error) == (
            "Task t1 failed: SensitiveContentDetected. Input or output was flagged as sensitive. "
            "The API says: NSFW APIXO bills delivered images only and refunds the pre-charge. "
            "Change the prompt or the reference images."
        )

    @pytest.mark.parametrize(
        ("codes", "code", "retryable"),
        [
            (None, "Timeout", True),
            (None, "SensitiveContentDetected", False),
            (frozenset({"sensitivecontentdetected"}), "Sensitive content detected", True),
            (frozenset(), "Timeout", False),
            (frozenset(), None, False),
        ],
    )
    def test_is_retried_where_the_user_or_the_tables_say_so(
        self, codes: frozenset[str] | None, code: str | None, retryable: bool
    ) -> None:
        error = make_task_failed_error(self.status(code), codes)
        assert isinstance(error, TaskFailedError)
        assert error.retryable is retryable
