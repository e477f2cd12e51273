"""The callback endpoint on a real socket, with deliveries behind it that are kept in memory."""

from __future__ import annotations

import json
import queue
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_provider_seedream.callback_endpoint.standing import Reason, ReceiveResult, RefusedDelivery
from airflow_provider_seedream.callback_endpoint.token_redaction import TokenRedaction
from airflow_provider_seedream.callbacks.delivery import Delivery
from airflow_provider_seedream.callbacks.token import CallbackToken
from airflow_provider_seedream.sandbox.server import listen
from airflow_provider_seedream.urls import CALLBACK_PATH, TaskAddress

BODY = json.dumps(
    {"code": 200, "message": "success", "data": {"taskId": "task_1", "state": "success"}}
).encode()

REFUSAL = (
    b"HTTP/1.1 404 Not Found\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n"
    b"connection: close\r\ncontent-length: 10\r\ncontent-type: text/plain; charset=utf-8\r\n\r\nnot found\n"
)

ACCEPTED = (
    b"HTTP/1.1 200 OK\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n"
    b"content-length: 9\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\r\naccepted\n"
)

LATER = b"HTTP/1.1 503 Service Unavailable\r\n"

GIGABYTE = 1024**3

Counted = queue.Queue[tuple[str, dict[str, str]]]


def new_token(**task: Any) -> CallbackToken:
    """A token of a task; only the database knows whether it was given out."""
    return CallbackToken.for_purchase(
        TaskAddress(**{"dag_id": "art", "run_id": "r1", "task_id": "draw"} | task)
    )


class FakeDeliveries:
    """Knows one token, and records what it is asked.

    :ivar trouble: raised by whatever is asked.
    :ivar open: cleared, it keeps everybody waiting.
    :ivar resumable: cleared, it keeps those waiting who resume; ``resuming`` says that one has come.
    :ivar seconds: that everything takes.
    :ivar resumes: what the next calls of ``resume`` answer; then there is nothing left to do.
    """

    def __init__(self) -> None:
        self.token = new_token()
        self.result = ReceiveResult(resumed=1)
        self.trouble: Exception | None = None
        self.open = threading.Event()
        self.open.set()
        self.resumable = threading.Event()
        self.resumable.set()
        self.resuming = threading.Event()
        self.seconds = 0.0
        self.resumes: deque[ReceiveResult | Exception] = deque()
        self.resumed = threading.Event()
        self.checks = 0
        self.received: list[Delivery] = []
        self.attempts: list[CallbackToken] = []
        self.most_at_once = 0
        self._inside = 0
        self._lock = threading.Lock()

    def check(self, token: CallbackToken) -> None:
        """As the real one."""
        with self._visit():
            self.checks += 1
            self._refuse_strangers(token)

    def receive(self, token: CallbackToken, delivery: Delivery, now: float) -> ReceiveResult:
        """As the real one."""
        with self._visit():
            self._refuse_strangers(token)
            self.received.append(delivery)
            return self.result

    def resume(self, token: CallbackToken, now: float) -> ReceiveResult:
        """The next of ``resumes``; sets ``resumed`` with the last."""
        with self._visit():
            self.resuming.set()
            assert self.resumable.wait(60)
            self.attempts.append(token)
            answer = self.resumes.popleft()
            if not self.resumes:
                self.resumed.set()
            if isinstance(answer, Exception):
                raise answer
            return answer

    def _refuse_strangers(self, token: CallbackToken) -> None:
        if self.trouble:
            raise self.trouble
        if token != self.token:
            raise RefusedDelivery(Reason.TOKEN)

    @contextmanager
    def _visit(self) -> Iterator[None]:
        with self._lock:
            self._inside += 1
            self.most_at_once = max(self.most_at_once, self._inside)
        try:
            # Longer than a client waits: only a time limit of the endpoint ends a test in time.
            assert self.open.wait(60)
            time.sleep(self.seconds)
            yield
        finally:
            with self._lock:
                self._inside -= 1


class ReadBytes:
    """Counts the bytes of bodies that an application reads."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.total = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def counted() -> Message:
            message = await receive()
            self.total += len(message.get("body", b""))
            return message

        await self._app(scope, counted, send)


class Site:
    """An api-server with the endpoint, and nothing else.

    :param server: answers with this endpoint from now on.
    :param app: the endpoint.
    """

    def __init__(self, server: Server, app: ASGIApp) -> None:
        self.read = ReadBytes(app)
        self._server = server
        host = FastAPI()
        host.mount(CALLBACK_PATH, TokenRedaction(self.read))
        server.app = host

    def connect(self) -> socket.socket:
        """A connection whose reads end with an error after a while, and not never."""
        return socket.create_connection(self._server.address, timeout=30)

    def send(self, request: bytes) -> bytes:
        """What comes back until the connection ends."""
        with self.connect() as connection:
            connection.sendall(request)
            return answer_of(connection)

    def deliver(self, token: CallbackToken, body: bytes = BODY) -> bytes:
        """A callback as the vendor sends it."""
        return self.send(post(token.to_text(), body))


class Server:
    """uvicorn in a thread, with its access log.

    :ivar app: what it serves.
    """

    def __init__(self) -> None:
        self.app: ASGIApp = FastAPI()
        self._listener = listen("127.0.0.1", 0)
        self.address: tuple[str, int] = self._listener.getsockname()
        config = uvicorn.Config(
            self._serve, interface="asgi3", lifespan="off", log_config=None, date_header=False,
            server_header=False, timeout_graceful_shutdown=5,
        )  # fmt: skip
        self._server = uvicorn.Server(config)
        self._ended: Future[None] = Future()

    def __enter__(self) -> Server:
        # Connections wait in the socket until requests are answered.
        threading.Thread(target=self._run, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.should_exit = True
        self._ended.result(30)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)

    def _run(self) -> None:
        try:
            self._server.run([self._listener])
        finally:
            self._ended.set_result(None)


def request(method: str, token: str, body: bytes = b"", *headers: str) -> bytes:
    """The bytes of a request; the connection ends after it."""
    lines = [f"{method} {CALLBACK_PATH}/{token} HTTP/1.1", "Host: airflow", "Connection: close", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def post(token: str, body: bytes = BODY, *headers: str, media_type: str = "application/json") -> bytes:
    """The bytes of a callback."""
    return request(
        "POST", token, body, f"Content-Type: {media_type}", f"Content-Length: {len(body)}", *headers
    )


def answer_of(connection: socket.socket) -> bytes:
    """What comes until the other side ends the connection."""
    answer = b""
    while piece := connection.recv(65536):
        answer += piece
    return answer


def refusal(reason: str) -> tuple[str, dict[str, str]]:
    """What is counted for a refusal."""
    return "seedream.callback.refusals", {"reason": reason}


def changed(**data: Any) -> bytes:
    """A callback's body with other fields of ``data``."""
    return json.dumps({"code": 200, "data": {"taskId": "task_1", "state": "success"} | data}).encode()


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether something that no event tells of comes true within half a minute."""
    return any(holds() or time.sleep(0.05) for _ in range(600))


OpenSite = Callable[..., Site]
