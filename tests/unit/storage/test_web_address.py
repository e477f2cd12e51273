"""Where people can open a stored object: with a login of their own, and without one of ours."""

from __future__ import annotations

import json

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_seedream.storage.web_address import find_web_address, make_s3_address

KEY = "art/a fox+1.png"


class TestGoogle:
    def test_asks_for_the_readers_own_login(self) -> None:
        assert find_web_address("gs://bucket/a b.png") == "https://storage.cloud.google.com/bucket/a%20b.png"


class TestAmazon:
    @pytest.mark.parametrize("endpoint", [None, "", "https://s3.eu-west-1.amazonaws.com"])
    def test_is_the_console(self, endpoint: str | None) -> None:
        address = "https://s3.console.aws.amazon.com/s3/object/bucket?prefix=art%2Fa%20fox%2B1.png"
        assert make_s3_address(endpoint, "bucket", KEY) == address

    def test_in_china_is_the_console_of_china(self) -> None:
        address = "https://console.amazonaws.cn/s3/object/bucket?prefix=art%2Fa%20fox%2B1.png"
        assert make_s3_address("https://s3.cn-north-1.amazonaws.com.cn", "bucket", KEY) == address


class TestAnotherStoreThatSpeaksS3:
    @pytest.mark.parametrize(
        ("endpoint", "start"),
        [
            ("http://minio.internal:9000", "http://minio.internal:9000"),
            ("https://store.example/", "https://store.example"),
            ("http://[::1]:9000", "http://[::1]:9000"),
            ("https://amazonaws.com.example", "https://amazonaws.com.example"),
        ],
    )
    def test_is_its_endpoint(self, endpoint: str, start: str) -> None:
        assert make_s3_address(endpoint, "bucket", KEY) == f"{start}/bucket/art/a%20fox%2B1.png"

    def test_never_shows_what_the_connection_keeps_secret(self) -> None:
        address = make_s3_address(
            "http://user:p@ss@minio.internal:9000/?token=secret#secret", "bucket", "a.png"
        )
        assert address == "http://minio.internal:9000/bucket/a.png"

    @pytest.mark.parametrize("endpoint", ["minio:9000", "javascript:alert(1)//"])
    def test_has_none_where_no_browser_could_open_it(self, endpoint: str) -> None:
        assert make_s3_address(endpoint, "bucket", KEY) is None

    # The S3 file system comes with the extra of the long tests.
    @pytest.mark.long
    def test_is_found_by_the_connection_of_the_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        extra = {"endpoint_url": "http://user:pw@127.0.0.1:9000", "region_name": "eu-west-1"}
        connection = {"conn_type": "aws", "login": "key", "password": "secret", "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_WEB_ADDRESS", json.dumps(connection))
        path = ObjectStoragePath("s3://web_address@bucket/art/a.png")
        assert find_web_address(str(path)) == "http://127.0.0.1:9000/bucket/art/a.png"


class TestOtherStores:
    @pytest.mark.parametrize(
        "path", ["file:///data/a.png", "memory://x/a.png", "sftp://c@host/a.png", "https://host/a.png"]
    )
    def test_have_none(self, path: str) -> None:
        assert find_web_address(path) is None
