"""Airflow finds what this provider brings, each thing under a path that can be imported."""

from __future__ import annotations

from importlib.metadata import entry_points
from pkgutil import resolve_name

import pytest

from airflow_provider_seedream import __version__
from airflow_provider_seedream.hooks.seedream import SeedreamHook
from airflow_provider_seedream.provider_info import get_provider_info

INFO = get_provider_info()


def test_airflow_finds_it_through_its_entry_point() -> None:
    (found,) = [one for one in entry_points(group="apache_airflow_provider") if "seedream" in one.value]
    assert found.load()()["package-name"] == "airflow-provider-seedream"


def test_its_version_is_the_packages() -> None:
    assert INFO["versions"] == [__version__]


def test_the_connection_type_leads_to_the_hook() -> None:
    (one,) = INFO["connection-types"]
    assert resolve_name(one["hook-class-name"]) is SeedreamHook
    assert one["connection-type"] == SeedreamHook.conn_type
    assert one["hook-name"] == SeedreamHook.hook_name


@pytest.mark.parametrize("path", INFO["extra-links"])
def test_every_link_can_be_imported(path: str) -> None:
    assert resolve_name(path).__name__ == path.rpartition(".")[2]


def test_the_form_hides_what_means_nothing_to_apixo() -> None:
    behaviour = INFO["connection-types"][0]["ui-field-behaviour"]
    assert behaviour["hidden-fields"] == ["login", "schema", "port"]
    assert behaviour["relabeling"] == {"password": "API key", "host": "Base URL"}
