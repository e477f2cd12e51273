"""Limits the work that strangers can make for one process, which answers them all on one event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from airflow_provider_seedream.daemon_threads import fulfil, start_daemon

T = TypeVar("T")


class Busy(Exception):  # noqa: N818 - an answer, not an error
    """A limit of this process is reached, or the database takes too long: the sender should repeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointLimits:
    """The limits of one process.

    A batch of tasks ends at one moment, so all their callbacks find room to wait.

    :param per_second: requests in a second, in the long run, that have asked the database for nothing: with a
        made-up token, with a body that is none, or once more.
    :param burst: as many at once.
    :param threads: calls to the database that run at the same time; each takes a connection.
    :param retry_threads: as many for tasks that are tried again, beside those for requests.
    :param waiting: calls to the database that wait for a thread.
    :param database_seconds: that a request waits for one call to the database.
    :param bodies: requests whose body is read at the same time.
    :param body_bytes: longest body; a callback of ten images has about 3 kB.
    :param body_seconds: that the sender has for the whole body.
    :param retries: deliveries that wait in memory for their task to be ready.
    """

    per_second: float = 200.0
    burst: int = 400
    threads: int = 6
    retry_threads: int = 2
    waiting: int = 1_000
    database_seconds: float = 10.0
    bodies: int = 1_000
    body_bytes: int = 64 * 1024
    body_seconds: float = 10.0
    retries: int = 1_000


class TokenBucket:
    """A token bucket: so many requests at once, and so many a second in the long run.

    :param clock: seconds, from any start.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._left = float(burst)
        self._at = clock()

    def check(self) -> None:
        """Refuse one more where there were too many.

        :raises Busy: there were.
        """
        self._fill()
        if self._left < 1:
            raise Busy("too many requests in a second that were no callbacks")

    def count(self) -> None:
        """Count one; those that were let in at the same time may be more than there is room for."""
        self._fill()
        self._left = max(0.0, self._left - 1)

    def _fill(self) -> None:
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now


class Capacity:
    """A number of places for what happens at the same time; nobody waits for one."""

    def __init__(self, most: int) -> None:
        self._free = most

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold a place.

        :raises Busy: there is none.
        """
        if not self._free:
            raise Busy("too many requests at the same time")
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


class DatabaseThreads:
    """Runs blocking calls, few at the same time, so that a database that hangs stalls nothing else.

    For one event loop. A call that hangs keeps no process from exiting.

    :param threads: calls that run at the same time.
    :param waiting: calls that wait for a thread.
    :param seconds: that a caller waits, for its turn and for the result.
    """

    def __init__(self, threads: int, waiting: int, seconds: float) -> None:
        self._free = asyncio.Semaphore(threads)
        self._queue = Capacity(waiting)
        self._seconds = seconds

    async def run(self, work: Callable[[], T]) -> T:
        """Run work on a thread, and wait for it.

        Work that has begun is not interrupted when time is up: it keeps its thread until it ends. What has
        not begun never will.

        :raises Busy: at once if too much waits, and when time is up.
        """
        try:
            async with asyncio.timeout(self._seconds):
                await self._wait_for_turn()
                return await self._start(work)
        except TimeoutError:
            raise Busy(f"the database did not answer within {self._seconds:g} s") from None

    async def _wait_for_turn(self) -> None:
        with self._queue.hold() if self._free.locked() else nullcontext():
            await self._free.acquire()

    def _start(self, work: Callable[[], T]) -> asyncio.Future[T]:
        done = Future[T]()
        loop = asyncio.get_running_loop()

        def release(_: object) -> None:
            with suppress(RuntimeError):  # the loop has ended before the work
                loop.call_soon_threadsafe(self._free.release)

        done.add_done_callback(release)
        try:
            start_daemon("seedream-callback", partial(fulfil, done, work))
        except RuntimeError:
            done.cancel()
            raise
        return asyncio.wrap_future(done)
