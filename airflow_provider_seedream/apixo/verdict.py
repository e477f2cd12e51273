"""Says how a watched task ended: a value that survives a trigger's event, and the error it stands for."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from airflow_provider_seedream.apixo.causes import find_fail_cause, normalize_code
from airflow_provider_seedream.apixo.status import TaskStatus
from airflow_provider_seedream.apixo.watch import Outcome, Watch
from airflow_provider_seedream.errors import (
    Cause,
    DeadlineError,
    Kind,
    PollFailedError,
    SeedreamError,
    TaskFailedError,
)
from airflow_provider_seedream.times import describe_moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The end of a watch.

    :param task_id: the API's taskId.
    :param polls: status requests that were sent.
    :param deadline: epoch seconds.
    :param status: the last status that was read, if any.
    :param problem: why the watch could not go on, or the last failed poll before a timeout.
    :param kind: who can make that problem go away.
    """

    task_id: str
    outcome: Outcome
    polls: int
    deadline: float
    status: TaskStatus | None = None
    problem: str | None = None
    kind: Kind = Kind.UNKNOWN

    @classmethod
    def of(cls, watch: Watch) -> Verdict:
        """Make the verdict of a watch that has its outcome."""
        error = watch.last_error if watch.failed_polls else None
        return cls(
            task_id=watch.task_id,
            outcome=watch.outcome or Outcome.ERROR,
            polls=watch.polls,
            deadline=watch.deadline,
            status=watch.status,
            problem=str(error) if error else None,
            kind=error.cause.kind if error else Kind.UNKNOWN,
        )

    @classmethod
    def from_status(cls, status: TaskStatus) -> Verdict | None:
        """Make the verdict of a task that was polled once; ``None`` while it is in progress."""
        if not status.finished:
            return None
        return cls(task_id=status.task_id, outcome=Outcome.FINISHED, polls=1, deadline=0.0, status=status)

    @classmethod
    def from_problem(
        cls, task_id: str, problem: str, *, deadline: float, kind: Kind = Kind.UNKNOWN
    ) -> Verdict:
        """Make the verdict of a watch that could not even poll."""
        return cls(
            task_id=task_id, outcome=Outcome.ERROR, polls=0, deadline=deadline, problem=problem, kind=kind
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, for a trigger's event."""
        return {
            "task_id": self.task_id,
            "outcome": self.outcome.value,
            "polls": self.polls,
            "deadline": self.deadline,
            "status": self.status.to_json() if self.status else None,
            "problem": self.problem,
            "kind": self.kind.value,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Verdict:
        """Read what :meth:`to_json` made."""
        status = value.get("status")
        return cls(
            task_id=value["task_id"],
            outcome=Outcome(value["outcome"]),
            polls=value.get("polls", 0),
            deadline=value["deadline"],
            status=TaskStatus.from_json(status) if status else None,
            problem=value.get("problem"),
            kind=Kind(value.get("kind", Kind.UNKNOWN.value)),
        )

    @staticmethod
    def read_event(event: Any) -> tuple[list[str], dict[str, Verdict]]:
        """Return the taskIds that a trigger's event names, and the verdicts that can be read, by taskId.

        The event may come from another release of this provider; what cannot be read is polled again.
        """
        items = event.get("verdicts") if isinstance(event, Mapping) else None
        named: list[str] = []
        verdicts: dict[str, Verdict] = {}
        for item in items if isinstance(items, list) else []:
            if not isinstance(item, Mapping) or not isinstance(item.get("task_id"), str):
                continue
            named.append(item["task_id"])
            with suppress(LookupError, TypeError, ValueError, AttributeError):
                verdicts[item["task_id"]] = Verdict.from_json(item)
        return named, verdicts

    def require_success(self, retryable_codes: frozenset[str] | None = None) -> TaskStatus:
        """Return the status of a task that delivered.

        :param retryable_codes: see :func:`make_task_failed_error`.
        :raises TaskFailedError: the API reports a failure.
        :raises DeadlineError: the deadline passed first.
        :raises PollFailedError: the status could not be read.
        """
        if self.outcome is Outcome.FINISHED and self.status is not None:
            if self.status.succeeded:
                return self.status
            raise make_task_failed_error(self.status, retryable_codes)
        if self.outcome is Outcome.TIMEOUT:
            raise self._make_deadline_error()
        cause = Cause(self.kind, "The status could not be read", "Poll again.")
        what = f"Gave up watching task {self.task_id} after {self.polls} polls: {self.problem}"
        raise PollFailedError(f"{what} The task itself is not affected; it may finish and be billed.", cause)

    def _make_deadline_error(self) -> SeedreamError:
        seen = f"last seen {self.status.state}" if self.status else "its status was never read"
        until = describe_moment(self.deadline)
        also = f" The last poll failed: {self.problem}" if self.problem else ""
        return DeadlineError(
            f"Task {self.task_id} did not finish by its deadline {until}; {seen} after {self.polls} polls."
            f"{also} It cannot be cancelled: it may still finish, and is billed then."
        )


def make_task_failed_error(
    status: TaskStatus, retryable_codes: frozenset[str] | None = None
) -> TaskFailedError:
    """Make the error for a task in state ``failed``.

    :param retryable_codes: normalized failCodes that a retry may help; ``None`` leaves it to the tables.
    """
    cause = find_fail_cause(status.fail_code)
    code = status.fail_code or "no failCode"
    words = f" The API says: {status.fail_message}" if status.fail_message else ""
    helps = None if retryable_codes is None else normalize_code(status.fail_code or "") in retryable_codes
    return TaskFailedError(
        f"Task {status.task_id} failed: {code}. {cause.meaning}.{words} "
        f"APIXO bills delivered images only and refunds the pre-charge. {cause.remedy}",
        cause,
        fail_code=status.fail_code,
        retry_helps=helps,
    )
