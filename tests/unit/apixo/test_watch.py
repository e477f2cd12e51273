"""Polls come at the vendor's pace, back off when they must, and end at the deadline."""

from __future__ import annotations

from airflow_provider_seedream.apixo.model import SEEDREAM_4_5
from airflow_provider_seedream.apixo.status import TaskStatus
from airflow_provider_seedream.apixo.watch import MAX_FAILED_POLLS, MAX_UNREADABLE_ANSWERS, Outcome, Watch
from airflow_provider_seedream.errors import (
    Cause,
    Kind,
    PollFailedError,
    SeedreamError,
    UnreadableAnswerError,
)

PACE_2K = SEEDREAM_4_5.resolutions["2K"].pace
PACE_4K = SEEDREAM_4_5.resolutions["4K"].pace
CREATED = 1000.0
PENDING = TaskStatus("t1", "processing")


def low(a: float, b: float) -> float:
    return a


def high(a: float, b: float) -> float:
    return b


def start(
    now: float = CREATED, deadline: float = 2000.0, created: float | None = CREATED, pace=PACE_2K
) -> Watch:
    return Watch.start("t1", pace, created_at=created, deadline=deadline, now=now, uniform=low)


def failure(kind: Kind, retry_after: float | None = None) -> SeedreamError:
    return PollFailedError("no", Cause(kind, "m", "r"), retry_after=retry_after)


class TestFirstPoll:
    def test_is_counted_from_the_creation(self) -> None:
        assert start(now=CREATED + 15).next_poll == CREATED + 20
        assert start(pace=PACE_4K).next_poll == CREATED + 30

    def test_is_due_at_once_when_a_trigger_starts_late(self) -> None:
        assert start(now=CREATED + 500).next_poll == CREATED + 500

    def test_is_due_at_once_when_the_creation_is_unknown(self) -> None:
        assert start(created=None, now=77.0).next_poll == 77.0

    def test_comes_no_later_than_the_deadline(self) -> None:
        assert start(deadline=CREATED + 5).next_poll == CREATED + 5

    def test_is_spread_so_that_many_triggers_do_not_poll_at_once(self) -> None:
        watch = Watch.start("t", PACE_2K, created_at=0, deadline=99, now=0, uniform=high)
        assert 20 < watch.next_poll < 23


class TestInterval:
    def test_stays_within_the_vendors_bounds(self) -> None:
        for uniform, seconds in ((low, 3), (high, 5)):
            watch = start()
            watch.add_status(PENDING, now=1020, uniform=uniform)
            assert watch.next_poll == 1020 + seconds

    def test_a_finished_task_is_not_polled_again(self) -> None:
        watch = start()
        watch.add_status(TaskStatus("t1", "success", urls=("u",)), now=1020, uniform=low)
        assert watch.outcome is Outcome.FINISHED


class TestThrottling:
    def test_retry_after_is_honoured(self) -> None:
        watch = start()
        watch.add_failure(failure(Kind.RATE_LIMIT, retry_after=40), now=1020, uniform=low)
        assert watch.next_poll == 1060

    def test_polls_are_slower_after_a_429_and_recover(self) -> None:
        watch = start()
        for _ in range(3):
            watch.add_failure(failure(Kind.RATE_LIMIT), now=1020, uniform=low)
        pauses = []
        for _ in range(4):
            watch.add_status(PENDING, now=1020, uniform=low)
            pauses.append(watch.next_poll - 1020)
        assert pauses == [12, 6, 3, 3]

    def test_it_does_not_end_the_watch_before_the_deadline(self) -> None:
        watch = start(deadline=5000)
        for _ in range(100):
            watch.add_failure(failure(Kind.RATE_LIMIT), now=1020, uniform=low)
        assert watch.outcome is None
        watch.add_failure(failure(Kind.RATE_LIMIT), now=5000, uniform=low)
        assert watch.outcome is Outcome.TIMEOUT


class TestFailedPolls:
    def test_a_bounded_run_is_survived(self) -> None:
        watch = start()
        for _ in range(MAX_FAILED_POLLS - 1):
            watch.add_failure(failure(Kind.TRANSIENT), now=1020, uniform=low)
        assert watch.outcome is None
        watch.add_status(PENDING, now=1030, uniform=low)
        watch.add_failure(failure(Kind.TRANSIENT), now=1040, uniform=low)
        assert watch.outcome is None

    def test_a_longer_run_ends_the_watch(self) -> None:
        watch = start()
        for _ in range(MAX_FAILED_POLLS):
            watch.add_failure(failure(Kind.TRANSIENT), now=1020, uniform=low)
        assert watch.outcome is Outcome.ERROR

    def test_never_a_hot_loop(self) -> None:
        watch = start()
        watch.add_failure(failure(Kind.TRANSIENT), now=1020, uniform=low)
        assert watch.next_poll >= 1020 + PACE_2K.interval_low

    def test_a_wrong_key_ends_the_watch_at_once(self) -> None:
        watch = start()
        watch.add_failure(failure(Kind.KEY), now=1020, uniform=low)
        assert watch.outcome is Outcome.ERROR

    def test_an_unknown_task_is_polled_again(self) -> None:
        watch = start()
        watch.add_failure(failure(Kind.NOT_FOUND), now=1020, uniform=low)
        assert watch.outcome is None

    def test_unreadable_answers_end_the_watch_soon(self) -> None:
        watch = start()
        for _ in range(MAX_UNREADABLE_ANSWERS):
            assert watch.outcome is None
            watch.add_failure(UnreadableAnswerError("no state", "t1"), now=1020, uniform=low)
        assert watch.outcome is Outcome.ERROR


class TestDeadline:
    def test_one_last_poll_is_sent_at_the_deadline(self) -> None:
        watch = start(deadline=1022)
        watch.add_status(PENDING, now=1020, uniform=low)
        assert (watch.next_poll, watch.outcome) == (1022, None)
        watch.add_status(PENDING, now=1022, uniform=low)
        assert watch.outcome is Outcome.TIMEOUT

    def test_a_task_that_finished_late_is_delivered_all_the_same(self) -> None:
        watch = start(now=9000, deadline=2000)
        assert watch.next_poll == 9000
        watch.add_status(TaskStatus("t1", "success", urls=("u",)), now=9000, uniform=low)
        assert watch.outcome is Outcome.FINISHED
