"""Adds the headers that say what a browser may do with the gallery's answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGE_POLICY = "; ".join(
    (
        "default-src 'none'",
        "img-src 'self'",
        "style-src 'self'",
        "script-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        # Airflow shows the pages inside its own.
        "frame-ancestors 'self'",
        "base-uri 'none'",
    )
)

FILE_POLICY = "default-src 'none'; sandbox"
"""For the bytes of images: whatever they are, nothing in them runs."""

_HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # A browser may keep an answer, and must ask before each use: the right to see it may be gone.
    "Cache-Control": "private, no-cache",
}


class SecurityHeaders:
    """Adds the headers to every answer, errors included; it must lie around all else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_with_headers)
