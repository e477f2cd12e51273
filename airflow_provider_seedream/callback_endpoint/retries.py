"""Tries again to resume a task that was not ready for its callback; what a restart loses, polling finds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_seedream.callback_endpoint.standing import ReceiveResult
    from airflow_provider_seedream.callbacks.token import CallbackToken

_PAUSES = (0.05, 0.45, 1.0, 1.5, 2.0, *[5.0] * 11)
"""Seconds before each attempt; longer where it is known when a task can be resumed."""

LONGEST_SECONDS = sum(_PAUSES)
"""A task is tried again for so long once it can be resumed; then the trigger's own polls are left."""

_FURTHEST = 3600.0
"""Longest wait in seconds for an attempt: the time comes from what a task has stored."""


class ResumeRetries:
    """The deliveries that wait, in the memory of this process, for their task to be ready.

    :param resume: resumes whoever has become ready; its errors end nothing.
    :param most: deliveries that wait at the same time; more are left to polling.
    """

    def __init__(self, resume: Callable[[CallbackToken], Awaitable[ReceiveResult | None]], most: int) -> None:
        self._resume = resume
        self._most = most
        self._waiting: dict[str, asyncio.Task[None]] = {}

    def plan(self, token: CallbackToken, at: float) -> bool:
        """Try again at a time; once for each token, however often it is delivered.

        :param at: epoch seconds.
        :returns: true if there was room for it.
        """
        if token.digest in self._waiting:
            return True
        if len(self._waiting) >= self._most:
            return False
        task = asyncio.create_task(self._follow(token, at), name="seedream-callback-retry")
        # The event loop itself keeps no task alive.
        self._waiting[token.digest] = task
        task.add_done_callback(lambda _: self._waiting.pop(token.digest, None))
        return True

    async def _follow(self, token: CallbackToken, at: float) -> None:
        next_at: float | None = at
        for pause in _PAUSES:
            if next_at is None:
                return
            await asyncio.sleep(min(max(pause, next_at - time.time()), _FURTHEST))
            result = await self._resume(token)
            next_at = result.again_at if result else time.time()
