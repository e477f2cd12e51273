"""Records the requests that came in, up to a bound: header names only, so that no key is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

REMEMBERED = 10_000
CONTROL = "/sandbox"


class Traffic:
    """The last requests, oldest first."""

    def __init__(self) -> None:
        self._requests: deque[dict[str, Any]] = deque(maxlen=REMEMBERED)

    def record(self, scope: Scope, at: float) -> dict[str, Any]:
        """Record a request at its arrival; ``status`` stays ``None`` unless it is answered.

        :param at: epoch seconds.
        """
        names = [name.decode("latin-1") for name, _ in scope["headers"]]
        request = {
            "method": scope["method"],
            "path": scope["path"],
            "at": at,
            "headers": names,
            "status": None,
        }
        self._requests.append(request)
        return request

    def clear(self) -> None:
        """Forget all requests."""
        self._requests.clear()

    def report(self) -> Sequence[dict[str, Any]]:
        """Return all requests that are remembered, as JSON."""
        return list(self._requests)


class TrafficMiddleware:
    """Records every request but those that steer the sandbox itself."""

    def __init__(self, app: ASGIApp, traffic: Traffic, clock: Callable[[], float]) -> None:
        self._app = app
        self._traffic = traffic
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and record what was answered."""
        if scope["type"] != "http" or scope["path"].startswith(CONTROL):
            await self._app(scope, receive, send)
            return
        request = self._traffic.record(scope, self._clock())

        async def record_status(message: Message) -> None:
            if message["type"] == "http.response.start":
                request["status"] = message["status"]
            await send(message)

        await self._app(scope, receive, record_status)
