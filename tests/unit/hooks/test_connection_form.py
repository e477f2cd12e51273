"""The form of a connection tells what its fields mean, and offers only what the hook takes."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from airflow.sdk import Connection

from airflow_provider_seedream.hooks.connection import read_account
from airflow_provider_seedream.hooks.connection_form import make_conn_fields
from airflow_provider_seedream.hooks.seedream import SeedreamHook


class TestForm:
    def test_it_tells_what_an_empty_field_means(self) -> None:
        helps = {name: field["description"] for name, field in make_conn_fields().items()}
        assert helps["price_per_image"].endswith("; 0.035 when empty.")
        assert helps["provider"].endswith("; the key's own when empty.")
        assert helps["request_timeout"].endswith("; 60 when empty.")
        assert helps["callback_base_url"].endswith("; Airflow's own settings when empty.")

    def test_airflow_3_1_is_given_the_same_fields(self, monkeypatch: pytest.MonkeyPatch) -> None:
        double = SimpleNamespace(StringField=lambda label, **more: (label, more["description"]))
        validators = SimpleNamespace(Optional=lambda: None, any_of=lambda values: values)
        monkeypatch.setitem(sys.modules, "wtforms", double)
        monkeypatch.setitem(sys.modules, "wtforms.validators", validators)
        fields = make_conn_fields()
        assert SeedreamHook.get_connection_form_widgets() == {
            name: (field["label"], field["description"]) for name, field in fields.items()
        }

    def test_the_routing_is_a_choice_of_what_the_hook_takes(self) -> None:
        for choice in make_conn_fields()["provider"]["schema"]["enum"]:
            assert (
                read_account(Connection(conn_id="c", password="KEY", extra={"provider": choice})).provider
                == choice
            )
