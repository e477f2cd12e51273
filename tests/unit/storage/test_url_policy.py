from __future__ import annotations

import socket

import pytest

from airflow_provider_seedream.storage.errors import RefusedUrlError
from airflow_provider_seedream.storage.url_policy import check_url, remove_query

SANDBOX = "http://127.0.0.1:8765"


class TestOnlyPublicHttpsIsFetched:
    @pytest.mark.parametrize(
        ("url", "rule"),
        [
            ("http://8.8.8.8/a.png", "only https"),
            ("file:///etc/passwd", "only https"),
            ("ftp://8.8.8.8/a.png", "only https"),
            ("data:image/png;base64,AAAA", "only https"),
            ("/a.png", "only https"),
            ("https:///a.png", "no host"),
            ("https://user:secret@8.8.8.8/a.png", "user name or password"),
            ("http://user@127.0.0.1:8765/a.png", "user name or password"),
            ("https://10.0.0.1/a.png", "not a public address"),
            ("https://172.16.0.1/a.png", "not a public address"),
            ("https://192.168.1.1/a.png", "not a public address"),
            ("https://100.64.0.1/a.png", "not a public address"),
            ("https://169.254.169.254/latest/meta-data", "not a public address"),
            ("https://0.0.0.0/a.png", "not a public address"),
            ("https://224.0.0.1/a.png", "not a public address"),
            ("https://255.255.255.255/a.png", "not a public address"),
            ("https://127.0.0.1/a.png", "not a public address"),
            ("https://2130706433/a.png", "not a public address"),
            ("https://0x7f.1/a.png", "not a public address"),
            ("https://017700000001/a.png", "not a public address"),
            ("https://localhost/a.png", "not a public address"),
            ("https://[::1]/a.png", "not a public address"),
            ("https://[::]/a.png", "not a public address"),
            ("https://[fe80::1]/a.png", "not a public address"),
            ("https://[fd00::1]/a.png", "not a public address"),
            ("https://[ff02::1]/a.png", "not a public address"),
            ("https://[::ffff:10.0.0.1]/a.png", "not a public address"),
            ("https://[2002:a00:1::]/a.png", "not a public address"),
            ("https://exa mple.com:x/a.png", "cannot be read"),
            ("https://8.8.8.8:99999999/a.png", "no port"),
            (f"https://{'a' * 64}.example/a.png", "malformed"),
            ("https://a..example/a.png", "malformed"),
        ],
    )
    def test_everything_else_is_refused_by_name_of_the_rule(self, url: str, rule: str) -> None:
        with pytest.raises(RefusedUrlError, match=rule) as refused:
            check_url(url, SANDBOX)
        assert not refused.value.retryable
        assert "secret" not in str(refused.value)

    def test_a_public_address_passes(self) -> None:
        assert check_url("https://8.8.8.8/a.png?signature=x", None).query == b"signature=x"

    def test_a_name_is_judged_by_every_address_that_it_has(self, monkeypatch: pytest.MonkeyPatch) -> None:
        addresses = [(0, 0, 0, "", (address, 0)) for address in ("8.8.8.8", "10.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: addresses)
        with pytest.raises(RefusedUrlError, match=r"cdn.example is 10\.0\.0\.1"):
            check_url("https://cdn.example/a.png", None)

    def test_a_name_that_only_a_proxy_knows_is_left_to_the_client(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def unknown(*args: object, **kwargs: object) -> None:
            raise socket.gaierror("unknown")

        monkeypatch.setattr(socket, "getaddrinfo", unknown)
        assert check_url("https://cdn.example/a.png", None).host == "cdn.example"


class TestTheSandboxIsTrustedByItsWholeOrigin:
    def test_its_own_urls_pass(self) -> None:
        assert check_url(f"{SANDBOX}/results/1.png", SANDBOX).port == 8765

    @pytest.mark.parametrize(
        "url",
        [
            "http://127.0.0.1:8766/a.png",
            "http://127.0.0.1/a.png",
            "https://127.0.0.1:8765/a.png",
            "http://localhost:8765/a.png",
            "http://127.0.0.2:8765/a.png",
            "http://2130706433:8765/a.png",
            "http://[::1]:8765/a.png",
        ],
    )
    def test_no_neighbour_does(self, url: str) -> None:
        with pytest.raises(RefusedUrlError):
            check_url(url, SANDBOX)

    def test_without_a_sandbox_nothing_local_passes(self) -> None:
        with pytest.raises(RefusedUrlError):
            check_url(f"{SANDBOX}/results/1.png", None)


class TestRecordsHoldNoSignature:
    def test_query_user_and_fragment_are_dropped(self) -> None:
        url = "https://me:pw@cdn.example/a%20b.png?X-Signature=abc#part"
        assert remove_query(url) == "https://cdn.example/a%20b.png"
