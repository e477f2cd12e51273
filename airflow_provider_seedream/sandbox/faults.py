"""Makes faults on demand: refusals, delays, broken connections and damaged bytes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_seedream.sandbox import tcp
from airflow_provider_seedream.sandbox.envelope import RefusedCall, find_message

ROUTES = ("/generateTask", "/statusTask", "/apikeys", "/results")
API = "/api/v1"
CORRUPTED_BYTES = 16

ALLOWED = (
    f'Allowed: {{"path": the start of a path, without {API}: one of {", ".join(ROUTES)}; "times": 1 or more; '
    '"every": 1 or more; "method": "GET", "POST" or "HEAD"; "action": {"status": 200-599 with "headers" and '
    '"body"; '
    '"drop": "before" or "after"; "delay": seconds; "truncate": bytes; "corrupt": true}}'
)

_HeaderText = Annotated[str, Field(pattern=r"^[\x20-\x7e]*$")]
_HeaderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")]


class Action(BaseModel):
    """The harm that is done to an answer, or the answer in its place.

    :param status: answer with this status in place of the API; the request has no effect.
    :param headers: headers of that answer.
    :param body: its body: an object or list as JSON, text as it stands; without one, an error envelope.
    :param drop: cut the connection ``before`` the request has effect, or ``after``, without an answer.
    :param delay: seconds between the effect of the request and its answer.
    :param truncate: bytes of the answer's body that are sent before the connection is cut.
    :param corrupt: damage some bytes in the middle of the answer's body.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    status: int | None = Field(default=None, ge=200, le=599)
    headers: dict[_HeaderName, _HeaderText] = {}
    body: dict[str, Any] | list[Any] | str | None = None
    drop: Literal["before", "after"] | None = None
    delay: float = Field(default=0, ge=0, le=3600)
    truncate: int | None = Field(default=None, ge=0)
    corrupt: bool = False

    @model_validator(mode="after")
    def _check_sense(self) -> Self:
        answers = self.status is not None or self.truncate is not None or self.corrupt
        if not (answers or self.drop or self.delay):
            raise ValueError("an action needs one of status, drop, delay, truncate, corrupt")
        if self.drop and answers:
            raise ValueError("drop sends no answer, so it goes with no status, truncate or corrupt")
        if self.status is None and (self.headers or self.body is not None):
            raise ValueError("headers and body need a status")
        return self


class Fault(BaseModel):
    """An action on requests under a path, of one method or all.

    :param times: how often it is applied before it is used up.
    :param every: of the requests that it could be applied to, it takes each ``every``-th and lets the others
        pass.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    path: str
    times: int = Field(default=1, ge=1)
    every: int = Field(default=1, ge=1)
    method: Literal["GET", "POST", "HEAD"] | None = None
    action: Action

    _offered: int = PrivateAttr(default=0)

    @model_validator(mode="after")
    def _check_path(self) -> Self:
        if not self.path.startswith(ROUTES):
            raise ValueError(f"path {self.path[:60]!a} matches no request")
        return self

    def matches(self, method: str, path: str) -> bool:
        """Tell whether it applies to a request."""
        return path.startswith(self.path) and self.method in (None, method)

    def offer(self, method: str, path: str) -> bool:
        """Count a request that reaches it, and tell whether it is applied to that one."""
        if not self.matches(method, path):
            return False
        self._offered += 1
        if self._offered % self.every:
            return False
        self.times -= 1
        return True


def read_fault(raw: bytes) -> Fault:
    """Read a fault from a request body.

    :raises RefusedCall: 400, with what is wrong and what is allowed.
    """
    try:
        return Fault.model_validate_json(raw)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'body'}: {e['msg']}" for e in error.errors())
        raise RefusedCall(400, f"Bad fault: {wrong}. {ALLOWED}") from None


class Faults:
    """The faults that are switched on, in the order in which they came."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Switch a fault on."""
        self._faults.append(fault)

    def clear(self) -> None:
        """Switch all faults off."""
        self._faults.clear()

    def report(self) -> Sequence[dict[str, Any]]:
        """Return the faults that are on, with the times that are left, as JSON."""
        return [fault.model_dump(exclude_defaults=True) | {"times": fault.times} for fault in self._faults]

    def take(self, method: str, path: str) -> Action | None:
        """Return the action for a request, if there is one.

        The oldest fault comes first; a request that it lets pass is offered to the next one.
        """
        for fault in self._faults:
            if fault.offer(method, path):
                if not fault.times:
                    self._faults.remove(fault)
                return fault.action
        return None


class FaultMiddleware:
    """Applies the faults to the requests."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, with its fault if it has one."""
        action = None
        if scope["type"] == "http":
            action = self._faults.take(scope["method"], scope["path"].removeprefix(API))
        if action is None:
            await self._app(scope, receive, send)
        elif action.drop == "before":
            await tcp.linger(action.delay, receive)
            await tcp.cut(scope, receive)
        else:
            await self._spoil(action, scope, receive, send)

    async def _spoil(self, action: Action, scope: Scope, receive: Receive, send: Send) -> None:
        answer = _Answer()
        if action.status is None:
            await self._app(scope, receive, answer.record)
        else:
            answer.make_up(action.status, action.headers, action.body)
        if action.delay:
            await tcp.linger(action.delay, receive)
        if action.corrupt:
            answer.body = corrupt(answer.body)
        if not action.drop:
            await answer.deliver(send, action.truncate)
        if action.drop or answer.is_cut_by(action.truncate):
            await tcp.cut(scope, receive)


class _Answer:
    """A whole answer, held back."""

    def __init__(self) -> None:
        self.start: Message = {}
        self.body = b""

    async def record(self, message: Message) -> None:
        """Keep a message in place of sending it."""
        if message["type"] == "http.response.start":
            self.start = message
        else:
            self.body += message.get("body", b"")

    def make_up(self, status: int, headers: dict[str, str], body: Any) -> None:
        """Make an answer that the API did not give."""
        self.body, kind = _make_content(status, body)
        names = {"content-type": kind, "content-length": str(len(self.body))}
        names |= {name.lower(): value for name, value in headers.items()}
        encoded = [(name.encode(), value.encode()) for name, value in names.items()]
        self.start = {"type": "http.response.start", "status": status, "headers": encoded}

    def is_cut_by(self, limit: int | None) -> bool:
        """Tell whether a limit in bytes leaves a part of the body unsent."""
        return limit is not None and limit < len(self.body)

    async def deliver(self, send: Send, limit: int | None) -> None:
        """Send it, or the first ``limit`` bytes of its body under the headers of the whole."""
        await send(self.start)
        cut = self.is_cut_by(limit)
        await send({"type": "http.response.body", "body": self.body[:limit], "more_body": cut})


def corrupt(body: bytes) -> bytes:
    """Return the body with some bytes in its middle inverted; its length stays."""
    start = max(0, len(body) // 2 - CORRUPTED_BYTES // 2)
    damaged = bytes(byte ^ 0xFF for byte in body[start : start + CORRUPTED_BYTES])
    return body[:start] + damaged + body[start + len(damaged) :]


def _make_content(status: int, body: Any) -> tuple[bytes, str]:
    """Return bytes and content type of a made-up body."""
    if status in (204, 304):
        return b"", "application/json"
    if isinstance(body, str):
        return body.encode(errors="replace"), "text/html" if body.lstrip().startswith("<") else "text/plain"
    if body is None:
        body = {"code": status, "message": find_message(status), "data": {"error": "Fault of the sandbox"}}
    return json.dumps(body).encode(), "application/json"
