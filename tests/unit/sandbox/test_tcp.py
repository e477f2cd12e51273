"""Waiting for a client that may go, and cutting its connection."""

from __future__ import annotations

import asyncio
import time

import pytest
from starlette.types import Message

from airflow_provider_seedream.sandbox.tcp import cut, linger


class Client:
    """The receiving side of a request whose client goes at some time, or stays."""

    def __init__(self, *, goes_after: float | None) -> None:
        self._goes_after = goes_after
        self._has_sent = False

    async def receive(self) -> Message:
        if not self._has_sent:
            self._has_sent = True
            return {"type": "http.request", "body": b"{}", "more_body": False}
        await asyncio.sleep(30 if self._goes_after is None else self._goes_after)
        return {"type": "http.disconnect"}


class TestAnAnswerIsHeldBack:
    async def test_for_the_time_that_was_asked_for(self) -> None:
        start = time.monotonic()
        await linger(0.1, Client(goes_after=None).receive)
        assert 0.1 <= time.monotonic() - start < 5

    async def test_not_for_a_client_that_has_gone(self) -> None:
        start = time.monotonic()
        await linger(20, Client(goes_after=0.01).receive)
        assert time.monotonic() - start < 5


async def test_another_server_says_that_it_cannot_cut() -> None:
    with pytest.raises(RuntimeError, match="only under the sandbox's own server"):
        await cut({"type": "http"}, Client(goes_after=0).receive)
