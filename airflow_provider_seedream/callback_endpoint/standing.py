"""Decides whether a callback counts, by how it stands with its purchase: rules only, which read nothing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from airflow.utils.state import State, TaskInstanceState

from airflow_provider_seedream.callbacks.delivery import Delivery, DeliveryRecord

_FAILED = State.finished - {TaskInstanceState.SUCCESS}


class Reason(StrEnum):
    """The reason for which a callback is refused; a tag of the metric."""

    TOKEN = "token"  # noqa: S105 - it names one
    """No task awaits a callback with this nonce, or what it has bought cannot be read."""
    ENDED = "ended"
    """The task was cleared or is gone; or it has failed or its DAG run is over, and its purchase is known."""
    OTHER_TASK = "other_task"
    """The body names another taskId than the purchase has."""
    BODY = "body"
    """The body is too large, too slow, or no delivery."""
    BUSY = "busy"
    """A limit of the api-server process is reached; the sender may repeat."""
    DATABASE = "database"
    """The database cannot answer; the sender may repeat."""


class RefusedDelivery(Exception):  # noqa: N818 - an answer, not an error
    """A callback that does not count."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class ReceiveResult:
    """The outcome of a callback that counts.

    :param resumed: number of task instances that were resumed just now.
    :param repeated: whether a delivery for the same purchase was recorded before.
    :param again_at: epoch seconds at which :func:`~.deliveries.resume` is worth calling; ``None`` if
        nothing is left to do.
    """

    resumed: int = 0
    repeated: bool = False
    again_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PurchaseState:
    """A purchase, and how it stands with the task that has bought.

    :param seedream_task_id: taskId of the API; ``None`` while the answer to the submission is not recorded.
    :param exists: whether Airflow still has the task instance.
    :param cleared: whether a user has cleared it since it bought.
    :param task_state: of the task instance.
    :param run_is_over: whether its DAG run has ended.
    :param record: of the delivery that counts, if there was one.
    """

    seedream_task_id: str | None
    exists: bool = True
    cleared: bool = False
    task_state: str | None = None
    run_is_over: bool = False
    record: DeliveryRecord | None = None

    @property
    def has_ended(self) -> bool:
        """True if nobody can wait for the purchase any more."""
        handed_on = self.task_state == TaskInstanceState.SUCCESS
        return self.is_forgotten or self.task_state in _FAILED or (handed_on and self.run_is_over)

    @property
    def is_forgotten(self) -> bool:
        """True if what the task has bought is nobody's concern any more."""
        return not self.exists or self.cleared

    @property
    def is_lost(self) -> bool:
        """True if the task has ended without knowing what it has bought: nobody but a callback says it."""
        return self.seedream_task_id is None and self.has_ended and not self.is_forgotten

    def find_reason_to_refuse(self, delivery: Delivery | None = None) -> Reason | None:
        """Return the reason for which a delivery does not count; ``None`` if it does.

        One that is recorded is accepted for ever, so that the vendor stops repeating it.

        :param delivery: ``None`` where its body is not read yet.
        """
        if self.has_ended and not self.is_lost and self.record is None:
            return Reason.ENDED
        if delivery and self.seedream_task_id and delivery.seedream_task_id != self.seedream_task_id:
            return Reason.OTHER_TASK
        return None

    def is_news(self, delivery: Delivery) -> bool:
        """True if a delivery that counts is to be recorded.

        A record that names another taskId was wrong or may be, and must not hide the true one.
        """
        if self.record is None:
            return True
        return not self.is_forgotten and delivery.seedream_task_id != self.record.seedream_task_id
