from __future__ import annotations

import pytest

from airflow_provider_seedream.errors import DestinationError
from airflow_provider_seedream.storage.location import read_conn_id, read_destination_url


class TestADestinationIsReadBeforeItsStoreIsOpened:
    @pytest.mark.parametrize(
        ("text", "url"),
        [
            ("/data/images", "file:///data/images"),
            ("  s3://aws@bucket/prefix ", "s3://aws@bucket/prefix"),
            ("file:///data/a..b", "file:///data/a..b"),
            ("gs://bucket", "gs://bucket"),
            # Neither credentials nor a connection: the @ is part of a folder's name.
            ("s3://bucket/user:me@home", "s3://bucket/user:me@home"),
        ],
    )
    def test_as_a_url(self, text: str, url: str) -> None:
        assert read_destination_url(text) == url

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("images", "relative path"),
            ("://bucket", "relative path"),
            ("local://images", "Use local:///folder"),
            ("s3://aws@", "names no bucket"),
            ("s3://bucket/..", "holds '..'"),
            ("s3://key:secret@bucket", "credentials"),
        ],
    )
    def test_or_refused(self, text: str, says: str) -> None:
        with pytest.raises(DestinationError, match=says):
            read_destination_url(text)


@pytest.mark.parametrize(
    ("url", "conn_id"),
    [
        ("s3://aws_default@bucket/prefix", "aws_default"),
        ("file://disk@/data", "disk"),
        ("s3://bucket/prefix", None),
        ("s3://bucket/me@home", None),
        ("s3://@bucket", None),
    ],
)
def test_a_connection_stands_before_the_bucket(url: str, conn_id: str | None) -> None:
    assert read_conn_id(url) == conn_id
