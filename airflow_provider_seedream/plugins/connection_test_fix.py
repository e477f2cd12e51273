"""Lets Airflow's *Test* button try a connection that has no port, which Airflow 3.3.1 and 3.3.2 refuse."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING

from airflow_provider_seedream.hooks.connection_form import CONN_TYPE

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BYTES = 64 * 1024
"""Longest body that is corrected; this runs before anybody has logged in, so no longer one is collected."""

_PATH = "/api/v2/connections/test"


class ConnectionTestFix:
    """Says "none" where the button means it, in tests of this provider's connections; an ASGI middleware."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith(_PATH):
            receive = _replay(_correct_messages(await _read_beginning(receive)), receive)
        await self._app(scope, receive, send)


def correct(body: bytes) -> bytes:
    """Correct the body of a test request; what is not about a connection of this provider stays as it is."""
    try:
        fields = json.loads(body)
        if not isinstance(fields, dict) or fields.get("conn_type") != CONN_TYPE:
            return body
        return json.dumps(fields | {name: fields.get(name) or None for name in ("host", "port")}).encode()
    except (ValueError, RecursionError):
        return body


async def _read_beginning(receive: Receive) -> list[Message]:
    """Read the messages of a request up to its end, or until they hold more than ``MAX_BYTES``."""
    messages, size, more = [], 0, True
    while more and size <= MAX_BYTES:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    return messages


def _correct_messages(messages: list[Message]) -> list[Message]:
    """Put one message in the place of these, if they are a whole body; a request may also be cut off."""
    body = b"".join(message.get("body", b"") for message in messages)
    last = messages[-1]
    if len(body) > MAX_BYTES or last["type"] != "http.request" or last.get("more_body"):
        return messages
    return [{"type": "http.request", "body": correct(body), "more_body": False}]


def _replay(messages: list[Message], receive: Receive) -> Receive:
    """Return the ``receive`` of a request of which these messages were read already."""
    waiting = deque(messages)

    async def next_message() -> Message:
        return waiting.popleft() if waiting else await receive()

    return next_message
