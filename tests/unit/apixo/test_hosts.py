"""What a URL is, and where it leads, is decided once for references, callbacks and the API itself."""

from __future__ import annotations

import pytest

from airflow_provider_seedream.apixo.hosts import (
    has_user_info,
    has_white_space,
    is_loopback,
    is_public,
    is_web,
    leads_to_loopback,
    read_url,
)


class TestReading:
    @pytest.mark.parametrize(
        "text", ["https://[broken/a.png", "https://x.example:99999", "https://x.example:port", "http://[x]/"]
    )
    def test_never_raises(self, text: str) -> None:
        assert read_url(text) is None

    def test_keeps_what_the_rules_ask_for(self) -> None:
        url = read_url("https://x.example:8443/a?b=c")
        assert url is not None
        assert (url.scheme, url.hostname, url.port, url.query) == ("https", "x.example", 8443, "b=c")


@pytest.mark.parametrize("sign", [" ", "\t", "\n", "\x00", "\x1f", "\x7f", "\u00a0", "\u2028"])
def test_white_space_and_control_characters_are_found_wherever_they_stand(sign: str) -> None:
    for text in (f"{sign}https://x.example", f"https://x{sign}.example/", f"https://x.example/a{sign}"):
        assert has_white_space(text)
    assert not has_white_space("https://x.example/a%20b")


@pytest.mark.parametrize(
    ("text", "web"),
    [
        ("https://x.example", True),
        ("HTTP://x.example", True),
        ("ftp://x.example", False),
        ("https://", False),
        ("https:///a.png", False),
        ("x.example/a.png", False),
        ("C:\\fox.png", False),
    ],
)
def test_the_web_is_http_with_a_host(text: str, web: bool) -> None:
    url = read_url(text)
    assert url is not None
    assert is_web(url) is web


@pytest.mark.parametrize("text", ["https://u:p@x.example", "https://u@x.example", "https://@x.example"])
def test_user_info_is_found_even_if_it_is_empty(text: str) -> None:
    url = read_url(text)
    assert url is not None
    assert has_user_info(url)


class TestThisMachine:
    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST.", "api.localhost", "127.0.0.1", "127.9.9.9", "::1"]
    )
    def test_has_many_names(self, host: str) -> None:
        assert is_loopback(host)
        assert not is_public(host)

    @pytest.mark.parametrize("host", [None, "", "localhost.example", "10.0.0.1", "api.apixo.ai"])
    def test_is_not_every_host(self, host: str | None) -> None:
        assert not is_loopback(host)

    def test_is_where_a_url_of_it_leads(self) -> None:
        assert leads_to_loopback("http://127.0.0.1:8765/api/v1")
        assert leads_to_loopback("//localhost")
        assert not leads_to_loopback("http://127.0.0.1.example/api/v1")
        assert not leads_to_loopback("http://[127.0.0.1")


class TestAPublicHost:
    @pytest.mark.parametrize("host", ["api.apixo.ai", "8.8.8.8", "2606:4700::1111"])
    def test_is_a_name_or_a_global_address(self, host: str) -> None:
        assert is_public(host)

    @pytest.mark.parametrize(
        "host", [None, "", "10.0.0.7", "192.168.1.1", "169.254.169.254", "fe80::1", "fd00::1", "0.0.0.0"]
    )
    def test_is_no_private_address(self, host: str | None) -> None:
        assert not is_public(host)
