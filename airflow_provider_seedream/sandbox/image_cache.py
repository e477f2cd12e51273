"""The images of tasks: drawn when first asked for, in worker threads, and kept as long as memory allows."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from airflow_provider_seedream.sandbox import directives, drawing
from airflow_provider_seedream.sandbox.drawing import Picture
from airflow_provider_seedream.sandbox.envelope import Refusal
from airflow_provider_seedream.sandbox.tasks import Task

CACHE_BYTES = 256 * 1024**2
WORKERS = 2
"""Images drawn at once; a 4K image takes some 200 MB of memory while it is drawn."""

Key = tuple[str, int]


class Gallery:
    """A cache of drawn images, bounded by bytes; the least recently used ones go first.

    :param capacity: bytes that are kept.
    """

    def __init__(self, capacity: int = CACHE_BYTES) -> None:
        self._capacity = capacity
        self._kept: OrderedDict[Key, bytes] = OrderedDict()
        self._drawing: dict[Key, asyncio.Task[bytes]] = {}
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="sandbox-draw")
        self._drawn = 0
        self._closed = False

    async def image(self, task: Task, number: int) -> bytes:
        """Bytes of one image, numbered from 1; all who ask while it is drawn wait for one drawing.

        :raises Refusal: 503 when the gallery closes meanwhile.
        """
        key = (task.id, number)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        if key not in self._drawing:
            self._drawing[key] = asyncio.create_task(self._draw(key, picture(task, number)))
        try:
            return await asyncio.shield(self._drawing[key])
        except asyncio.CancelledError:
            if not self._closed:
                raise
            raise _closing() from None

    def report(self) -> dict[str, int]:
        """How many images were drawn so far, and how many bytes of them are kept."""
        return {"drawn": self._drawn, "kept_bytes": self._kept_bytes()}

    def clear(self) -> None:
        """Forget all images."""
        self._drawn = 0
        self._kept.clear()

    def close(self) -> None:
        """Draw nothing more; who waits for a drawing that has not begun is refused."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _draw(self, key: Key, subject: Picture) -> bytes:
        try:
            if self._closed:
                raise _closing()
            data = await asyncio.get_running_loop().run_in_executor(self._threads, drawing.draw, subject)
        finally:
            del self._drawing[key]
        self._drawn += 1
        self._keep(key, data)
        return data

    def _keep(self, key: Key, data: bytes) -> None:
        self._kept[key] = data
        while len(self._kept) > 1 and self._kept_bytes() > self._capacity:
            self._kept.popitem(last=False)

    def _kept_bytes(self) -> int:
        return sum(map(len, self._kept.values()))


def _closing() -> Refusal:
    return Refusal(503, "The sandbox is shutting down")


def picture(task: Task, number: int) -> Picture:
    """What the sandbox draws as one image of a task."""
    order = task.order
    width, height = order.size
    notes = [f"image {number} of {task.will_deliver}", f"{width} x {height}", order.mode]
    if order.references:
        notes.append(f"{order.references} reference image{'s' if order.references > 1 else ''}")
    notes += [f"{order.resolution} {order.aspect_ratio or 'free ratio'}", task.id]
    return Picture(
        size=order.size,
        title=directives.without(order.prompt),
        notes=" \u00b7 ".join(notes),
        number=number,
        badge=f"{number}/{task.will_deliver}" if task.will_deliver > 1 else "",
        format="JPEG" if task.directives.jpeg else "PNG",
    )
