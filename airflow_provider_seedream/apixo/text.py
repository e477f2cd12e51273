"""Makes text from outside fit to be printed, logged and stored."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

_UNFIT = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
"""What JSON can carry, but a database refuses (NUL, lone surrogates) or a terminal obeys."""


def make_printable(value: Any, limit: int | None = None) -> str:
    """Return a decoded JSON value as text, with U+FFFD for every character that is unfit to be stored.

    :param limit: characters that are kept; ``None`` keeps all.
    """
    try:
        text = str(value)
    except (ValueError, RecursionError):
        # A number of thousands of digits, or a list that is nested too deeply.
        text = f"({type(value).__name__})"
    return _UNFIT.sub("\N{REPLACEMENT CHARACTER}", text[:limit])


def hide_secrets(url: str) -> str:
    """Return a URL for logs and errors: no user info, no query (signed URLs carry their secret there)."""
    try:
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return parts._replace(netloc=host, query="..." if parts.query else "", fragment="").geturl()
    except ValueError:
        return "(unreadable URL)"
