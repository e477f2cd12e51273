"""An account keeps its key to itself and knows a sandbox by its address."""

from __future__ import annotations

import pytest

from airflow_provider_seedream.apixo.account import Account


def test_the_key_is_in_no_representation() -> None:
    assert "sk-live" not in repr(Account(api_key="sk-live-12345"))


@pytest.mark.parametrize(
    ("base_url", "local"),
    [
        ("https://api.apixo.ai/api/v1", False),
        ("http://127.0.0.1:8765/api/v1", True),
        ("http://localhost:8765/api/v1", True),
        ("http://[::1]:8765/api/v1", True),
        ("https://127.0.0.1.example/api/v1", False),
    ],
)
def test_only_this_machine_is_local(base_url: str, local: bool) -> None:
    assert Account(api_key="k", base_url=base_url).is_local is local
