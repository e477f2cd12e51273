"""Keeps the images of tasks: drawn when first asked for, in worker threads, kept as long as memory allows."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from cachetools import LRUCache

from airflow_provider_seedream.sandbox.directives import remove_directives
from airflow_provider_seedream.sandbox.drawing import Drawing, draw
from airflow_provider_seedream.sandbox.envelope import RefusedCall
from airflow_provider_seedream.sandbox.tasks import Task

CACHE_BYTES = 256 * 1024**2
WORKERS = 2
"""Images drawn at once; a 4K image takes some 200 MB of memory while it is drawn."""

Key = tuple[str, int]


class ImageCache:
    """A cache of drawn images, bounded by bytes; the least recently used ones go first.

    :param capacity: bytes that are kept; no image may be longer.
    """

    def __init__(self, capacity: int = CACHE_BYTES) -> None:
        self._kept: LRUCache[Key, bytes] = LRUCache(capacity, getsizeof=len)
        self._drawing: dict[Key, asyncio.Task[bytes]] = {}
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="sandbox-draw")
        self._drawn = 0
        self._closed = False

    async def get_image(self, task: Task, number: int) -> bytes:
        """Return the bytes of one image, numbered from 1; all who ask while it is drawn wait for one drawing.

        :raises RefusedCall: 503 when the cache closes meanwhile.
        """
        key = (task.id, number)
        if key in self._kept:
            return self._kept[key]
        if key not in self._drawing:
            self._drawing[key] = asyncio.create_task(self._draw(key, plan_drawing(task, number)))
        try:
            return await asyncio.shield(self._drawing[key])
        except asyncio.CancelledError:
            if not self._closed:
                raise
            raise _refuse_as_closing() from None

    def report(self) -> dict[str, int]:
        """Return the number of images that were drawn so far, and the bytes of them that are kept."""
        return {"drawn": self._drawn, "kept_bytes": int(self._kept.currsize)}

    def clear(self) -> None:
        """Forget all images."""
        self._drawn = 0
        self._kept.clear()

    def close(self) -> None:
        """Draw nothing more; who waits for a drawing that has not begun is refused."""
        self._closed = True
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _draw(self, key: Key, drawing: Drawing) -> bytes:
        try:
            if self._closed:
                raise _refuse_as_closing()
            data = await asyncio.get_running_loop().run_in_executor(self._threads, draw, drawing)
        finally:
            del self._drawing[key]
        self._drawn += 1
        self._kept[key] = data
        return data


def _refuse_as_closing() -> RefusedCall:
    return RefusedCall(503, "The sandbox is shutting down")


def plan_drawing(task: Task, number: int) -> Drawing:
    """Return what the sandbox draws as one image of a task."""
    order = task.order
    width, height = order.size
    notes = [f"image {number} of {task.will_deliver}", f"{width} x {height}", order.mode]
    if order.references:
        notes.append(f"{order.references} reference image{'s' if order.references > 1 else ''}")
    notes += [f"{order.resolution} {order.aspect_ratio or 'free ratio'}", task.id]
    return Drawing(
        size=order.size,
        title=remove_directives(order.prompt),
        notes=" \u00b7 ".join(notes),
        number=number,
        badge=f"{number}/{task.will_deliver}" if task.will_deliver > 1 else "",
        format="JPEG" if task.directives.jpeg else "PNG",
    )
