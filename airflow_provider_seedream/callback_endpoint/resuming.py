"""Decides when a deferred task instance is resumed, and resumes it; knows Airflow's internals for that."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from airflow.models.taskinstance import TaskInstance
from airflow.models.trigger import handle_event_submit
from airflow.triggers.base import TriggerEvent
from airflow.utils.state import TaskInstanceState
from sqlalchemy.orm import Session

from airflow_provider_seedream.callbacks.delivery import DeliveryRecord, ResumeEvent
from airflow_provider_seedream.triggers.seedream import SeedreamTaskTrigger

SOON = 1.0
"""Seconds after which a task that is about to defer is tried again."""

TRIGGER = f"{SeedreamTaskTrigger.__module__}.{SeedreamTaskTrigger.__qualname__}"

_ABOUT_TO_DEFER = (TaskInstanceState.SCHEDULED, TaskInstanceState.QUEUED, TaskInstanceState.RUNNING)


@dataclass(frozen=True, slots=True)
class Wait:
    """The purchases that a deferred task waits for, as the arguments of its trigger tell.

    :param seedream_task_ids: taskIds of the API.
    :param not_before: epoch seconds before which the scheduler would fail the task if it resumed.
    :param deadline: epoch seconds at which the wait ends; ``None`` if not known.
    """

    seedream_task_ids: frozenset[str]
    not_before: float
    deadline: float | None = None

    @classmethod
    def from_kwargs(cls, kwargs: Any) -> Self:
        """Read the arguments of :class:`SeedreamTaskTrigger`.

        :raises LookupError, TypeError, ValueError, AttributeError: they are none that this release knows.
        """
        deadline = kwargs.get("deadline")
        return cls(
            seedream_task_ids=frozenset(map(str, kwargs["seedream_task_ids"])),
            not_before=float(kwargs["not_before"]),
            deadline=None if deadline is None else float(deadline),
        )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A task instance that may wait for a purchase.

    :param task_state: of the task instance.
    :param wait: ``None`` if it is not deferred, or not on our trigger.
    """

    task_id: str
    map_index: int
    task_state: str | None
    wait: Wait | None = None

    def find_resume_time(self, seedream_task_id: str, now: float) -> float | None:
        """Return the time at which it can be resumed because a purchase has ended.

        :returns: epoch seconds, not after ``now`` if that is at once; ``None`` if it does not wait for this
            purchase, and is not about to.
        """
        if self.task_state in _ABOUT_TO_DEFER:
            return now + SOON
        if self.wait is None or seedream_task_id not in self.wait.seedream_task_ids:
            return None
        return self.wait.not_before

    def make_event(self, delivered_at: float) -> ResumeEvent:
        """Return the event that tells it why it is resumed.

        :param delivered_at: epoch seconds at which the callback came.
        """
        if self.wait is None:
            return ResumeEvent(delivered_at=delivered_at)
        return ResumeEvent(
            delivered_at=delivered_at,
            deadline=self.wait.deadline,
            seedream_task_ids=tuple(sorted(self.wait.seedream_task_ids)),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """The candidates that are resumed now.

    :param again_at: epoch seconds at which to plan again; ``None`` if there is nobody to wait for.
    """

    ready: tuple[Candidate, ...]
    again_at: float | None

    @classmethod
    def of(
        cls, candidates: Iterable[Candidate], record: DeliveryRecord, seedream_task_id: str, now: float
    ) -> Self:
        """Plan to resume each candidate once, whatever is delivered again.

        :param record: of the delivery.
        :param seedream_task_id: of the purchase that has ended.
        """
        left = [one for one in candidates if (one.task_id, one.map_index) not in record.resumed]
        times = {one: at for one in left if (at := one.find_resume_time(seedream_task_id, now)) is not None}
        ready = tuple(one for one, at in times.items() if at <= now)
        return cls(ready, min((at for at in times.values() if at > now), default=None))


def read_candidate(ti: TaskInstance) -> Candidate:
    """Read a task instance as it is now; a trigger's arguments are decrypted only where that is needed."""
    return Candidate(ti.task_id, ti.map_index, ti.state, _read_wait(ti))


def _read_wait(ti: TaskInstance) -> Wait | None:
    if ti.state != TaskInstanceState.DEFERRED or ti.trigger is None or ti.trigger.classpath != TRIGGER:
        return None
    try:
        return Wait.from_kwargs(ti.trigger.kwargs)
    except Exception:  # noqa: BLE001 - another Fernet key, no JSON, a type that is not known here: not resumed
        return None


def resume_deferred(session: Session, ti: TaskInstance, event: ResumeEvent) -> None:
    """Let a worker take up a deferred task instance, as Airflow's own human-in-the-loop route does.

    The caller holds the lock of its row and has seen it deferred since, and commits. Where Airflow cannot
    read what the task has stored when it is resumed, it lets it fail, as it does at a trigger's event.
    """
    trigger_event = TriggerEvent(event.to_event())  # type: ignore[no-untyped-call]
    handle_event_submit(trigger_event, task_instance=ti, session=session)
