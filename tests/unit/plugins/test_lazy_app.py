"""An application that is imported with its first request."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp

from airflow_provider_seedream.plugins.lazy_app import LazyApp


class TestAnApplication:
    def test_is_imported_with_its_first_request_and_once(self) -> None:
        loads: list[str] = []

        def load() -> ASGIApp:
            loads.append("loaded")
            return PlainTextResponse("well")

        lazy = TestClient(LazyApp("It", load))
        assert loads == []
        assert [lazy.get("/").text for _ in range(3)] == ["well"] * 3
        assert loads == ["loaded"]


class TestAFaultThatLasts:
    def test_is_said_to_whoever_asks_and_logged_with_its_cause(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def load() -> ASGIApp:
            raise ImportError("a library is missing")

        answer = TestClient(LazyApp("It", load)).get("/")
        assert (answer.status_code, answer.headers["Cache-Control"]) == (503, "no-store")
        assert answer.text == "It could not start; the log of the api-server says why."
        (record,) = caplog.records
        assert record.exc_info is not None
        assert "a library is missing" in caplog.text


class TestAFaultThatPasses:
    def test_is_over_with_one_of_the_next_requests_and_a_flood_imports_nothing(self) -> None:
        now = 0.0
        loads: list[float] = []

        def load() -> ASGIApp:
            loads.append(now)
            if now < 10:
                raise OSError("too many open files")
            return PlainTextResponse("well")

        lazy = TestClient(LazyApp("It", load, lambda: now))
        for answer in lazy.get("/"), lazy.get("/"):
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "5"
        now = 5.0
        assert [lazy.get("/").status_code for _ in range(5)] == [503] * 5
        now = 10.0
        assert [lazy.get("/").text for _ in range(5)] == ["well"] * 5
        assert loads == [0.0, 5.0, 10.0]
