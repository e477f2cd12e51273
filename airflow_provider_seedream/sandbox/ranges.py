"""Answers HTTP range requests (RFC 9110, section 14) from bytes in memory, as a pure function."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from starlette.responses import Response

_SINGLE = re.compile(r"bytes=(\d{1,18})?-(\d{1,18})?")


def respond(data: bytes, headers: Mapping[str, str], media_type: str) -> Response:
    """Answer with the whole (200), the part that was asked for (206), or a refusal of a part outside (416).

    Several ranges at once are answered with the whole, as the RFC allows.

    :param headers: the request's headers; ``Range`` and ``If-Range`` are honoured.
    """
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    known = {"accept-ranges": "bytes", "etag": etag}
    wanted = headers.get("range") if headers.get("if-range", etag) == etag else None
    part = _read_part(wanted, len(data))
    if part is None:
        return Response(data, headers=known, media_type=media_type)
    if not part:
        return Response(status_code=416, headers={**known, "content-range": f"bytes */{len(data)}"})
    known["content-range"] = f"bytes {part.start}-{part.stop - 1}/{len(data)}"
    return Response(data[part.start : part.stop], 206, headers=known, media_type=media_type)


def _read_part(wanted: str | None, size: int) -> range | None:
    """Return the offsets of a range: ``None`` where the whole is meant, empty where nothing lies in it."""
    match = _SINGLE.fullmatch(wanted or "")
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if first is None:
        return range(max(0, size - int(last)), size)
    if last is not None and int(last) < int(first):
        return None
    return range(int(first), min(size, int(last) + 1) if last else size)
