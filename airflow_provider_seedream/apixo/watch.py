"""Decides when a task is polled next and when the polls end; the clock and the dice are arguments."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from airflow_provider_seedream.apixo.backoff import MIN_PAUSE, Uniform, compute_backoff
from airflow_provider_seedream.apixo.model import Pace
from airflow_provider_seedream.apixo.status import TaskStatus
from airflow_provider_seedream.errors import Kind, SeedreamError, UnreadableAnswerError

MAX_FAILED_POLLS = 10
"""Polls that may fail in a row, throttling apart, before the watch gives up."""

MAX_UNREADABLE_ANSWERS = 3
"""Answers in a row that may be unreadable; the API is up then, so waiting longer hardly helps."""

MAX_SPREAD = 2.5
"""Most seconds by which first polls are spread."""

_MAX_SLOWDOWN = 4


class Outcome(Enum):
    """The end that a watch took."""

    FINISHED = "finished"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(slots=True, kw_only=True)
class Watch:
    """Follows one task from poll to poll.

    It is fed by :meth:`add_status` and :meth:`add_failure`; ``next_poll`` and ``outcome`` are the decisions.

    :param task_id: the API's taskId.
    :param pace: the pace of the task's model and resolution.
    :param deadline: epoch seconds; one last poll is sent at the deadline.
    :param next_poll: epoch seconds of the next poll.
    """

    task_id: str
    pace: Pace
    deadline: float
    next_poll: float
    polls: int = 0
    failed_polls: int = 0
    slowdown: int = 0
    last_error: SeedreamError | None = None
    status: TaskStatus | None = None
    outcome: Outcome | None = None
    changed: bool = False

    @classmethod
    def start(
        cls,
        task_id: str,
        pace: Pace,
        *,
        created_at: float | None,
        deadline: float,
        now: float,
        uniform: Uniform,
    ) -> Watch:
        """Start a watch whose first poll is counted from the task's creation, not from now.

        :param created_at: epoch seconds; ``None`` where it is not known: then the first poll is due now.
        """
        due = now if created_at is None else max(now, created_at + pace.first_poll)
        # Many tasks are created at once; what is overdue is not put off once more.
        spread = uniform(0, min(pace.interval_low / 2, MAX_SPREAD)) if due > now else 0.0
        return cls(
            task_id=task_id, pace=pace, deadline=deadline, next_poll=min(due + spread, max(deadline, now))
        )

    def add_status(self, status: TaskStatus, *, now: float, uniform: Uniform) -> None:
        """Take in an answer."""
        self.changed = self.status is None or self.status.state != status.state
        self.polls += 1
        self.failed_polls = 0
        self.slowdown = max(0, self.slowdown - 1)
        self.status = status
        if status.finished:
            self.outcome = Outcome.FINISHED
            return
        interval = uniform(self.pace.interval_low, self.pace.interval_high)
        self._schedule(interval * 2**self.slowdown, now)

    def add_failure(self, error: SeedreamError, *, now: float, uniform: Uniform) -> None:
        """Take in a poll that failed."""
        self.changed = False
        self.polls += 1
        self.failed_polls += 1
        self.last_error = error
        if error.cause.kind is Kind.RATE_LIMIT:
            self.slowdown = min(_MAX_SLOWDOWN, self.slowdown + 1)
        elif self.failed_polls >= _count_allowed_failures(error):
            self.outcome = Outcome.ERROR
            return
        self._schedule(self._choose_pause(error, uniform), now)

    def _choose_pause(self, error: SeedreamError, uniform: Uniform) -> float:
        # Even where the user polls without a pause, a failure is followed by one.
        low, high = max(self.pace.interval_low, MIN_PAUSE), max(self.pace.interval_high, 2 * MIN_PAUSE)
        if error.retry_after is not None:
            return max(low, error.retry_after) + uniform(0, high)
        return compute_backoff(self.failed_polls, uniform, base=high, floor=low)

    def _schedule(self, seconds: float, now: float) -> None:
        if now >= self.deadline:
            self.outcome = Outcome.TIMEOUT
        self.next_poll = min(now + seconds, max(self.deadline, now))


def _count_allowed_failures(error: SeedreamError) -> int:
    """Return how many failed polls in a row end the watch."""
    if isinstance(error, UnreadableAnswerError):
        return MAX_UNREADABLE_ANSWERS
    # A task that was just accepted may be unknown for a moment, so a 404 is polled again.
    if error.retryable or error.cause.kind is Kind.NOT_FOUND:
        return MAX_FAILED_POLLS
    return 1
