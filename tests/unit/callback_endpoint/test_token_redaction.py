"""No log ever has a token."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.types import Scope
from structlog.testing import capture_logs

from airflow_provider_seedream.callback_endpoint.app import CallbackApp
from airflow_provider_seedream.callback_endpoint.token_redaction import TOKEN_KEY, TokenRedaction, take_token
from airflow_provider_seedream.urls import CALLBACK_PATH
from tests.unit.callback_endpoint.callback_site import (
    FakeDeliveries,
    Server,
    Site,
    eventually,
    new_token,
    post,
)

HIDDEN = f"{CALLBACK_PATH}/***"


@pytest.fixture
def access_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.LogCaptureFixture]:
    """Everything that is logged, also uvicorn's access log, which Airflow may have switched off before."""
    caplog.set_level(logging.DEBUG)
    logger = logging.getLogger("uvicorn.access")
    caplog.set_level(logging.INFO, logger.name)
    monkeypatch.setattr(logger, "disabled", False)
    monkeypatch.setattr(logger, "propagate", False)
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


class TestTheTokenIsTaken:
    @pytest.mark.parametrize(
        ("path", "token", "left"),
        [
            ("/seedream/callback/a.b", "a.b", "/seedream/callback/***"),
            ("/airflow/seedream/callback/a.b", "a.b", "/airflow/seedream/callback/***"),
            ("/seedream/callback/", "", "/seedream/callback/***"),
            ("/seedream/callback", "", "/seedream/callback/***"),
            ("/seedream/callback/a/b/", "a/b/", "/seedream/callback/***"),
            (
                "/seedream/callback/x/seedream/callback/a.b",
                "x/seedream/callback/a.b",
                "/seedream/callback/***",
            ),
        ],
    )
    def test_from_the_path_in_every_form_that_a_log_reads(self, path: str, token: str, left: str) -> None:
        scope: Scope = {"path": path, "raw_path": path.encode(), "query_string": b""}
        assert take_token(scope) == token
        assert scope == {"path": left, "raw_path": left.encode(), "query_string": b""}

    def test_and_what_stands_in_the_query_with_it(self) -> None:
        scope: Scope = {"path": "/seedream/callback/", "raw_path": b"", "query_string": b"token=a.b"}
        assert take_token(scope) == ""
        assert scope["query_string"] == b"***"

    def test_and_only_the_application_finds_it(self) -> None:
        seen: list[Scope] = []

        async def app(scope: Scope, receive: Any, send: Any) -> None:
            seen.append(scope)

        scope: Scope = {"path": "/seedream/callback/a.b"}
        asyncio.run(TokenRedaction(app)(scope, None, None))  # type: ignore[arg-type]
        assert seen[0][TOKEN_KEY] == "a.b"
        assert TOKEN_KEY not in scope


class TestATokenIsNeverLogged:
    """In uvicorn's access log, and in the lines of our own."""

    @pytest.mark.parametrize("trouble", [None, RuntimeError("x {}")], ids=["well", "in trouble"])
    @pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS"])
    def test_whatever_becomes_of_the_request(
        self,
        site: Site,
        deliveries: FakeDeliveries,
        access_log: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
        method: str,
        trouble: Exception | None,
    ) -> None:
        right, wrong = deliveries.token, new_token()
        deliveries.trouble = trouble and RuntimeError(f"for {right.to_text()}, {right!r}, {wrong.to_text()}")
        for text in right.to_text(), wrong.to_text(), f"malformed-{right.nonce}", f"x?a={wrong.nonce}":
            site.send(post(text).replace(b"POST", method.encode(), 1))
        lines = [line for line in access_log.messages if f'"{method} /seedream/callback/%2A%2A%2A' in line]
        assert len(lines) == 4
        assert right.nonce not in access_log.text + "".join(capfd.readouterr())


@pytest.fixture
def inside_airflow(
    airflow_database: None, server: Server, deliveries: FakeDeliveries, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """Airflow's own api-server with the plugin, and its own access log; only the deliveries is ours."""
    from airflow.api_fastapi.app import create_app as create_airflow
    from airflow.api_fastapi.app import purge_cached_app

    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "s" * 64)
    for name in "check", "receive":
        monkeypatch.setattr(
            f"airflow_provider_seedream.callback_endpoint.deliveries.{name}", getattr(deliveries, name)
        )
    purge_cached_app()
    site = Site(server, CallbackApp(deliveries))
    server.app = create_airflow("core")
    yield site
    purge_cached_app()


class TestInsideAirflow:
    @pytest.mark.parametrize("trouble", [None, RuntimeError("no database")], ids=["well", "in trouble"])
    def test_no_access_log_has_a_token_and_no_page_of_airflow_answers(
        self,
        inside_airflow: Site,
        deliveries: FakeDeliveries,
        caplog: pytest.LogCaptureFixture,
        trouble: Exception | None,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        deliveries.trouble = trouble
        right, wrong = deliveries.token, new_token()
        texts = right.to_text(), wrong.to_text(), f"malformed-{right.nonce}", f"x?token={wrong.nonce}"
        with capture_logs() as written:
            answers = [
                inside_airflow.send(post(text).replace(b"POST", method, 1))
                for method in (b"POST", b"GET", b"OPTIONS")
                for text in texts
            ]
            # Airflow writes its line after the answer.
            assert eventually(lambda: len([one for one in written if one.get("path") == HIDDEN]) == 12)
        assert right.nonce not in caplog.text + str(written)
        assert wrong.nonce not in caplog.text + str(written)
        known = 503 if trouble else 200
        statuses = [int(answer.split()[1]) for answer in answers]
        assert statuses == [known, 503 if trouble else 404] + [404] * 10
