"""Work that hangs until a test lets it go on."""

from __future__ import annotations

import asyncio
import threading

LONG = 60.0
"""Seconds after which a test fails that waits for what does not come."""


class Gate:
    """Work that hangs until the gate opens; it counts who came."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.came = threading.Semaphore(0)
        self.most = 0
        self._inside = 0
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            self._inside += 1
            self.most = max(self.most, self._inside)
        self.came.release()
        assert self.open.wait(LONG)
        with self._lock:
            self._inside -= 1
        return "at last"

    async def has_seen(self, visitors: int) -> None:
        """Wait until so many have come."""
        for _ in range(visitors):
            assert await asyncio.to_thread(self.came.acquire, timeout=LONG)
