from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from airflow.sdk.log import mask_secret
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_seedream.errors import DestinationError
from airflow_provider_seedream.storage.destination import (
    Entry,
    check_writable,
    entries,
    holds,
    place,
    read,
    remove,
    resolve_destination,
    sweep,
)
from airflow_provider_seedream.storage.errors import StorageError
from tests.support.files import everything, files_limited_to, visible

SEVEN = datetime.fromtimestamp(7, UTC)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    file = tmp_path / "verified.png"
    file.write_bytes(b"new" * 100_000)
    return file


class FaultyStore(MemoryFileSystem):
    """A store whose uploads fail half-way; it notes what a reader sees at that moment."""

    cachable = False

    def __init__(self, error: Exception) -> None:
        super().__init__(global_store=False)
        self.error = error
        self.seen: set[str] = set()

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes()[:1000])
        self.seen = set(self.store)
        raise self.error


class AtomicStore(MemoryFileSystem):
    """Like an object store: an upload appears when it is complete, and there are no folders to make."""

    cachable = False

    def __init__(self) -> None:
        super().__init__(global_store=False)
        self.put: list[str] = []

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        self.put.append(rpath)
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        raise AssertionError("would create a bucket")


class CachingStore(MemoryFileSystem):
    """A store that answers sizes from an old listing until it is told to forget it."""

    cachable = False
    listed: int | None = None

    def __init__(self) -> None:
        super().__init__(global_store=False)

    def size(self, path: str) -> int:
        return super().size(path) if self.listed is None else self.listed

    def invalidate_cache(self, path: str | None = None) -> None:
        self.listed = None


def stored(scheme: str, conn_id: str, fs: Any) -> ObjectStoragePath:
    attach(scheme, conn_id, fs=fs).fs = fs
    return ObjectStoragePath(f"{scheme}://{conn_id}@bucket/images")


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
            check_writable(stored("s3", "refusing", store))
        message = str(refused.value)
        assert "s3://refusing@bucket/images: PermissionError: AccessDenied" in message
        assert "storage connection 'refusing'" in message
        assert "wJalr" not in message


class TestTheProbeLeavesNothingBehind:
    def test_the_folder_is_made_and_empty(self, destination: ObjectStoragePath) -> None:
        check_writable(destination)
        assert destination.fs.isdir(destination.path)
        assert everything(destination) == set()

    def test_an_object_store_is_asked_for_no_folder(self) -> None:
        path = stored("s3", "atomic", AtomicStore())
        check_writable(path)
        assert path.fs.find("") == []


class TestPlacingShowsAllOrNothing:
    def test_a_file_arrives_whole_and_alone(self, destination: ObjectStoragePath, local: Path) -> None:
        place(local, destination / "sub/hero.png")
        assert everything(destination) == {"sub/hero.png"}
        assert read(destination / "sub/hero.png", 10**6) == local.read_bytes()

    def test_it_replaces_what_was_there(self, destination: ObjectStoragePath, local: Path) -> None:
        target = destination / "hero.png"
        for body in (b"old", b"newer"):
            local.write_bytes(body)
            place(local, target)
        assert read(target, 100) == b"newer"
        assert everything(destination) == {"hero.png"}

    def test_an_object_store_gets_one_upload_under_the_final_name(self, local: Path) -> None:
        store = AtomicStore()
        place(local, stored("s3", "atomic", store) / "hero.png")
        assert [name.lstrip("/") for name in store.put] == ["bucket/images/hero.png"]

    def test_a_disk_that_fills_half_way(self, folder: ObjectStoragePath, local: Path) -> None:
        target = old_image(folder)
        with (
            files_limited_to(65536),
            pytest.raises(StorageError, match=rf"could not write {target}: OSError"),
        ):
            place(local, target)
        assert everything(folder) == {"hero.png"}
        assert read(target, 100) == b"old"

    def test_a_reader_during_the_copy_sees_the_old_file(
        self, folder: ObjectStoragePath, local: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        target = old_image(folder)
        seen: list[tuple[set[str], bytes | None]] = []

        def half(source: Path, part: str) -> None:
            Path(part).write_bytes(source.read_bytes()[:1000])
            seen.append((visible(folder), read(target, 100)))
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(shutil, "copyfile", half)
        with pytest.raises(StorageError, match="No space left on device"):
            place(local, target)
        assert seen == [({"hero.png"}, b"old")]
        assert everything(folder) == {"hero.png"}

    def test_a_store_that_fails_half_way(self, local: Path) -> None:
        store = FaultyStore(OSError(errno.ENOSPC, "quota exceeded"))
        target = stored("memory", "full", store) / "hero.png"
        store.pipe_file(target.path, b"old")
        with pytest.raises(StorageError, match="quota exceeded"):
            place(local, target)
        hidden = {name for name in store.seen if "/.hero.png.part-" in name}
        assert len(hidden) == 1
        assert set(store.store) == store.seen - hidden
        assert read(target, 100) == b"old"

    def test_a_task_that_is_interrupted_leaves_no_part(
        self, folder: ObjectStoragePath, local: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(source: Path, part: str) -> None:
            Path(part).write_bytes(b"half")
            raise KeyboardInterrupt

        monkeypatch.setattr(shutil, "copyfile", interrupted)
        with pytest.raises(KeyboardInterrupt):
            place(local, folder / "hero.png")
        assert everything(folder) == set()


class TestLeftoversOfAKilledWorkerAreSweptUp:
    def test_only_those_of_the_names_given(self, destination: ObjectStoragePath) -> None:
        part = ".part-0123456789abcdef"
        kept = {"hero-1.png", f".hero-3.png{part}", ".hero-1.png", f"hero-2.png{part}"}
        for name in {*kept, f".hero-1.png{part}", f".hero-2.png{part}"}:
            destination.fs.makedirs(destination.path, exist_ok=True)
            destination.fs.pipe_file(f"{destination.path}/{name}", b"x")
        sweep(destination, ["hero-1.png", "hero-2.png"])
        assert everything(destination) == kept

    def test_probes_that_nobody_waits_for_go_too(self, folder: ObjectStoragePath) -> None:
        digits = "0123456789abcdef"
        probe = f".seedream-probe-{digits}"
        Path(folder.path).mkdir()
        for name in (probe, f".{probe}.part-{digits}", f".seedream-probe-{digits[::-1]}"):
            (Path(folder.path) / name).write_bytes(b"x")
        for name in (probe, f".{probe}.part-{digits}"):
            os.utime(Path(folder.path) / name, (1e9, 1e9))
        sweep(folder, ["sub/hero-1.png"])
        assert everything(folder) == {f".seedream-probe-{digits[::-1]}"}

    def test_a_missing_folder_is_no_failure(self, destination: ObjectStoragePath) -> None:
        sweep(destination, ["hero-1.png"])


class TestAListingIsReadAsEveryStoreWritesIt:
    @pytest.mark.parametrize(
        ("info", "entry"),
        [
            ({"name": "/d/a", "type": "file", "mtime": 5.5, "created": 9.0}, Entry("a", False, 5.5)),
            ({"name": "/d/sub/", "type": "directory", "LastModified": None}, Entry("sub", True, 0)),
            ({"name": "b/k", "type": "file", "LastModified": SEVEN}, Entry("k", False, 7)),
            ({"name": "b/k", "type": "file", "last_modified": SEVEN}, Entry("k", False, 7)),
            ({"name": "k", "type": "file", "mtime": "yesterday", "created": 3}, Entry("k", False, 3)),
        ],
    )
    def test_name_kind_and_time(self, info: dict[str, Any], entry: Entry) -> None:
        assert Entry.of(info) == entry

    def test_a_missing_folder_is_empty(self, destination: ObjectStoragePath) -> None:
        assert entries(destination / "nothing") == []


class TestReadingBack:
    def test_a_file_is_known_by_size_and_hash(self, destination: ObjectStoragePath, local: Path) -> None:

        body = local.read_bytes()
        target = destination / "hero.png"
        place(local, target)
        sha256 = hashlib.sha256(body).hexdigest()
        assert holds(target, len(body), sha256)
        assert not holds(target, len(body) + 1, sha256)
        assert not holds(target, len(body), "0" * 64)
        assert not holds(destination / "other.png", len(body), sha256)

    def test_a_listing_that_the_store_keeps_in_mind_does_not_decide(self, local: Path) -> None:
        store = CachingStore()
        target = stored("memory", "caching", store) / "hero.png"
        place(local, target)
        store.listed = len(local.read_bytes())
        store.pipe_file(target.path, b"damaged")
        assert not holds(target, 7, "0" * 64)
        assert holds(target, 7, hashlib.sha256(b"damaged").hexdigest())

    def test_what_is_missing_reads_as_nothing(self, destination: ObjectStoragePath) -> None:
        assert read(destination / "nothing.json", 100) is None
        remove(destination / "nothing.json")

    def test_a_store_that_cannot_tell_is_not_taken_for_an_empty_one(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(StorageError, match="could not read"):
            read(ObjectStoragePath(f"file://{tmp_path}/file/manifest.json"), 100)


def old_image(folder: ObjectStoragePath) -> ObjectStoragePath:
    folder.fs.makedirs(folder.path)
    target = folder / "hero.png"
    target.fs.pipe_file(target.path, b"old")
    return target
