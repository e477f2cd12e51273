"""Lets Airflow's *Test* button try a connection that has no port, which Airflow 3.3.1 and 3.3.2 refuse."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_provider_seedream.hooks.connection_form import CONN_TYPE

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

AFFECTED_VERSIONS = ("3.3.1", "3.3.2")
"""The button sends port 0 for none (3.3.1: also an empty host), and the api-server takes that for another
destination than the stored one: "Bad Request" (apache/airflow issues 72348 and 73298)."""

_PATH = "/api/v2/connections/test"


class PortlessConnectionTests:
    """Says "none" where the button means it, in tests of this provider's connections; an ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith(_PATH):
            receive = _replayed(corrected(await _body(receive)), receive)
        await self._app(scope, receive, send)


def corrected(body: bytes) -> bytes:
    """The body of a test request; what is not about a connection of this provider stays as it is."""
    try:
        fields = json.loads(body)
    except ValueError:
        return body
    if not isinstance(fields, dict) or fields.get("conn_type") != CONN_TYPE:
        return body
    return json.dumps(fields | {name: fields.get(name) or None for name in ("host", "port")}).encode()


async def _body(receive: Receive) -> bytes:
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _replayed(body: bytes, receive: Receive) -> Receive:
    """``receive`` of a request whose body was read already."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return messages.pop() if messages else await receive()

    return next_message
