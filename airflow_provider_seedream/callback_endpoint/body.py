"""Reads a body that anybody may have sent, and no more of it than a callback can have."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

from airflow_provider_seedream.callbacks.delivery import Delivery

if TYPE_CHECKING:
    from starlette.types import Receive

_JSON = b"application/json"


class NotADelivery(Exception):  # noqa: N818 - an answer, not an error
    """A body that is no callback."""


def check_headers(headers: Iterable[tuple[bytes, bytes]], most: int) -> None:
    """Check what is announced, before any of it is read.

    :param most: bytes.
    :raises NotADelivery: the body is not said to be JSON, or to be too long.
    """
    values: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        values.setdefault(name, []).append(value)
    media_types = [value.partition(b";")[0].strip().lower() for value in values.get(b"content-type", [])]
    # It may be missing: a body can come in chunks.
    lengths = values.get(b"content-length", [b"0"])
    if media_types != [_JSON] or len(lengths) > 1 or not _is_at_most(lengths[0], most):
        raise NotADelivery


def _is_at_most(digits: bytes, most: int) -> bool:
    # Python reads no number of more than 4300 digits.
    return digits.isdigit() and len(digits) <= 20 and int(digits) <= most


async def read_delivery(receive: Receive, *, most: int, seconds: float) -> Delivery:
    """Read a body to its end.

    :param most: bytes.
    :param seconds: for all of it.
    :raises NotADelivery: it is too long, too slow or cut off, or says nothing of a task.
    """
    try:
        async with asyncio.timeout(seconds):
            body = await _read(receive, most)
    except TimeoutError:
        raise NotADelivery from None
    delivery = Delivery.from_body(body)
    if delivery is None:
        raise NotADelivery
    return delivery


async def _read(receive: Receive, most: int) -> bytes:
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise NotADelivery  # the sender is gone
        body += message.get("body", b"")
        if len(body) > most:
            raise NotADelivery
        more = message.get("more_body", False)
    return bytes(body)
