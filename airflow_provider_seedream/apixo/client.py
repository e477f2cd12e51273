"""The only I/O of the API: two thin drivers, sync and async, that perform the steps of ``exchange``."""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from airflow_provider_seedream import __version__
from airflow_provider_seedream.apixo.account import Account
from airflow_provider_seedream.apixo.exchange import Fault, Reply, Send, Sleep, Steps

CONNECT_TIMEOUT = 10.0
READ_TIMEOUT = 30.0
MAX_BODY_BYTES = 1024 * 1024

USER_AGENT = (
    f"airflow-provider-seedream/{__version__} httpx/{httpx.__version__} Python/{platform.python_version()}"
)

T = TypeVar("T")


class _AnswerLimitError(Exception):
    """The answer is larger or slower than any answer of the API."""


class ApixoClient:
    """Performs exchanges, blocking the calling thread. A context manager."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._http = httpx.Client(**_client_options(account))

    def run(self, steps: Steps[T]) -> T:
        """Perform every step of an exchange and return its result."""
        answer: Reply | Fault | None = None
        try:
            while True:
                step = steps.send(answer)
                answer = self._wait(step) if isinstance(step, Sleep) else self._send(step)
        except StopIteration as finished:
            return finished.value  # type: ignore[no-any-return]

    def _wait(self, step: Sleep) -> Reply | Fault | None:
        time.sleep(step.seconds)
        return None

    def _send(self, step: Send) -> Reply | Fault:
        body = _Body(self._account)
        try:
            with self._http.stream(**_request_options(self._account, step)) as response:
                for chunk in response.iter_bytes():
                    body.add(chunk)
                return body.reply(response)
        except (httpx.HTTPError, httpx.InvalidURL, _AnswerLimitError) as error:
            return _fault(error)

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
        self._http = httpx.AsyncClient(**_client_options(account), transport=transport)

    async def run(self, steps: Steps[T]) -> T:
        """Perform every step of an exchange and return its result."""
        answer: Reply | Fault | None = None
        try:
            while True:
                step = steps.send(answer)
                answer = await (self._wait(step) if isinstance(step, Sleep) else self._send(step))
        except StopIteration as finished:
            return finished.value  # type: ignore[no-any-return]

    async def _wait(self, step: Sleep) -> Reply | Fault | None:
        await asyncio.sleep(step.seconds)
        return None

    async def _send(self, step: Send) -> Reply | Fault:
        body = _Body(self._account)
        try:
            async with (
                asyncio.timeout(self._account.request_timeout),
                self._http.stream(**_request_options(self._account, step)) as response,
            ):
                async for chunk in response.aiter_bytes():
                    body.add(chunk)
                return body.reply(response)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, _AnswerLimitError) as error:
            return _fault(error)

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


def _client_options(account: Account) -> dict[str, Any]:
    """Redirects are never followed, so the key cannot travel to another host."""
    total = account.request_timeout
    return {
        "headers": {
            "Authorization": f"Bearer {account.api_key}",
            "Accept": "application/json",
            "User-Agent": USER_AGENT,
        },
        "timeout": httpx.Timeout(min(READ_TIMEOUT, total), connect=min(CONNECT_TIMEOUT, total)),
        "follow_redirects": False,
        # A proxy of the environment cannot reach the sandbox on this machine.
        "trust_env": not account.is_local,
    }


def _request_options(account: Account, step: Send) -> dict[str, Any]:
    return {"method": step.method, "url": account.base_url + step.path, "json": step.json}


class _Body:
    """Collects an answer's bytes within a bound of size and time."""

    def __init__(self, account: Account) -> None:
        self._deadline = time.monotonic() + account.request_timeout
        self._header = f"Bearer {account.api_key}".encode()
        self._bytes = bytearray()

    def add(self, chunk: bytes) -> None:
        self._bytes += chunk
        if len(self._bytes) > MAX_BODY_BYTES:
            raise _AnswerLimitError(f"the answer is larger than {MAX_BODY_BYTES} bytes")
        if time.monotonic() > self._deadline:
            raise _AnswerLimitError("the answer did not end within the request timeout")

    def reply(self, response: httpx.Response) -> Reply:
        headers: Mapping[str, str] = {name.lower(): value for name, value in response.headers.items()}
        # A server that echoes the header must not carry the key into errors and logs.
        return Reply(response.status_code, headers, bytes(self._bytes).replace(self._header, b"Bearer ***"))


_NEVER_DELIVERED = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)


def _fault(error: Exception) -> Fault:
    """Name lookup, connect and TLS failures happen before a byte of the request is sent."""
    detail = f"{type(error).__name__.lstrip('_')}: {error}" if str(error) else type(error).__name__
    return Fault(delivered=not isinstance(error, _NEVER_DELIVERED), detail=detail)
