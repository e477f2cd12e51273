"""Does the only I/O of the API: two thin drivers, sync and async, perform the steps of ``exchange``."""

from __future__ import annotations

import asyncio
import json
import platform
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from airflow_provider_seedream import __version__
from airflow_provider_seedream.apixo.account import SHORTEST_SECRET, Account
from airflow_provider_seedream.apixo.answers import NoAnswer, Reply
from airflow_provider_seedream.apixo.exchange import Exchange, Send, Sleep

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 30.0
MAX_BODY_BYTES = 1024 * 1024

USER_AGENT = (
    f"airflow-provider-seedream/{__version__} httpx/{httpx.__version__} Python/{platform.python_version()}"
)

T = TypeVar("T")


class _AnswerLimitError(Exception):
    """The answer is larger than any answer of the API."""


class ApixoClient:
    """Performs exchanges, blocking the calling thread. A context manager."""

    def __init__(self, account: Account) -> None:
        self._account = account
        # Each request has a connection of its own, which its deadline can cut; and none is sent on one that
        # the server is about to close, which for a submission would look like a lost answer.
        self._http = httpx.Client(
            **_make_client_options(account), limits=httpx.Limits(max_keepalive_connections=0)
        )

    def run(self, exchange: Exchange[T]) -> T:
        """Perform every step of an exchange and return its result."""
        answer: Reply | NoAnswer | None = None
        try:
            while True:
                step = exchange.send(answer)
                answer = self._wait(step) if isinstance(step, Sleep) else self._send(step)
        except StopIteration as finished:
            return finished.value  # type: ignore[no-any-return]

    def _wait(self, step: Sleep) -> Reply | NoAnswer | None:
        time.sleep(step.seconds)
        return None

    def _send(self, step: Send) -> Reply | NoAnswer:
        body, progress = _Body(), _Progress()
        deadline = _Deadline(self._account.request_timeout)

        def trace(event: str, info: Mapping[str, Any]) -> None:
            progress.observe(event, info)
            deadline.observe(event, info)

        try:
            with deadline, self._http.stream(**_make_request_options(self._account, step, trace)) as response:
                for chunk in response.iter_raw():
                    body.add(chunk)
                return body.make_reply(response, self._account)
        except _NO_ANSWER as error:
            return _make_no_answer(error, progress, self._account)

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncApixoClient:
    """Performs exchanges on an event loop. An async context manager.

    :param transport: another HTTP transport; only for exchanges that buy nothing, unless it tells
        undelivered requests from lost answers as httpx's own does.
    """

    def __init__(self, account: Account, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._account = account
        self._http = httpx.AsyncClient(**_make_client_options(account), transport=transport)

    async def run(self, exchange: Exchange[T]) -> T:
        """Perform every step of an exchange and return its result."""
        answer: Reply | NoAnswer | None = None
        try:
            while True:
                step = exchange.send(answer)
                answer = await (self._wait(step) if isinstance(step, Sleep) else self._send(step))
        except StopIteration as finished:
            return finished.value  # type: ignore[no-any-return]

    async def _wait(self, step: Sleep) -> Reply | NoAnswer | None:
        await asyncio.sleep(step.seconds)
        return None

    async def _send(self, step: Send) -> Reply | NoAnswer:
        body, progress = _Body(), _Progress()

        async def trace(event: str, info: Mapping[str, Any]) -> None:
            progress.observe(event, info)

        try:
            async with (
                asyncio.timeout(self._account.request_timeout),
                self._http.stream(**_make_request_options(self._account, step, trace)) as response,
            ):
                async for chunk in response.aiter_raw():
                    body.add(chunk)
                return body.make_reply(response, self._account)
        except _NO_ANSWER as error:
            return _make_no_answer(error, progress, self._account)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


# --- one builder and one reader for both -------------------------------------------------------------


def _make_client_options(account: Account) -> dict[str, Any]:
    """Redirects are never followed, so the key cannot travel to another host."""
    return {
        "headers": {
            "Authorization": f"Bearer {account.api_key}",
            "Accept": "application/json",
            # An answer is a few hundred bytes long.
            "Accept-Encoding": "identity",
            "User-Agent": USER_AGENT,
        },
        # A request ends as a whole at its deadline, which a connect does not know yet.
        "timeout": httpx.Timeout(READ_TIMEOUT, connect=min(CONNECT_TIMEOUT, account.request_timeout)),
        "follow_redirects": False,
        # A proxy of the environment cannot reach the sandbox on this machine.
        "trust_env": not account.is_local,
    }


def _make_request_options(account: Account, step: Send, trace: Callable[..., Any]) -> dict[str, Any]:
    """``trace`` is told of each step of the request; see httpcore's extension of that name."""
    return {
        "method": step.method,
        "url": account.base_url + step.path,
        "json": step.json,
        "extensions": {"trace": trace},
    }


class _Progress:
    """Follows whether anything of a request can have been sent yet.

    A transport that traces nothing leaves that to the kind of error.
    """

    connecting = False

    def observe(self, event: str, info: Mapping[str, Any]) -> None:
        step = event.partition(".")[2]
        if step == "connect_tcp.started":
            self.connecting = True
        elif step == "send_request_headers.started" and info["request"].method != b"CONNECT":
            self.connecting = False


class _Deadline:
    """Bounds a blocking request as ``asyncio.timeout`` does: at the end its connection is cut.

    httpx's own timeouts start anew with every byte. Name lookup, and each address of the host that does
    not answer, are bounded by the resolver and the connect timeout.
    """

    def __init__(self, seconds: float) -> None:
        self._timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), self._end)
        self._timer.daemon = True
        self._connection: socket.socket | None = None
        self._passed = False

    def observe(self, event: str, info: Mapping[str, Any]) -> None:
        if event.endswith("connect_tcp.complete"):
            # The original is taken over by TLS; a duplicate reaches the connection from beginning to end.
            self._connection = info["return_value"].get_extra_info("socket").dup()
            if self._passed:
                self._cut()

    def _end(self) -> None:
        self._passed = True
        self._cut()

    def _cut(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._timer.join()
        if self._connection is not None:
            self._connection.close()
        if self._passed and isinstance(error, Exception | None):
            raise TimeoutError from error


class _Body:
    """Collects an answer's bytes within a bound of size."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, chunk: bytes) -> None:
        self._bytes += chunk
        _check_size(self._bytes)

    def make_reply(self, response: httpx.Response, account: Account) -> Reply:
        headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
        body = _unpack(bytes(self._bytes), headers.get("content-encoding", ""))
        return Reply(response.status_code, headers, _hide_key(body, account.api_key))


def _hide_key(body: bytes, key: str) -> bytes:
    """Hide the key in the body of a server that echoes it: it must not get into errors, events and logs."""
    for form in (key, json.dumps(key)[1:-1], key.replace("/", "\\/")):
        secret = form if len(key) >= SHORTEST_SECRET else f"Bearer {form}"
        body = body.replace(secret.encode(), b"***")
    return body


def _check_size(body: bytes | bytearray) -> None:
    if len(body) > MAX_BODY_BYTES:
        raise _AnswerLimitError(f"the answer is larger than {MAX_BODY_BYTES} bytes")


def _unpack(body: bytes, coding: str) -> bytes:
    """Unpack the body of a server that compresses unasked: what was paid for may be in it."""
    if coding.strip().lower() not in ("gzip", "deflate"):
        return body
    try:
        unpacked = zlib.decompressobj(zlib.MAX_WBITS | 32).decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error:
        return body
    _check_size(unpacked)
    return unpacked


_NO_ANSWER = (httpx.HTTPError, httpx.InvalidURL, TimeoutError, _AnswerLimitError)

_NEVER_DELIVERED = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)

_PLAIN_WORDS: Sequence[tuple[type[Exception], str]] = (
    (httpx.ConnectTimeout, "the host does not answer"),
    (socket.gaierror, "the host's name cannot be looked up"),
    (ConnectionRefusedError, "nothing listens there"),
    (ssl.SSLCertVerificationError, "the host's certificate is not trusted"),
    (ssl.SSLError, "the host speaks no TLS (https)"),
)
"""What lies under a failed connect, for a person; the first that fits."""


def _make_no_answer(error: Exception, progress: _Progress, account: Account) -> NoAnswer:
    """Describe a request that failed; nothing of it is sent before name lookup, connect and TLS are done."""
    words = str(error)
    if isinstance(error, TimeoutError):
        words = f"it did not end within {account.request_timeout:g} s"
    kind = type(error).__name__.lstrip("_")
    technical = f"{kind}: {words}" if words else kind
    reason = _explain_failed_connect(error)
    return NoAnswer(
        delivered=not (progress.connecting or isinstance(error, _NEVER_DELIVERED)),
        detail=f"{reason} ({technical})" if reason else technical,
    )


def _explain_failed_connect(error: Exception) -> str | None:
    """Return why no connection came about, where that is the error."""
    if not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return None
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None:
        # How TLS asks for more bytes is no error of the host.
        if not isinstance(cause, ssl.SSLWantReadError):
            causes.append(cause)
        # httpcore hides the cause, but it stays the context.
        cause = cause.__cause__ or cause.__context__
    return next((words for kind, words in _PLAIN_WORDS if any(isinstance(one, kind) for one in causes)), None)
