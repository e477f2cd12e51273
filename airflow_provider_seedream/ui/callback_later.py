"""Tries again to resume a task that was not ready for its callback; what a restart loses, polling finds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_seedream.callbacks.token import CallbackToken
    from airflow_provider_seedream.ui.callback_desk import Receipt

LONGEST_SECONDS = 60.0
"""After a delivery, in which its task is tried again; then the trigger's own looks are left."""

_PAUSES = (0.05, 0.5, 1.0, 2.0, 3.0, 5.0)


class LaterResumes:
    """Deliveries that wait in the memory of this process.

    :param resume: resumes whoever has become ready; its errors end nothing.
    :param most: deliveries that wait at the same time; more are left to polling.
    """

    def __init__(self, resume: Callable[[CallbackToken], Awaitable[Receipt | None]], most: int) -> None:
        self._resume = resume
        self._most = most
        self._waiting: dict[str, asyncio.Task[None]] = {}

    def plan(self, token: CallbackToken, at: float | None) -> None:
        """Try again at a time; once for each token, however often it is delivered.

        :param at: epoch seconds; ``None`` if there is nothing left to do.
        """
        if at is None or token.digest in self._waiting or len(self._waiting) >= self._most:
            return
        task = asyncio.create_task(self._follow(token, at), name="seedream-callback-later")
        # The event loop itself keeps no task alive.
        self._waiting[token.digest] = task
        task.add_done_callback(lambda _: self._waiting.pop(token.digest, None))

    async def _follow(self, token: CallbackToken, at: float) -> None:
        until = time.time() + LONGEST_SECONDS
        attempt = 0
        next_at: float | None = at
        while next_at is not None and next_at < until:
            await asyncio.sleep(pause(attempt, next_at, time.time()))
            receipt = await self._resume(token)
            attempt += 1
            next_at = time.time() if receipt is None else receipt.again_at


def pause(attempt: int, at: float, now: float) -> float:
    """Seconds until a task is tried again: until it is ready, where that is known, and ever longer.

    :param attempt: from 0.
    :param at: epoch seconds at which it is worth trying.
    :param now: epoch seconds.
    """
    return max(at - now, _PAUSES[min(attempt, len(_PAUSES) - 1)])
