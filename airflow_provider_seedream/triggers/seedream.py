"""Polls submitted tasks until they end; never submits, downloads or blocks the event loop."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_seedream.advice import describe_task_left, describe_wait_ended
from airflow_provider_seedream.apixo.backoff import MIN_PAUSE, compute_backoff
from airflow_provider_seedream.apixo.model import DEFAULT_MODEL, Pace
from airflow_provider_seedream.apixo.verdict import Verdict
from airflow_provider_seedream.apixo.watch import Watch
from airflow_provider_seedream.errors import ConnectionConfigError, Kind, SeedreamError
from airflow_provider_seedream.hooks.connection_form import DEFAULT_CONN_ID
from airflow_provider_seedream.hooks.seedream import SeedreamHook

CONNECTION_LOOKUPS = 4
"""Lookups of the connection before the wait ends with an error."""

LAST_POLL_SECONDS = 20
"""Seconds that :meth:`SeedreamTaskTrigger.on_kill` may take; Airflow allows it 30."""


class SeedreamTaskTrigger(BaseTrigger):
    """Watches one or many tasks and sends one event when all have ended.

    Its arguments are ids and numbers only: Airflow stores them as plain JSON, and the key stays in the
    connection. It is safe to run twice at once and to start anew, since it only polls.

    :param seedream_task_ids: taskIds of the API, all of one model.
    :param first_poll: seconds from the tasks' creation to the first poll.
    :param interval_low: shortest time between two polls, in seconds.
    :param interval_high: longest time between two polls, in seconds.
    :param created_at: epoch seconds of the tasks' creation; ``None`` where it is not known.
    :param deadline: epoch seconds at which the wait ends.
    :param not_before: epoch seconds before which no event is sent, because Airflow's scheduler fails a
        task that resumes before it has seen the task defer.
    :param awaits_callback: whether a callback is expected, which ends the deferral in place of this
        trigger's event.
    :param newer: arguments that only a later release knows: after a rollback, what that one stored must
        still be waited for.
    """

    def __init__(
        self,
        *,
        seedream_task_ids: Sequence[str],
        deadline: float,
        first_poll: float,
        interval_low: float,
        interval_high: float,
        created_at: float | None = None,
        not_before: float = 0.0,
        model: str = DEFAULT_MODEL,
        seedream_conn_id: str = DEFAULT_CONN_ID,
        awaits_callback: bool = False,
        **newer: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seedream_task_ids = list(seedream_task_ids)
        self.deadline = deadline
        self.pace = Pace(first_poll, interval_low, interval_high)
        self.created_at = created_at
        self.not_before = not_before
        self.model = model
        self.seedream_conn_id = seedream_conn_id
        self.awaits_callback = awaits_callback
        self._ignored = sorted(newer)

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that make this trigger again."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "seedream_task_ids": self.seedream_task_ids,
                "deadline": self.deadline,
                "first_poll": self.pace.first_poll,
                "interval_low": self.pace.interval_low,
                "interval_high": self.pace.interval_high,
                "created_at": self.created_at,
                "not_before": self.not_before,
                "model": self.model,
                "seedream_conn_id": self.seedream_conn_id,
                "awaits_callback": self.awaits_callback,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event: ``{"verdicts": [...]}``, one :class:`Verdict` in JSON per task."""
        if self._ignored:
            self.log.warning("Ignoring what only a later release knows: %s", ", ".join(self._ignored))
        try:
            verdicts = await self._watch()
        except Exception as error:  # noqa: BLE001 - a trigger that raises leaves a traceback instead of a reason
            verdicts = [self._make_error_verdict(task_id, error) for task_id in self.seedream_task_ids]
        await asyncio.sleep(max(0.0, self.not_before - time.time()))
        yield TriggerEvent({"verdicts": [verdict.to_json() for verdict in verdicts]})  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """Say what becomes of the tasks that nobody waits for any more; they cannot be cancelled.

        Airflow (3.3+) calls this when a user marks or clears the deferred task, but also when the task was
        resumed by another way than this trigger's event, so nothing is concluded here and nothing undone.
        Where that may have been a callback, nothing is polled either: the worker is just about to do so.
        """
        if self.awaits_callback:
            for task_id in self.seedream_task_ids:
                self.log.info("%s", describe_wait_ended(task_id))
            return
        for words in await asyncio.gather(*map(self._describe_what_remains, self.seedream_task_ids)):
            self.log.warning("The wait was ended from outside. %s", words)

    async def _describe_what_remains(self, task_id: str) -> str:
        try:
            async with asyncio.timeout(LAST_POLL_SECONDS):
                watch = await self._poll_once(task_id)
        except Exception as error:  # noqa: BLE001 - the log must name the task, whatever keeps us from polling
            return describe_task_left(task_id, None, f"{type(error).__name__}: {error}")
        return describe_task_left(task_id, watch.status, str(watch.last_error))

    async def _poll_once(self, task_id: str) -> Watch:
        hook = SeedreamHook(self.seedream_conn_id)
        # A watch whose deadline is over polls exactly once.
        watch = hook.start_watch(task_id, self.pace, created_at=None, deadline=0.0)
        await hook.watch_async([watch], self.model, report=self.log.debug)
        return watch

    async def _watch(self) -> list[Verdict]:
        hook = await self._connect()
        watches = [
            hook.start_watch(task_id, self.pace, created_at=self.created_at, deadline=self.deadline)
            for task_id in self.seedream_task_ids
        ]
        await hook.watch_async(watches, self.model, report=self.log.info)
        return [Verdict.of(watch) for watch in watches]

    async def _connect(self) -> SeedreamHook:
        """Return a hook whose connection has been read; a lookup may fail while the database is busy."""
        hook = SeedreamHook(self.seedream_conn_id)
        for attempt in range(1, CONNECTION_LOOKUPS):
            try:
                await hook.get_account_async()
                return hook
            except ConnectionConfigError as error:
                if not error.retryable:
                    raise
                pause = compute_backoff(attempt, random.uniform, floor=MIN_PAUSE)
                self.log.info("Attempt %d of %d failed: %s", attempt, CONNECTION_LOOKUPS, error)
                await asyncio.sleep(pause)
        await hook.get_account_async()
        return hook

    def _make_error_verdict(self, task_id: str, error: Exception) -> Verdict:
        kind = error.cause.kind if isinstance(error, SeedreamError) else Kind.UNKNOWN
        return Verdict.from_problem(
            task_id, f"{type(error).__name__}: {error}", deadline=self.deadline, kind=kind
        )
