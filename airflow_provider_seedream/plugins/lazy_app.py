"""Imports an application with its first request."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

log = logging.getLogger(__name__)

RELOAD_SECONDS = 5
"""Pause until an application that could not start is tried again."""


class LazyApp:
    """An application that is imported with the first request: no other process needs it, and a fault in it
    costs its own pages, not the api-server. What may pass, such as a full disk, does not last.

    :param name: what it is, for the log and for whoever asks for a page while it cannot start.
    :param load: imports and makes it.
    :param clock: seconds, from any start.
    """

    def __init__(
        self, name: str, load: Callable[[], ASGIApp], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name = name
        self._load = load
        self._clock = clock
        self._app: ASGIApp | None = None
        self._load_at = float("-inf")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if self._app is None and self._clock() >= self._load_at:
            self._try_to_load()
        await (self._app or self._make_fallback())(scope, receive, send)

    def _try_to_load(self) -> None:
        try:
            self._app = self._load()
        except Exception:
            self._load_at = self._clock() + RELOAD_SECONDS
            log.exception("%s cannot start; the rest of Airflow is not affected", self._name)

    def _make_fallback(self) -> ASGIApp:
        from starlette.responses import PlainTextResponse

        return PlainTextResponse(
            f"{self._name} could not start; the log of the api-server says why.",
            status_code=503,
            headers={
                "Cache-Control": "no-store",
                "Retry-After": str(RELOAD_SECONDS),
                "X-Content-Type-Options": "nosniff",
            },
        )
