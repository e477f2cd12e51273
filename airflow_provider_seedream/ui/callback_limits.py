"""How much work strangers can make for one process, which answers them all on one event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


class Busy(Exception):  # noqa: N818 - an answer, not an error
    """A limit of this process is reached, or the database takes too long: the sender should repeat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one process.

    :param per_second: requests with a readable token in a second, in the long run.
    :param burst: as many at once.
    :param threads: calls of the desk that run at the same time; each takes a connection to the database.
    :param waiting: calls of the desk that wait for a thread.
    :param desk_seconds: that a request waits for one call of the desk.
    :param bodies: requests whose body is read at the same time.
    :param body_bytes: longest body; a callback of ten images has about 3 kB.
    :param body_seconds: that the sender has for the whole body.
    :param later: deliveries that wait in memory for their task to be ready.
    """

    per_second: float = 200.0
    burst: int = 400
    threads: int = 8
    waiting: int = 100
    desk_seconds: float = 10.0
    bodies: int = 64
    body_bytes: int = 64 * 1024
    body_seconds: float = 10.0
    later: int = 1_000


class Rate:
    """A token bucket.

    :param clock: seconds, from any start.
    """

    def __init__(self, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = burst
        self._clock = clock
        self._left = float(burst)
        self._at = clock()

    def take(self) -> None:
        """Let one through.

        :raises Busy: there were too many.
        """
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            raise Busy("too many requests in a second")
        self._left -= 1


class Places:
    """So many may do something at the same time; nobody waits for a place."""

    def __init__(self, most: int) -> None:
        self._free = most

    @contextmanager
    def one(self) -> Iterator[None]:
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


class DeskThreads:
    """Runs blocking calls, few at the same time, so that a database that hangs stalls nothing else."""

    def __init__(self, threads: int, waiting: int, seconds: float) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="seedream-callback")
        self._room = threading.BoundedSemaphore(threads + waiting)
        self._seconds = seconds

    async def run(self, work: Callable[[], T]) -> T:
        """Have work done by a thread, and wait for it.

        Work that has begun is not interrupted when time is up: it keeps its thread until it ends. What has
        not begun never will.

        :raises Busy: at once if too much waits, and when time is up.
        """
        if not self._room.acquire(blocking=False):
            raise Busy("too many calls wait for the database")
        try:
            future = self._pool.submit(work)
        except RuntimeError:  # the system gives this process no more threads
            self._room.release()
            raise
        future.add_done_callback(lambda _: self._room.release())
        try:
            async with asyncio.timeout(self._seconds):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise Busy(f"the database did not answer within {self._seconds:g} s") from None
