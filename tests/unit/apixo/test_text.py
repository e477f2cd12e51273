"""Text from outside can be printed and stored, and shows no secret of a URL."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_seedream.apixo.text import hide_secrets, make_printable


class TestTextFromOutside:
    @pytest.mark.parametrize("sign", ["\x00", "\x1b", "\x7f", "\x85", "\ud800", "\r"])
    def test_keeps_nothing_that_a_database_refuses_or_a_terminal_obeys(self, sign: str) -> None:
        assert make_printable(f"a{sign}b") == "a\ufffdb"

    @pytest.mark.parametrize("text", ["a\tb\nc", "Fuchs im Schnee, 狐", "\U0001f98a"])
    def test_keeps_what_people_write(self, text: str) -> None:
        assert make_printable(text) == text

    def test_is_cut_at_its_limit(self) -> None:
        assert make_printable("x" * 1000, 10) == "x" * 10

    @pytest.mark.parametrize(("value", "text"), [(None, "None"), (7, "7"), (["a"], "['a']")])
    def test_may_be_any_json_value(self, value: Any, text: str) -> None:
        assert make_printable(value) == text

    def test_of_thousands_of_digits_or_of_endless_depth_is_its_type(self) -> None:
        assert make_printable(10**5000) == "(int)"
        deep: Any = json.loads("[" * 900 + "]" * 900)
        for _ in range(100_000):
            deep = [deep]
        assert make_printable(deep) == "(list)"


class TestAUrlInALog:
    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("https://x.example/a.png", "https://x.example/a.png"),
            ("https://u:pw@x.example:8443/a.png", "https://x.example:8443/a.png"),
            ("https://x.example/a.png?X-Amz-Signature=s3cret", "https://x.example/a.png?..."),
            ("https://x.example/a.png#s3cret", "https://x.example/a.png"),
            ("https://[broken/?s3cret", "(unreadable URL)"),
        ],
    )
    def test_has_no_user_info_and_no_query(self, url: str, shown: str) -> None:
        assert hide_secrets(url) == shown
