"""Reads what a callback says, and records it for its task: hints; the truth is read from the API."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from airflow_provider_seedream.apixo.status import FAILED, FINAL_STATES, is_task_id, read_state

DELIVERY_XCOM_KEY = "seedream_callback"
"""XCom key, on the task that has bought, of its newest delivery record, for the sensors of other tasks."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """The body of a callback.

    :param seedream_task_id: the API's taskId.
    :param state: in lower case; a failure may come with code 500 or code 200 (vendor pages differ).
    """

    seedream_task_id: str
    state: str

    @property
    def is_final(self) -> bool:
        """True if the task is said to have ended."""
        return self.state in FINAL_STATES

    @classmethod
    def from_body(cls, body: bytes) -> Self | None:
        """Read ``{"code", "message", "data": {"taskId", "state", ...}}``; ``None`` for anything else."""
        try:
            envelope = json.loads(body)
        except (ValueError, RecursionError):
            return None
        data = envelope.get("data") if isinstance(envelope, dict) else None
        if not isinstance(data, dict):
            return None
        task_id = data.get("taskId")
        if not is_task_id(task_id):
            return None
        # "failed" is also said by the code alone.
        said_by_code = FAILED if envelope.get("code") == 500 else ""
        return cls(task_id, read_state(data.get("state")) or said_by_code)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRecord:
    """A delivery that was recorded for a purchase, in the task state store and in XCom.

    :param digest: of the token's nonce.
    :param seedream_task_id: as the delivery named it.
    :param state: as the delivery named it.
    :param delivered_at: epoch seconds of the first delivery that named this taskId.
    :param resumed: the tasks that were resumed because of it, each as ``(task_id, map_index)``; none of them
        is resumed again, whatever is sent.
    """

    digest: str
    seedream_task_id: str
    state: str
    delivered_at: float
    resumed: tuple[tuple[str, int], ...] = ()

    def with_resumed(self, task_id: str, map_index: int) -> Self:
        """Return the record after a task was resumed."""
        return replace(self, resumed=(*self.resumed, (task_id, map_index)))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "digest": self.digest,
            "seedream_task_id": self.seedream_task_id,
            "state": self.state,
            "delivered_at": self.delivered_at,
            "resumed": [list(one) for one in self.resumed],
        }

    @classmethod
    def from_json(cls, value: Any) -> Self | None:
        """Read what :meth:`to_json` made; ``None`` for anything else, which may come from anywhere."""
        if not isinstance(value, Mapping):
            return None
        try:
            return cls(
                digest=str(value["digest"]),
                seedream_task_id=str(value["seedream_task_id"]),
                state=str(value["state"]),
                delivered_at=float(value["delivered_at"]),
                resumed=tuple((str(task_id), int(index)) for task_id, index in value["resumed"]),
            )
        except (LookupError, TypeError, ValueError, OverflowError):
            return None


def find_delivery(recorded: Iterable[Any], digest: str) -> DeliveryRecord | None:
    """Return the record of a purchase's delivery among values that may be anything; ``None`` if none is one.

    :param digest: of the purchase's nonce.
    """
    records = map(DeliveryRecord.from_json, recorded)
    return next((one for one in records if one and one.digest == digest), None)


def make_delivery_key(digest: str) -> str:
    """Return the name of the :class:`DeliveryRecord` in the task state store of the task that has bought."""
    return f"seedream_callback_{digest}"


def make_waiter_key(digest: str) -> str:
    """Return the name, in a sensor's own task state store, of its wait for another task's purchase."""
    return f"seedream_waits_for_{digest}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeEvent:
    """The event for a task that the api-server resumes, in place of a trigger's.

    :param delivered_at: epoch seconds at which the callback arrived.
    :param deadline: epoch seconds at which the wait that was ended would have ended; ``None`` if not known.
    :param seedream_task_ids: taskIds of the API that the wait was about; empty if not known.
    """

    delivered_at: float
    deadline: float | None = None
    seedream_task_ids: tuple[str, ...] = ()

    def to_event(self) -> dict[str, Any]:
        """Return the payload of the event."""
        return {
            "callback": {
                "delivered_at": self.delivered_at,
                "deadline": self.deadline,
                "seedream_task_ids": list(self.seedream_task_ids),
            }
        }

    @classmethod
    def from_event(cls, event: Any) -> Self | None:
        """Read what :meth:`to_event` made; ``None`` for a trigger's own event."""
        fields = event.get("callback") if isinstance(event, Mapping) else None
        if not isinstance(fields, Mapping):
            return None
        delivered_at, deadline = fields.get("delivered_at"), fields.get("deadline")
        if not isinstance(delivered_at, int | float):
            return None
        task_ids = fields.get("seedream_task_ids")
        return cls(
            delivered_at=float(delivered_at),
            deadline=float(deadline) if isinstance(deadline, int | float) else None,
            seedream_task_ids=tuple(map(str, task_ids)) if isinstance(task_ids, list | tuple) else (),
        )
