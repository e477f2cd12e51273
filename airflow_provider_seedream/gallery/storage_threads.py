"""Runs blocking reads for async routes: on threads of their own, few for each store, within a time limit."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from airflow_provider_seedream.daemon_threads import fulfil, start_daemon
from airflow_provider_seedream.gallery.verified_images import ImageError, name_store

T = TypeVar("T")

DEFAULT_SECONDS = 10.0


@dataclass(slots=True, eq=False)
class _Job(Generic[T]):
    work: Callable[[], T]
    seconds: float
    future: Future[T] = field(default_factory=Future)
    started: float = 0.0

    @property
    def is_stuck(self) -> bool:
        return time.monotonic() - self.started > self.seconds

    def run(self) -> None:
        fulfil(self.future, self.work)


@dataclass(slots=True)
class _Lane:
    """The jobs of one store; each that runs has a thread."""

    running: set[_Job[Any]] = field(default_factory=set)
    waiting: deque[_Job[Any]] = field(default_factory=deque)

    @property
    def is_stuck(self) -> bool:
        return all(job.is_stuck for job in self.running)


class StorageThreads:
    """Runs blocking work so that a store that hangs stalls neither the event loop nor other stores.

    May be used from several threads and event loops. A thread that hangs keeps no process from exiting.

    :param threads: most threads for one store.
    :param waiting: most jobs that wait for one store.
    :param stores: most stores that are read at the same time, without those that are stuck.
    :param stuck: most stores that may be stuck; with more, no further store is read. So there are never more
        threads than ``threads * (stores + stuck)``.
    :param seconds: time limit of a request that names none.
    """

    def __init__(
        self,
        *,
        threads: int = 4,
        waiting: int = 64,
        stores: int = 8,
        stuck: int = 32,
        seconds: float = DEFAULT_SECONDS,
    ) -> None:
        self._threads = threads
        self._waiting = waiting
        self._stores = stores
        self._stuck = stuck
        self._seconds = seconds
        self._lanes: dict[str, _Lane] = {}
        self._lock = threading.Lock()

    async def run(self, path: str, work: Callable[[], T], seconds: float | None = None) -> T:
        """Run work on a thread, and wait for it.

        :param path: where the work reads; decides which store's threads do it.
        :param seconds: time limit, the wait for a thread included; by default that of the constructor. Work
            that has begun is not interrupted: it goes on as a stuck job, and its result is lost.
        :raises ImageError: 503 at once if the store is stuck or too much waits for it, 504 when time is up.
        """
        return await self.wait(self.submit(path, work, seconds), seconds)

    async def wait(self, future: Future[T], seconds: float | None = None) -> T:
        """Wait for the result of a future, which is cancelled if its waiter goes away before it has begun.

        :raises ImageError: 504 when time is up.
        """
        limit = self._choose_limit(seconds)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), limit)
        except TimeoutError:
            text = f"The storage did not answer within {limit:g} s. Try again in a while."
            raise ImageError(504, text) from None

    def submit(self, path: str, work: Callable[[], T], seconds: float | None = None) -> Future[T]:
        """Run work on a thread, without waiting.

        :param seconds: after which the work counts as stuck, from when it begins.
        :raises ImageError: 503, see :meth:`run`.
        """
        store, job = name_store(path), _Job(work, self._choose_limit(seconds))
        with self._lock:
            lane = self._find_lane(store)
            if len(lane.running) < self._threads:
                self._start(store, lane, job)
            elif len(lane.waiting) < self._waiting:
                lane.waiting.append(job)
            else:
                raise ImageError(503, f"Too many requests wait for {store}. Try again in a while.")
        return job.future

    def check(self, path: str) -> None:
        """Refuse to wait for a store whose threads are all stuck.

        :raises ImageError: 503.
        """
        with self._lock:
            self._find_lane(name_store(path))

    def _choose_limit(self, seconds: float | None) -> float:
        return self._seconds if seconds is None else seconds

    def _find_lane(self, store: str) -> _Lane:
        lane = self._lanes.get(store)
        if lane is None:
            self._check_room()
            return _Lane()
        if len(lane.running) == self._threads and lane.is_stuck:
            raise ImageError(503, f"The storage {store} does not answer. Try again in a while.")
        return lane

    def _check_room(self) -> None:
        """Refuse one store more where there are too many; those that hang have a number of their own."""
        stuck = sum(lane.is_stuck for lane in self._lanes.values())
        if stuck >= self._stuck:
            raise ImageError(503, "Too many storages do not answer. Try again in a while.")
        if len(self._lanes) - stuck >= self._stores:
            raise ImageError(503, "Too many storages are read at the same time. Try again in a while.")

    def _start(self, store: str, lane: _Lane, job: _Job[Any]) -> None:
        start_daemon(f"seedream-storage-{store}", partial(self._work, store, lane, job))
        self._mark_running(lane, job)
        self._lanes[store] = lane

    def _mark_running(self, lane: _Lane, job: _Job[Any]) -> None:
        job.started = time.monotonic()
        lane.running.add(job)

    def _work(self, store: str, lane: _Lane, job: _Job[Any] | None) -> None:
        while job:
            job.run()
            job = self._take_next(store, lane, job)

    def _take_next(self, store: str, lane: _Lane, done: _Job[Any]) -> _Job[Any] | None:
        with self._lock:
            lane.running.remove(done)
            if lane.waiting:
                job = lane.waiting.popleft()
                self._mark_running(lane, job)
                return job
            if not lane.running:
                del self._lanes[store]
            return None
