"""Takes the token out of a callback's address before anything can log it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_provider_seedream.urls import CALLBACK_PATH

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

TOKEN_KEY = "seedream_token"  # noqa: S105 - the name of a place, no secret
"""Where the application finds, in its own copy of the scope, what stood behind the mount point; it is text
from anybody."""

_HIDDEN = "***"


class TokenRedaction:
    """An ASGI wrapper; it must lie around all else that is mounted at ``CALLBACK_PATH``.

    Access logs, Airflow's own and uvicorn's, read the path after the application has answered, from the
    dictionary that they have handed down. So that one is changed, and the application gets a copy.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        token = take_token(scope)
        await self._app({**scope, TOKEN_KEY: token}, receive, send)


def take_token(scope: Scope) -> str:
    """Replace what follows the mount point in a request's address; returns what was there."""
    # Not by root_path, which starts with a base path that a proxy may have cut off the path.
    before, _, token = f"{scope['path']}/".partition(f"{CALLBACK_PATH}/")
    scope["path"] = f"{before}{CALLBACK_PATH}/{_HIDDEN}"
    # Encoded differently, it may hold the mount point in another spelling.
    scope["raw_path"] = scope["path"].encode("ascii", "replace")
    if scope.get("query_string"):
        scope["query_string"] = _HIDDEN.encode()
    return str(token[:-1])
