"""Reads what comes back: a task's status, leniently, since the vendor's pages drift."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeGuard

from airflow_provider_seedream.apixo.text import make_printable
from airflow_provider_seedream.errors import UnreadableAnswerError

SUCCESS = "success"
FAILED = "failed"
FINAL_STATES = frozenset({SUCCESS, FAILED})
"""Every other state is in progress, known or not."""

MAX_TASK_ID = 500
"""Characters of a taskId; the ones that were seen have 13 and 32."""

_WORD = 100
_SENTENCE = 2000


@dataclass(frozen=True, slots=True)
class TaskStatus:
    """A task, as one answer describes it.

    :param task_id: the API's taskId.
    :param state: as reported, in lower case; every state but ``success`` and ``failed`` is in progress.
    :param urls: result URLs; at least one when the state is ``success``.
    :param fail_code: machine-readable reason of a failure.
    :param fail_message: the vendor's words for it.
    :param created_at: epoch seconds, if reported.
    :param completed_at: epoch seconds, if reported.
    """

    task_id: str
    state: str
    urls: tuple[str, ...] = ()
    fail_code: str | None = None
    fail_message: str | None = None
    created_at: float | None = None
    completed_at: float | None = None

    @property
    def succeeded(self) -> bool:
        """True if at least one image was delivered."""
        return self.state == SUCCESS

    @property
    def finished(self) -> bool:
        """True if the task has reached its end, good or bad."""
        return self.state in FINAL_STATES

    @classmethod
    def from_data(cls, data: Any, task_id: str) -> TaskStatus:
        """Read the ``data`` object of a status answer or of a callback.

        :param data: the decoded JSON value.
        :param task_id: the taskId that was asked for.
        :raises UnreadableAnswerError: the answer cannot be read as a status of this task.
        """
        if not isinstance(data, Mapping):
            raise UnreadableAnswerError(f"'data' is {type(data).__name__} instead of an object", task_id)
        state = read_state(data.get("state"))
        if not state:
            raise UnreadableAnswerError("it has no 'state'", task_id)
        if (reported := data.get("taskId")) not in (None, task_id):
            raise UnreadableAnswerError(
                f"it is about another task, {make_printable(reported, 80)!r}", task_id
            )
        return cls(
            task_id=task_id,
            state=state,
            urls=_read_result_urls(data.get("resultJson"), task_id) if state == SUCCESS else (),
            fail_code=_read_text(data.get("failCode"), _WORD),
            fail_message=_read_text(data.get("failMsg"), _SENTENCE),
            created_at=_read_epoch_seconds(data.get("createTime")),
            completed_at=_read_epoch_seconds(data.get("completeTime")),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values, for a trigger's event."""
        return {**asdict(self), "urls": list(self.urls)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> TaskStatus:
        """Read what :meth:`to_json` made; unknown keys are ignored."""
        known = {field.name: value[field.name] for field in fields(cls) if field.name in value}
        return cls(**{**known, "urls": tuple(known.get("urls", ()))})


def is_task_id(value: Any) -> TypeGuard[str]:
    """True if a value is a taskId that can be asked for, stored and printed; it is opaque apart from that."""
    return isinstance(value, str) and 0 < len(value) <= MAX_TASK_ID and value.isprintable()


def read_state(value: Any) -> str:
    """Return a task's state as the API reports it, in lower case; empty where there is none."""
    return make_printable(value.strip().lower(), _WORD) if isinstance(value, str) else ""


def _read_result_urls(result: Any, task_id: str) -> tuple[str, ...]:
    """Read ``resultJson``, which is a JSON string on the vendor's page; an object was seen too."""
    if isinstance(result, str):
        try:
            result = json.loads(result)
        except (ValueError, RecursionError):
            raise UnreadableAnswerError(
                "state is success, but 'resultJson' is broken JSON", task_id
            ) from None
    urls = result.get("resultUrls") if isinstance(result, Mapping) else None
    found = (
        tuple(make_printable(url) for url in urls if isinstance(url, str) and url)
        if isinstance(urls, list)
        else ()
    )
    if not found:
        raise UnreadableAnswerError("state is success, but 'resultJson' holds no URLs", task_id)
    return found


def _read_text(value: Any, limit: int) -> str | None:
    return None if value is None or value == "" else make_printable(value, limit)


def _read_epoch_seconds(value: Any) -> float | None:
    """Read Unix milliseconds, a number or its text; anything else is treated as not reported."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value) / 1000
    except (ValueError, OverflowError):
        return None
    return seconds if 0 < seconds < 1e11 else None
