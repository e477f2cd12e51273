"""Decides what becomes of a task, as pure functions of the task and the time."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from airflow_provider_seedream.sandbox.checks import Order
from airflow_provider_seedream.sandbox.directives import Directives

PENDING_SHARE = 0.15
"""Part of its generation time that a task waits before it is processed."""

FAIL_MESSAGES: Mapping[str, str] = {
    "SensitiveContentDetected": (
        "The input or output was flagged as sensitive. Please try again with different inputs."
    ),
    "InputOutputSensitiveContentDetected": "Input or output failed safety checks",
    "PromptInvalid": "Prompt was invalid or rejected by the provider",
    "BadRequest": "Required parameters were missing or malformed upstream",
    "InvalidImageSize": "A reference image size is unsupported",
    "ImageFormatIncorrect": "A reference image format could not be accepted",
    "Upload error": "A reference image is too large",
    "RateLimitExceeded": "Provider-side rate limit reached",
    "Timeout": "Provider processing timed out",
    "StreamError": "Streaming request failed after retries",
    "FinalizeError": "Result finalization failed",
    "Validation error": "Upstream rejected the request as invalid",
    "UpstreamError": "Provider returned an unmapped failure",
}
"""The vendor page's table of task failure codes; its example gives the first one in full."""


@dataclass(frozen=True, slots=True)
class Task:
    """An accepted order and all that will become of it.

    :param key: API key of the account that pays.
    :param origin: scheme, host and port by which the client reached the server, for callbacks.
    :param created_at: epoch seconds.
    :param duration: seconds from creation to completion, after the time scale.
    :param token: unguessable part of the result URLs.
    """

    order: Order
    directives: Directives
    key: str
    origin: str
    created_at: float
    duration: float
    id: str
    token: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def completes_at(self) -> float:
        """Epoch seconds at which it succeeds or fails."""
        return self.created_at + self.duration

    @property
    def will_fail(self) -> bool:
        """True if it ends as failed."""
        return self.directives.fail is not None

    @property
    def will_deliver(self) -> int:
        """Number of images that it ends with."""
        if self.will_fail:
            return 0
        asked, wanted = self.order.max_images, self.directives.deliver
        return asked if wanted is None else min(asked, wanted)

    @property
    def precharge(self) -> Decimal:
        """USD taken when it was accepted."""
        return self.order.max_images * self.order.model.price_per_image

    @property
    def refund(self) -> Decimal:
        """USD given back when it ends: the price of what was asked for and not delivered."""
        return (self.order.max_images - self.will_deliver) * self.order.model.price_per_image


def accept(
    order: Order, directives: Directives, *, key: str, origin: str, now: float, time_scale: float
) -> Task:
    """Return a new task; its generation time is typical for its resolution and differs from task to task."""
    task_id = f"task_{secrets.token_hex(16)}"
    typical = order.model.resolutions[order.resolution].typical_seconds
    seconds = directives.seconds
    if seconds is None:
        seconds = typical.low + _compute_spread(task_id) * (typical.high - typical.low)
    return Task(
        order, directives, key=key, origin=origin, created_at=now, duration=seconds * time_scale, id=task_id
    )


def _compute_spread(task_id: str) -> float:
    """Return a number in [0, 1) that belongs to the task."""
    return int.from_bytes(hashlib.sha256(task_id.encode()).digest()[:6]) / 2**48


def find_state(task: Task, now: float) -> str:
    """Return the task's state at a time, in epoch seconds."""
    if now >= task.completes_at:
        return "failed" if task.will_fail else "success"
    if now < task.created_at + PENDING_SHARE * task.duration:
        return "pending"
    return task.directives.state


def make_status(task: Task, now: float, origin: str) -> dict[str, Any]:
    """Return the ``data`` of a status answer, with the page's keys for each state.

    :param now: epoch seconds.
    :param origin: scheme, host and port for the result URLs.
    """
    created, completed = _to_milliseconds(task.created_at), _to_milliseconds(task.completes_at)
    known = {"taskId": task.id, "state": find_state(task, now)}
    if now < task.completes_at:
        return {**known, "createTime": created}
    if task.will_fail:
        return {**known, **_describe_failure(task), "createTime": created, "completeTime": completed}
    result = json.dumps({"resultUrls": make_result_urls(task, origin)}, separators=(",", ":"))
    times = {"createTime": created, "completeTime": completed, "costTime": completed - created}
    return {**known, "resultJson": result, **times}


def make_callback(task: Task) -> dict[str, Any]:
    """Return the whole body that is posted to the callback URL once the task has ended."""
    data = make_status(task, task.completes_at, task.origin)
    code = task.directives.failure_code if task.will_fail else 200
    return {"code": code, "message": "success" if code == 200 else "failed", "data": data}


def make_result_urls(task: Task, origin: str) -> list[str]:
    """Return the public addresses of the images, in order."""
    return [f"{origin}/results/{task.id}/{task.token}/{n}.png" for n in range(1, task.will_deliver + 1)]


def has_expired(task: Task, now: float) -> bool:
    """Tell whether its result URLs are no longer served."""
    return task.directives.expire or now >= task.completes_at + task.order.model.result_lifetime


def _describe_failure(task: Task) -> dict[str, str]:
    code = task.directives.fail or ""
    return {"failCode": code, "failMsg": FAIL_MESSAGES.get(code, "The provider returned a failure")}


def _to_milliseconds(seconds: float) -> int:
    return round(seconds * 1000)
