from __future__ import annotations

import errno
import re
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow.sdk.log import mask_secret

from airflow_provider_seedream.errors import DestinationError
from airflow_provider_seedream.storage.destination import check_writable, resolve_destination
from tests.support.files import everything
from tests.support.stores import AtomicStore, FaultyStore, UnreachableStore, attach_store


class TestADestinationIsReadAsItIsMeant:
    def test_an_absolute_path_is_a_local_folder(self, tmp_path: Path) -> None:
        assert str(resolve_destination(f"{tmp_path}/out/")) == f"file://{tmp_path}/out"

    def test_a_path_object_stays_what_it_is(self, folder: ObjectStoragePath) -> None:
        assert resolve_destination(folder) == folder

    def test_the_connection_may_stand_in_the_path_or_beside_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_STORE", "generic://")
        in_path = resolve_destination(f"file://store@{tmp_path}")
        beside = resolve_destination(f"file://{tmp_path}", "store")
        both = resolve_destination(f"file://store@{tmp_path}", "store")
        given = resolve_destination(ObjectStoragePath(f"file://store@{tmp_path}"))
        assert {str(path) for path in (in_path, beside, both, given)} == {f"file://store@{tmp_path}"}


class TestAnUnusableDestinationIsRefusedBeforeMoneyIsSpent:
    @pytest.mark.parametrize(
        ("destination", "says"),
        [
            (None, "names no location"),
            (7, "relative path"),
            ("", "names no location"),
            ("   ", "names no location"),
            ("out/", "relative path"),
            ("./out", "relative path"),
            ("~/out", "relative path"),
            ("C:\\out", "relative path"),
            ("file://out/images", "Use file:///folder"),
            ("file:///data/../etc", "holds '..'"),
            ("s3://", "names no bucket"),
            ("s3:///prefix", "names no bucket"),
            ("s3://aws@/prefix", "names no bucket"),
            ("nosuch://bucket/prefix", "nosuch:// needs an Airflow provider that brings it"),
        ],
    )
    def test_with_a_remedy(self, destination: Any, says: str) -> None:
        with pytest.raises(DestinationError, match=says) as refused:
            resolve_destination(destination)
        assert not refused.value.retryable

    @pytest.mark.parametrize(
        ("url", "package"),
        [
            ("s3://bucket/prefix", "apache-airflow-providers-amazon[s3fs]"),
            ("gs://bucket/prefix", "apache-airflow-providers-google"),
        ],
    )
    def test_a_missing_library_is_named(
        self, url: str, package: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Whether the libraries are installed where the tests run must not matter.
        monkeypatch.setattr("airflow.sdk.io.fs._register_filesystems", dict)
        monkeypatch.setattr("airflow.sdk.io.store._STORE_CACHE", {})
        with pytest.raises(DestinationError, match=re.escape(f"needs {package}.")):
            resolve_destination(url)

    def test_two_connections_are_both_named(self) -> None:
        with pytest.raises(DestinationError, match=r"'one'.*'two'"):
            resolve_destination("s3://one@bucket", "two")

    def test_a_connection_that_does_not_exist_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DestinationError, match=r"NotFound.*'nosuch'"):
            resolve_destination(f"file://nosuch@{tmp_path}")

    def test_credentials_in_the_path_are_refused_and_not_repeated(self) -> None:
        with pytest.raises(DestinationError, match="credentials") as refused:
            resolve_destination("s3://AKIAEXAMPLE:wJalrSECRET@bucket/prefix")
        assert "wJalr" not in str(refused.value)

    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        with pytest.raises(DestinationError, match="is a file"):
            check_writable(ObjectStoragePath(f"file://{tmp_path}/file"))
        assert (tmp_path / "file").read_text() == "mine"

    def test_a_folder_below_a_file_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        with pytest.raises(
            DestinationError, match=r"Cannot write to file://.*/file/images: NotADirectoryError"
        ):
            check_writable(ObjectStoragePath(f"file://{tmp_path}/file/images"))

    def test_a_store_that_refuses_is_quoted_without_its_secrets(self) -> None:
        mask_secret("wJalrSECRETKEY")
        store = FaultyStore(PermissionError("AccessDenied for key wJalrSECRETKEY"))
        with pytest.raises(DestinationError) as refused:
            check_writable(attach_store("s3", "refusing", store))
        message = str(refused.value)
        assert "s3://refusing@bucket/images: PermissionError: AccessDenied" in message
        assert "storage connection 'refusing'" in message
        assert "wJalr" not in message


class TestARetryMayHelp:
    @pytest.mark.parametrize(
        ("error", "may_help"),
        [
            (OSError(errno.EIO, "a moment of trouble"), True),
            (OSError(errno.EROFS, "read-only file system"), False),
            (PermissionError("AccessDenied"), False),
            (NotImplementedError("no uploads"), False),
        ],
    )
    def test_where_the_store_may_think_better_of_it(self, error: Exception, may_help: bool) -> None:
        with pytest.raises(DestinationError) as refused:
            check_writable(attach_store("s3", "failing", FaultyStore(error)))
        assert refused.value.retryable is may_help

    def test_where_nobody_answers(self) -> None:
        with pytest.raises(DestinationError, match="ConnectionRefusedError") as refused:
            check_writable(attach_store("s3", "nobody", UnreachableStore()))
        assert refused.value.retryable


class TestTheProbeLeavesNothingBehind:
    def test_the_folder_is_made_and_empty(self, destination: ObjectStoragePath) -> None:
        check_writable(destination)
        assert destination.fs.isdir(destination.path)
        assert everything(destination) == set()

    def test_an_object_store_is_asked_for_no_folder(self) -> None:
        path = attach_store("s3", "atomic", AtomicStore())
        check_writable(path)
        assert path.fs.find("") == []
