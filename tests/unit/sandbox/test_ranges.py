"""A broken transfer of an image can be resumed."""

from __future__ import annotations

import httpx
import pytest

from airflow_provider_seedream.sandbox.ranges import respond


class TestABrokenTransferCanResume:
    def test_head_announces_what_get_delivers(self, url: str, http: httpx.Client) -> None:
        head, whole = http.head(url), http.get(url)
        assert head.content == b""
        assert head.headers["accept-ranges"] == "bytes"
        assert int(head.headers["content-length"]) == len(whole.content)
        assert head.headers["etag"] == whole.headers["etag"]

    def test_the_rest_fits_to_the_beginning(self, url: str, http: httpx.Client) -> None:
        whole = http.get(url)
        rest = http.get(url, headers={"Range": "bytes=1000-", "If-Range": whole.headers["etag"]})
        assert rest.status_code == 206
        assert rest.headers["content-range"] == f"bytes 1000-{len(whole.content) - 1}/{len(whole.content)}"
        assert whole.content[:1000] + rest.content == whole.content

    def test_another_version_is_sent_whole(self, url: str, http: httpx.Client) -> None:
        whole = http.get(url)
        answer = http.get(url, headers={"Range": "bytes=1000-", "If-Range": '"another"'})
        assert (answer.status_code, answer.content) == (200, whole.content)

    @pytest.mark.parametrize(
        ("wanted", "status", "body"),
        [
            ("bytes=0-3", 206, b"0123"),
            ("bytes=8-99", 206, b"89"),
            ("bytes=-3", 206, b"789"),
            ("bytes=-99", 206, b"0123456789"),
            ("bytes=10-", 416, b""),
            ("bytes=-0", 416, b""),
            ("bytes=5-2", 200, b"0123456789"),
            ("bytes=-", 200, b"0123456789"),
            ("bytes=0-1,4-5", 200, b"0123456789"),
            ("pages=1-2", 200, b"0123456789"),
        ],
    )
    def test_ranges_are_read_as_the_rfc_says(self, wanted: str, status: int, body: bytes) -> None:
        answer = respond(b"0123456789", {"range": wanted}, "image/png")
        assert (answer.status_code, answer.body) == (status, body)
