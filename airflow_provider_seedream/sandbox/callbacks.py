"""Delivers finished tasks to callback URLs, and repeats what is not answered."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cached_property
from typing import Any

import httpx

from airflow_provider_seedream.sandbox import tasks
from airflow_provider_seedream.sandbox.ledger import LedgerEntry

REPEAT_DELAYS = (30, 60, 120)
"""Seconds before each repeat, before the time scale. The vendor names the first; they grow."""

ANSWER_SECONDS = 30
SHORTEST_ANSWER_SECONDS = 2
"""A scaled answer time never goes below this, since the endpoint runs in real time."""


class Courier:
    """Posts each finished task to its callback URL until it is answered with 200, or given up.

    :param clock: epoch seconds.
    :param time_scale: factor on all delays.
    """

    def __init__(self, clock: Callable[[], float], time_scale: float) -> None:
        self._clock = clock
        self._time_scale = time_scale
        self._deliveries: set[asyncio.Task[None]] = set()

    def schedule(self, entry: LedgerEntry, url: str) -> None:
        """Deliver when the task ends, as its directives say; attempts are recorded on the entry."""
        delivery = asyncio.create_task(self._deliver_when_due(entry, url))
        self._deliveries.add(delivery)
        delivery.add_done_callback(self._deliveries.discard)

    def clear(self) -> None:
        """Deliver nothing more of what is scheduled."""
        for delivery in self._deliveries:
            delivery.cancel()

    async def deliver_once(self, entry: LedgerEntry, url: str) -> dict[str, Any]:
        """Deliver now, once, and return what is recorded: ``at``, and ``status`` of the answer."""
        delivery = {"at": self._clock(), "status": await self._post(url, entry.task)}
        entry.callbacks.append(delivery)
        return delivery

    async def _deliver_when_due(self, entry: LedgerEntry, url: str) -> None:
        steering = entry.task.directives
        due = entry.task.completes_at + steering.callback_after * self._time_scale
        while (left := due - self._clock()) > 0:  # noqa: ASYNC110 - a timer may be early
            await asyncio.sleep(left)
        await asyncio.gather(*(self._deliver_with_retries(entry, url) for _ in range(steering.deliveries)))

    async def _deliver_with_retries(self, entry: LedgerEntry, url: str) -> None:
        """Deliver until it is answered with 200, or given up."""
        for delay in (0, *REPEAT_DELAYS):
            await asyncio.sleep(delay * self._time_scale)
            if (await self.deliver_once(entry, url))["status"] == 200:
                return

    async def _post(self, url: str, task: tasks.Task) -> int | None:
        """Return the status of the answer, ``None`` where none came in time."""
        try:
            async with asyncio.timeout(max(SHORTEST_ANSWER_SECONDS, ANSWER_SECONDS * self._time_scale)):
                async with self._client.stream("POST", url, json=tasks.make_callback(task)) as response:
                    return response.status_code
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError):
            return None

    @cached_property
    def _client(self) -> httpx.AsyncClient:
        """The client, made at the first delivery; it follows no redirect and asks no proxy."""
        return httpx.AsyncClient(timeout=None, follow_redirects=False, trust_env=False)  # noqa: S113
