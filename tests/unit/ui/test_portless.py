"""The *Test* button of Airflow 3.3.1 and 3.3.2 sends port 0 for none; the rest of Airflow is left alone."""

from __future__ import annotations

import json

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from airflow_provider_seedream.ui.portless import PortlessConnectionTests

TEST = "/api/v2/connections/test"
PRESSED = {"conn_type": "seedream", "connection_id": "c", "host": "", "port": 0, "password": "***"}


async def echo(request: Request) -> JSONResponse:
    """What Airflow would get to read."""
    return JSONResponse({"body": (await request.body()).decode("latin-1")})


async def received(path: str, body: bytes, method: str = "POST") -> bytes:
    """What arrives of a body."""
    app = Starlette(routes=[Route("/{path:path}", echo, methods=["POST", "PATCH"])])
    transport = httpx.ASGITransport(app=PortlessConnectionTests(app))
    async with httpx.AsyncClient(transport=transport, base_url="http://airflow") as client:
        answer = await client.request(method, path, content=body)
    text: str = answer.json()["body"]
    return text.encode("latin-1")


class TestAConnectionOfOurs:
    @pytest.mark.parametrize("path", [TEST, f"/airflow{TEST}"])
    async def test_no_port_and_no_host_are_said_as_such(self, path: str) -> None:
        arrived = json.loads(await received(path, json.dumps(PRESSED).encode()))
        assert arrived == PRESSED | {"host": None, "port": None}

    async def test_a_port_and_a_host_stay(self) -> None:
        body = PRESSED | {"host": "https://eu.example.com", "port": 8443}
        assert json.loads(await received(TEST, json.dumps(body).encode())) == body

    async def test_a_long_body_arrives_whole(self) -> None:
        body = PRESSED | {"extra": "x" * 300_000}
        arrived = json.loads(await received(TEST, json.dumps(body).encode()))
        assert arrived["extra"] == body["extra"]


class TestAllElseIsLeftAlone:
    @pytest.mark.parametrize(
        "body",
        [b"", b"{", b"[1]", b"\xff\xfe", b'{"conn_type": "http", "port": 0}', b'{"port":0, "host": ""}'],
    )
    async def test_other_bodies(self, body: bytes) -> None:
        assert await received(TEST, body) == body

    @pytest.mark.parametrize(("method", "path"), [("PATCH", TEST), ("POST", "/api/v2/connections")])
    async def test_other_requests(self, method: str, path: str) -> None:
        body = json.dumps(PRESSED).encode()
        assert await received(path, body, method) == body
