"""The *Test* button of Airflow 3.3.1 and 3.3.2 sends port 0 for none; the rest of Airflow is left alone."""

from __future__ import annotations

import json
from collections import deque

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from airflow_provider_seedream.plugins.connection_test_fix import MAX_BYTES, ConnectionTestFix

TEST = "/api/v2/connections/test"
PRESSED = {"conn_type": "seedream", "connection_id": "c", "host": "", "port": 0, "password": "***"}


async def echo(request: Request) -> JSONResponse:
    """What Airflow would get to read."""
    return JSONResponse({"body": (await request.body()).decode("latin-1")})


async def received(path: str, body: bytes, method: str = "POST") -> bytes:
    """What arrives of a body."""
    app = Starlette(routes=[Route("/{path:path}", echo, methods=["POST", "PATCH"])])
    transport = httpx.ASGITransport(app=ConnectionTestFix(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
        answer = await client.request(method, path, content=body)
    text: str = answer.json()["body"]
    return text.encode("latin-1")


def messages(pieces: list[bytes], *, whole: bool = True) -> list[Message]:
    """A request as a server hands it on."""
    sent = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    return [*sent, {"type": "http.request", "more_body": False}] if whole else sent


async def passed_on(sent: list[Message]) -> tuple[list[bytes], int]:
    """The pieces of a body that arrive, and how many messages were collected before the first arrived."""
    left = deque(sent)
    arrived: list[bytes] = []
    collected: list[int] = []

    async def receive() -> Message:
        return left.popleft()

    async def airflow(scope: Scope, receive: Receive, send: Send) -> None:
        collected.append(len(sent) - len(left))
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ConnectionError
            arrived.append(message.get("body", b""))
            more = message["more_body"]

    async def send(message: Message) -> None:
        """Nothing is answered."""

    await ConnectionTestFix(airflow)({"type": "http", "method": "POST", "path": TEST}, receive, send)
    return arrived, collected[0]


class TestAConnectionOfOurs:
    @pytest.mark.parametrize("path", [TEST, f"/airflow{TEST}"])
    async def test_no_port_and_no_host_are_said_as_such(self, path: str) -> None:
        arrived = json.loads(await received(path, json.dumps(PRESSED).encode()))
        assert arrived == PRESSED | {"host": None, "port": None}

    async def test_a_port_and_a_host_stay(self) -> None:
        body = PRESSED | {"host": "https://eu.example.com", "port": 8443}
        assert json.loads(await received(TEST, json.dumps(body).encode())) == body

    async def test_a_body_in_pieces_is_put_together(self) -> None:
        pieces = [bytes([byte]) for byte in json.dumps(PRESSED).encode()]
        arrived, _ = await passed_on(messages(pieces))
        assert json.loads(b"".join(arrived)) == PRESSED | {"host": None, "port": None}


class TestAnybodyMaySendAnything:
    """Nobody has logged in yet."""

    async def test_a_long_body_is_passed_on_before_it_is_there(self) -> None:
        pieces = [bytes([number % 256]) * 8192 for number in range(200)]
        arrived, collected = await passed_on(messages(pieces))
        assert b"".join(arrived) == b"".join(pieces)
        assert collected <= MAX_BYTES // 8192 + 1

    async def test_a_long_body_in_one_piece_stays_as_it_is(self) -> None:
        body = json.dumps(PRESSED | {"extra": "x" * MAX_BYTES}).encode()
        assert await received(TEST, body) == body

    async def test_a_request_that_is_cut_off_is_not_taken_for_whole(self) -> None:
        sent = [*messages([json.dumps(PRESSED).encode()], whole=False), {"type": "http.disconnect"}]
        with pytest.raises(ConnectionError):
            await passed_on(sent)


class TestAllElseIsLeftAlone:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[1]",
            b"\xff\xfe",
            b'{"conn_type": "http", "port": 0}',
            b'{"port":0, "host": ""}',
            b"[" * (MAX_BYTES - 1),
        ],
        ids=["empty", "half", "a list", "no text", "another type", "no type", "deep"],
    )
    async def test_other_bodies(self, body: bytes) -> None:
        assert await received(TEST, body) == body

    @pytest.mark.parametrize(("method", "path"), [("PATCH", TEST), ("POST", "/api/v2/connections")])
    async def test_other_requests(self, method: str, path: str) -> None:
        body = json.dumps(PRESSED).encode()
        assert await received(path, body, method) == body
