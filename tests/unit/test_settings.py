"""The settings are read when they are needed, and a wrong one is refused before money is spent."""

from __future__ import annotations

import pytest

from airflow_provider_seedream.provider_info import get_provider_info
from airflow_provider_seedream.settings import (
    CALLBACK_BASE_URL,
    DEFAULT_MIN_DEFERRAL_SECONDS,
    MIN_DEFERRAL_SECONDS,
    SECTION,
    read_callback_base_url,
    read_min_deferral_seconds,
)

SETTING = "AIRFLOW__SEEDREAM__MIN_DEFERRAL_SECONDS"


def test_a_deferral_lasts_the_default_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING, raising=False)
    assert read_min_deferral_seconds() == DEFAULT_MIN_DEFERRAL_SECONDS == 12
    monkeypatch.setenv(SETTING, "2.5")
    assert read_min_deferral_seconds() == 2.5


def test_a_deferral_of_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTING, "soon")
    with pytest.raises(Exception, match="min_deferral_seconds"):
        read_min_deferral_seconds()


def test_the_address_for_callbacks_is_empty_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__SEEDREAM__CALLBACK_BASE_URL", raising=False)
    assert read_callback_base_url() == ""
    monkeypatch.setenv("AIRFLOW__SEEDREAM__CALLBACK_BASE_URL", "https://airflow.example.com")
    assert read_callback_base_url() == "https://airflow.example.com"


def test_airflow_is_told_of_every_setting_and_its_default() -> None:
    options = get_provider_info()["config"][SECTION]["options"]
    assert options.keys() == {MIN_DEFERRAL_SECONDS, CALLBACK_BASE_URL}
    assert float(options[MIN_DEFERRAL_SECONDS]["default"]) == DEFAULT_MIN_DEFERRAL_SECONDS
