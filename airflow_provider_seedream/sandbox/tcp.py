"""Hands the TCP connection under a request to the application, for answers that break off."""

from __future__ import annotations

import asyncio
import contextlib
from typing import cast

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

_EXTENSION = "sandbox.connection"


class CuttableProtocol(H11Protocol):
    """uvicorn's own HTTP protocol; it also hands the connection to the application."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Offer the connection in the scope of every request that comes over it."""
        super().connection_made(cast(asyncio.Transport, transport))
        app = self.app

        async def with_connection(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "extensions": {_EXTENSION: transport}}, receive, send)

        self.app = with_connection


async def cut(scope: Scope, receive: Receive) -> None:
    """End the connection after what was sent so far, and return when it is gone.

    :raises RuntimeError: under any other server than the sandbox's.
    """
    transport: asyncio.Transport | None = scope.get("extensions", {}).get(_EXTENSION)
    if transport is None:
        raise RuntimeError("Connections can be cut only under the sandbox's own server")
    transport.close()
    await wait_until_gone(receive)


async def wait_until_gone(receive: Receive) -> None:
    """Return when the client is no longer connected."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def linger(seconds: float, receive: Receive) -> None:
    """Wait, but not for a client that has gone."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wait_until_gone(receive)
