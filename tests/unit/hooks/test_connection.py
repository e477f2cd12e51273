"""A connection says where the API is and who asks; what makes no sense is refused by its field."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from airflow.sdk import Connection

from airflow_provider_seedream.errors import ConnectionConfigError
from airflow_provider_seedream.hooks.connection import read_account
from airflow_provider_seedream.hooks.connection_form import EXTRA_FIELDS
from airflow_provider_seedream.hooks.seedream import SeedreamHook


def connection(**fields: object) -> Connection:
    return Connection(**{"conn_id": "c", "conn_type": "seedream", "password": "KEY", **fields})  # type: ignore[arg-type]


class TestDefaults:
    def test_a_key_is_all_that_is_needed(self) -> None:
        account = read_account(connection())
        assert account.base_url == "https://api.apixo.ai/api/v1"
        assert account.price_per_image == Decimal("0.035")
        assert account.provider is None
        assert account.request_timeout == 60

    def test_the_key_is_in_no_representation(self) -> None:
        assert "KEY" not in repr(read_account(connection()))


class TestHost:
    @pytest.mark.parametrize(
        ("fields", "base_url"),
        [
            ({"host": "https://eu.example.com/api/v1/"}, "https://eu.example.com/api/v1"),
            ({"host": "https://eu.example.com"}, "https://eu.example.com/api/v1"),
            ({"host": "eu.example.com"}, "https://eu.example.com/api/v1"),
            ({"host": "eu.example.com", "schema": "v2"}, "https://eu.example.com/v2"),
            ({"host": "http://127.0.0.1:8765/api/v1"}, "http://127.0.0.1:8765/api/v1"),
            ({"host": "127.0.0.1", "port": 8765}, "http://127.0.0.1:8765/api/v1"),
            ({"host": "localhost", "port": 80, "schema": "api/v1"}, "http://localhost:80/api/v1"),
        ],
    )
    def test_every_way_to_write_it(self, fields: dict[str, object], base_url: str) -> None:
        assert read_account(connection(**fields)).base_url == base_url

    @pytest.mark.parametrize(
        ("uri", "base_url"),
        [
            ("seedream://:KEY@", "https://api.apixo.ai/api/v1"),
            ("seedream://:KEY@127.0.0.1:8765/api%2Fv1", "http://127.0.0.1:8765/api/v1"),
            ("seedream://:KEY@https%3A%2F%2Feu.example.com%2Fapi%2Fv1", "https://eu.example.com/api/v1"),
            ("seedream://:KEY@?price_per_image=0.04&provider=value", "https://api.apixo.ai/api/v1"),
        ],
    )
    def test_as_a_connection_uri(self, monkeypatch: pytest.MonkeyPatch, uri: str, base_url: str) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_BY_URI", uri)
        account = SeedreamHook("by_uri").account
        assert (account.base_url, account.api_key) == (base_url, "KEY")

    @pytest.mark.parametrize(
        "host",
        ["ftp://x", "https://", "https://u:p@x", "https://x?key=1", "http://[x", "[x", "https://x:99999"],
    )
    def test_what_is_no_address_is_refused(self, host: str) -> None:
        with pytest.raises(ConnectionConfigError, match="'c'.*host"):
            read_account(connection(host=host))

    def test_the_key_is_never_sent_unencrypted_to_another_machine(self) -> None:
        with pytest.raises(ConnectionConfigError, match="unencrypted"):
            read_account(connection(host="http://eu.example.com/api/v1"))


class TestKey:
    @pytest.mark.parametrize("key", [None, "", "  "])
    def test_none(self, key: str | None) -> None:
        with pytest.raises(ConnectionConfigError, match="no API key.*password"):
            read_account(connection(password=key))

    @pytest.mark.parametrize("key", ["a b", "a\nX-Evil: 1", "schlüssel"])
    def test_one_that_no_header_can_carry_is_refused_and_not_repeated(self, key: str) -> None:
        with pytest.raises(ConnectionConfigError) as caught:
            read_account(connection(password=key))
        assert key not in str(caught.value)

    def test_white_space_around_it_is_forgiven(self) -> None:
        assert read_account(connection(password=" KEY\n")).api_key == "KEY"


class TestExtra:
    def test_its_fields(self) -> None:
        extra = {
            "price_per_image": "0.040",
            "provider": "official",
            "request_timeout": 5,
            "callback_base_url": "https://airflow.example.com",
        }
        account = read_account(connection(extra=json.dumps(extra)))
        assert (account.price_per_image, account.provider, account.request_timeout) == (
            Decimal("0.040"),
            "official",
            5.0,
        )
        assert account.callback_base_url == "https://airflow.example.com"

    @pytest.mark.parametrize(
        ("extra", "names"),
        [
            ("not json", "price_per_image, provider, request_timeout, callback_base_url"),
            ("[1]", "JSON object"),
            ('{"price_per_image": "cheap"}', "price_per_image.*'cheap'"),
            ('{"price_per_image": 0}', "above 0"),
            ('{"price_per_image": true}', "above 0"),
            ('{"request_timeout": -1}', "request_timeout"),
            ('{"provider": "best"}', "auto, value, official"),
            ('{"callback_base_url": 8080}', "callback_base_url is 8080.*text"),
        ],
    )
    def test_what_makes_no_sense_is_refused_by_name(self, extra: str, names: str) -> None:
        with pytest.raises(ConnectionConfigError, match=names):
            read_account(connection(extra=extra))

    def test_an_empty_field_means_the_default(self) -> None:
        for empty in (None, ""):
            extra = json.dumps({field.name: empty for field in EXTRA_FIELDS})
            assert read_account(connection(extra=extra)) == read_account(connection())

    def test_white_space_around_it_is_forgiven(self) -> None:
        extra = json.dumps({"price_per_image": " 0.04 ", "callback_base_url": " https://x.example "})
        account = read_account(connection(extra=extra))
        assert account.price_per_image == Decimal("0.04")
        assert account.callback_base_url == "https://x.example"


class TestNoConnection:
    def test_the_error_names_it_and_says_how_to_add_it(self) -> None:
        with pytest.raises(ConnectionConfigError, match="airflow connections add nobody"):
            _ = SeedreamHook("nobody").account

    async def test_and_so_from_an_event_loop(self) -> None:
        with pytest.raises(ConnectionConfigError, match="nobody"):
            await SeedreamHook("nobody").get_account_async()
