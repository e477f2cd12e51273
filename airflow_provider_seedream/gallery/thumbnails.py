"""Makes thumbnails, once each, and keeps them within bounds."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import IO, TYPE_CHECKING

from cachetools import LRUCache

from airflow_provider_seedream.gallery.storage_threads import StorageThreads
from airflow_provider_seedream.gallery.verified_images import ImageError
from airflow_provider_seedream.storage.inspection import MAX_PIXELS, decoding, open_image

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 480
"""Longest side in pixels."""

QUALITY = 80

MOST_PIXELS = MAX_PIXELS // 4
"""The largest size of the vendor's table. Pillow takes up to 16 bytes a pixel (WebP): 256 MiB at most."""

CACHE_BYTES = 32 * 2**20

Key = tuple[str, str]
"""Path of the image, and its SHA-256."""

_AVERAGED = ("L", "LA", "RGB", "RGBA", "CMYK")
"""Pillow's modes of 8 bits a channel; of others it picks single pixels, or cannot make a WebP."""


def make_thumbnail(file: IO[bytes]) -> bytes:
    """Make a WebP of at most 480 pixels a side, upright, without metadata; transparency is kept.

    :param file: a PNG, JPEG or WebP; stays open.
    :raises ImageError: 422, it cannot be decoded or claims too many pixels.
    """
    try:
        with decoding, open_image(file) as image:
            _check_pixels(image)
            return _encode_webp(_shrink(image))
    except ImageError:
        raise
    except Exception:  # noqa: BLE001 - on hostile bytes Pillow raises nearly every kind
        raise ImageError(422, "The file is no whole image, or one of too many pixels.") from None


def _check_pixels(image: Image) -> None:
    if image.width * image.height > MOST_PIXELS:
        text = f"{image.width}x{image.height} pixels are too many for a thumbnail. Open the image itself."
        raise ImageError(422, text)


def _shrink(image: Image) -> Image:
    from PIL import ImageOps

    image = _convert_to_8_bits(image)
    image.thumbnail((SIDE, SIDE))
    return ImageOps.exif_transpose(image)


def _convert_to_8_bits(image: Image) -> Image:
    if image.mode in _AVERAGED:
        return image
    if image.mode.startswith("I"):
        return image.convert("I").point(lambda value: value / 256).convert("L")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _encode_webp(image: Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "WEBP", quality=QUALITY)
    return out.getvalue()


class Thumbnails:
    """Thumbnails by path and hash; may be used from several threads and event loops.

    :param threads: do the work.
    :param max_bytes: the longest unused ones are forgotten beyond this.
    """

    def __init__(self, threads: StorageThreads, max_bytes: int = CACHE_BYTES) -> None:
        self._threads = threads
        self._made: LRUCache[Key, bytes] = LRUCache(max_bytes, getsizeof=len)
        self._making: dict[Key, Future[bytes]] = {}
        # Reentrant: a future that is done already calls back at once.
        self._lock = threading.RLock()

    async def get(self, key: Key, make: Callable[[], bytes], seconds: float | None = None) -> bytes:
        """Return the thumbnail of a key; whoever asks for one that is being made waits for the same work.

        What is made too late for its request is kept for the next.

        :param make: makes it; blocks. It must make sure that the image has the path and hash of the key.
        :param seconds: time limit; by default that of the threads.
        :raises ImageError: what ``make`` raises, and what :meth:`StorageThreads.run` does.
        """
        with self._lock:
            if (made := self._made.get(key)) is not None:
                return made
            self._threads.check(key[0])
            ticket = _make_ticket(self._making.get(key) or self._begin(key, make))
        return await self._threads.wait(ticket, seconds)

    def _begin(self, key: Key, make: Callable[[], bytes]) -> Future[bytes]:
        job = self._making[key] = self._threads.submit(key[0], make)
        job.add_done_callback(partial(self._keep, key))
        return job

    def _keep(self, key: Key, job: Future[bytes]) -> None:
        with self._lock:
            del self._making[key]
            if job.exception() is None:
                self._made[key] = job.result()


def _make_ticket(job: Future[bytes]) -> Future[bytes]:
    """Make a future of the same result, which one of several waiters can give up without the others."""
    ticket: Future[bytes] = Future()

    def deliver(done: Future[bytes]) -> None:
        if not ticket.set_running_or_notify_cancel():
            return
        if error := done.exception():
            ticket.set_exception(error)
        else:
            ticket.set_result(done.result())

    job.add_done_callback(deliver)
    return ticket
