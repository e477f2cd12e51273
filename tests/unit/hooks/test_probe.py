"""The Test button: an answer within seconds, and words that name the fault."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from airflow_provider_seedream.apixo.account import Account
from airflow_provider_seedream.hooks.probe import probe
from tests.support.apixo import KEY, Apixo
from tests.support.raw_servers import closed_port, raw_server

UNKNOWN_HOST = "https://api.apixo.invalid/api/v1"


def answer(status: str, body: bytes) -> bytes:
    """An HTTP answer."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body


def try_at(base_url: str, key: str = KEY, **more: Any) -> tuple[bool, str]:
    """Probe an address."""
    return probe(Account(api_key=key, base_url=base_url), **more)


@contextmanager
def silent_host() -> Iterator[str]:
    """Takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/api/v1"


class TestAValidKey:
    def test_the_balance_is_shown(self, apixo: Apixo) -> None:
        assert try_at(apixo.base_url) == (True, "Valid key, 100.00 USD left.")

    def test_it_is_rounded_to_cents(self, apixo: Apixo) -> None:
        apixo.fault("/apikeys", status=200, body={"code": 200, "data": "74.8651"})
        assert try_at(apixo.base_url) == (True, "Valid key, 74.87 USD left.")


class TestTheFaultIsNamed:
    def test_a_wrong_key(self, apixo: Apixo) -> None:
        ok, words = try_at(apixo.base_url, key="invalid")
        assert not ok
        assert words.startswith(f"The API key is not valid, {apixo.base_url} refuses it.")

    def test_a_host_that_does_not_exist(self) -> None:
        ok, words = try_at(UNKNOWN_HOST)
        assert not ok
        assert words.startswith(f"{UNKNOWN_HOST} cannot be reached: the host's name cannot be looked up")

    def test_nothing_that_listens(self) -> None:
        with closed_port() as port:
            ok, words = try_at(f"http://127.0.0.1:{port}/api/v1")
        assert not ok
        assert f"http://127.0.0.1:{port}/api/v1 cannot be reached: nothing listens there" in words

    def test_a_host_that_speaks_no_https(self) -> None:
        with raw_server(b"HTTP/1.1 400 Bad Request\r\n\r\n") as (port, _):
            ok, words = try_at(f"https://127.0.0.1:{port}/api/v1")
        assert not ok
        assert "the host speaks no TLS (https)" in words

    @pytest.mark.parametrize(
        "foreign",
        [
            answer("404 Not Found", b"<html><h1>Not Found</h1></html>"),
            answer("200 OK", b"<!doctype html><title>Welcome</title>"),
            answer("401 Unauthorized", b"who are you?"),
            answer("301 Moved", b""),
        ],
    )
    def test_another_web_site(self, foreign: bytes) -> None:
        with raw_server(foreign) as (port, _):
            ok, words = try_at(f"http://127.0.0.1:{port}/api/v1")
        assert not ok
        assert "answers, but not as APIXO does" in words
        assert "APIXO's own is https://api.apixo.ai/api/v1" in words

    def test_a_path_that_apixo_does_not_have(self, apixo: Apixo) -> None:
        ok, words = try_at(f"{apixo.origin}/api/v2")
        assert not ok
        assert "answers, but not as APIXO does (HTTP 404)" in words

    def test_apixo_itself_being_down(self, apixo: Apixo) -> None:
        apixo.fault("/apikeys", status=503, body={"code": 503, "message": "maintenance", "data": None})
        ok, words = try_at(apixo.base_url)
        assert not ok
        assert "maintenance" in words

    def test_the_key_is_in_no_answer(self, apixo: Apixo) -> None:
        body = {"code": 400, "message": f"bad key {KEY}", "data": None}
        apixo.fault("/apikeys", status=400, body=body)
        assert KEY not in try_at(apixo.base_url)[1]


class TestAPersonWaits:
    def test_one_request_is_all(self, apixo: Apixo) -> None:
        apixo.fault("/apikeys", times=9, status=503, body={"code": 503, "message": "busy", "data": None})
        try_at(apixo.base_url)
        assert len(apixo.requests("/apikeys")) == 1

    def test_not_for_a_host_that_never_answers(self) -> None:
        with silent_host() as base_url:
            ok, words = try_at(base_url, timeout=0.3)
        assert not ok
        assert f"{base_url} cannot be reached" in words
        assert "0.3 s" in words

    def test_nor_for_a_name_whose_lookup_takes_forever(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: found.wait(60))
        started = time.monotonic()
        ok, words = try_at(UNKNOWN_HOST, timeout=0.3)
        waited = time.monotonic() - started
        found.set()
        assert waited < 30
        assert not ok
        assert "no answer within 0.3 s" in words

    def test_a_shorter_timeout_of_the_connection_counts(self) -> None:
        with silent_host() as base_url:
            account = Account(api_key=KEY, base_url=base_url, request_timeout=0.2)
            assert "0.2 s" in probe(account)[1]

    def test_a_proxy_setting_that_makes_no_sense_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTPS_PROXY", "gopher://proxy")
        ok, words = try_at(UNKNOWN_HOST)
        assert not ok
        assert "gopher" in words
