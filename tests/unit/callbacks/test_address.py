"""APIXO is told an address that it can reach and that keeps the token to itself, or nothing is bought."""

from __future__ import annotations

import pytest

from airflow_provider_seedream.apixo.account import Account
from airflow_provider_seedream.callbacks.address import find_base_url, make_callback_url
from airflow_provider_seedream.callbacks.token import CallbackToken
from airflow_provider_seedream.errors import InvalidRequestError
from airflow_provider_seedream.urls import TaskAddress

SETTING = "AIRFLOW__SEEDREAM__CALLBACK_BASE_URL"
AIRFLOWS_OWN = "AIRFLOW__API__BASE_URL"
SANDBOX = "http://127.0.0.1:8765/api/v1"


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "")
    monkeypatch.setenv(AIRFLOWS_OWN, "")


def account(callback_base_url: str | None = None, *, sandbox: bool = False) -> Account:
    fields = {"base_url": SANDBOX} if sandbox else {}
    return Account(api_key="KEY", callback_base_url=callback_base_url, **fields)


def base_url(url: str | None, *, sandbox: bool = False) -> str:
    return find_base_url(account(url, sandbox=sandbox), "shop")


def refusal(url: str | None, *, sandbox: bool = False) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        base_url(url, sandbox=sandbox)
    return str(caught.value)


class TestWhereItComesFrom:
    def test_the_connection_goes_before_the_settings(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(AIRFLOWS_OWN, "https://third.example")
        assert base_url(None) == "https://third.example"
        monkeypatch.setenv(SETTING, "https://second.example")
        assert base_url(None) == "https://second.example"
        assert base_url("https://first.example") == "https://first.example"

    @pytest.mark.parametrize("name", [SETTING, AIRFLOWS_OWN])
    def test_an_unusable_one_is_refused_and_not_passed_over(
        self, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv(AIRFLOWS_OWN, "https://third.example")
        monkeypatch.setenv(name, "http://airflow.example.com")
        assert "not https" in refusal(None)

    @pytest.mark.parametrize(
        ("name", "source"),
        [(SETTING, "[seedream] callback_base_url="), (AIRFLOWS_OWN, "[api] base_url=")],
    )
    def test_the_error_names_the_setting(
        self, monkeypatch: pytest.MonkeyPatch, name: str, source: str
    ) -> None:
        monkeypatch.setenv(name, "http://airflow.example.com")
        assert f"{source}http://airflow.example.com: is not https." in refusal(None)

    def test_the_error_names_the_connection(self) -> None:
        assert "callback_base_url of connection 'shop'=" in refusal("http://airflow.example.com")

    def test_none_is_an_error_that_says_what_to_set(self) -> None:
        said = refusal(None)
        assert "[seedream] callback_base_url=(empty): is needed" in said
        assert "docs/callbacks.md says what to open" in said


class TestTheAddress:
    @pytest.mark.parametrize(
        ("url", "base"),
        [
            ("https://airflow.example.com", "https://airflow.example.com"),
            ("https://airflow.example.com/", "https://airflow.example.com"),
            ("https://example.com:8443/airflow/", "https://example.com:8443/airflow"),
            ("https://8.8.8.8", "https://8.8.8.8"),
        ],
    )
    def test_keeps_its_path_and_port_and_loses_its_last_slash(self, url: str, base: str) -> None:
        assert base_url(url) == base

    @pytest.mark.parametrize(
        ("url", "rule"),
        [
            ("http://airflow.example.com", "not https"),
            ("ftp://airflow.example.com", "no web address"),
            ("airflow.example.com", "no web address"),
            ("https://", "no web address"),
            ("https://airflow.example.com:99999", "no readable URL"),
            ("https://[airflow", "no readable URL"),
            ("https://airflow .example.com", "white space"),
            ("https://airflow.example.com/\nx", "white space"),
            ("https://airflow.example.com?", "a query"),
            ("https://airflow.example.com/#", "a fragment"),
            ("http://localhost:8080", "this machine"),
            ("https://[::1]:8080", "this machine"),
            ("https://10.1.2.3", "private address"),
            ("https://[fd00::1]", "private address"),
            ("https://airflow-api-server:8080", "private address"),
        ],
    )
    def test_that_apixo_cannot_reach_or_must_not_call_is_refused(self, url: str, rule: str) -> None:
        assert rule in refusal(url)

    @pytest.mark.parametrize("url", ["https://me:hunter2@x.example", "me:hunter2@x.example"])
    def test_with_a_password_is_refused_and_not_repeated(self, url: str) -> None:
        assert "hunter2" not in refusal(url)

    def test_with_a_secret_in_its_query_is_refused_and_not_repeated(self) -> None:
        assert "hunter2" not in refusal("https://x.example?key=hunter2")


class TestWithTheSandbox:
    @pytest.mark.parametrize(
        "url",
        ["http://127.0.0.1:8080", "http://localhost:8080/airflow", "https://10.1.2.3", "https://airflow"],
    )
    def test_this_machine_and_its_network_can_be_called(self, url: str) -> None:
        assert base_url(url, sandbox=True) == url

    def test_but_without_https_only_this_machine(self) -> None:
        assert "not https" in refusal("http://10.1.2.3", sandbox=True)


class TestTheWholeAddress:
    def test_ends_in_a_token_that_names_the_task(self) -> None:
        token = CallbackToken.for_purchase(
            TaskAddress("a dag/ä", "manual__2026-11-22T09:00:00+00:00", "t.x", 3)
        )
        url = make_callback_url("https://example.com/airflow", token)
        prefix, _, last = url.rpartition("/")
        assert prefix == "https://example.com/airflow/seedream/callback"
        assert CallbackToken.from_text(last) == token
        assert url.isascii()
