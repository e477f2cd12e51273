from __future__ import annotations

import errno
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pendulum
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_seedream.storage.errors import StorageError
from airflow_provider_seedream.storage.files import (
    FolderEntry,
    exists,
    holds,
    list_folder,
    make_probe_name,
    place,
    read,
    read_blocks,
    read_size,
    remove,
    sweep,
)
from tests.support.files import everything, files_limited_to, visible
from tests.support.stores import (
    AtomicStore,
    CachingStore,
    FaultyStore,
    UnreachableStore,
    attach_store,
)

SEVEN = pendulum.from_timestamp(7)


@pytest.fixture
def local(tmp_path: Path) -> Path:
    file = tmp_path / "verified.png"
    file.write_bytes(b"new" * 100_000)
    return file


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
        place(local, attach_store("s3", "atomic", store) / "hero.png")
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
        target = attach_store("memory", "full", store) / "hero.png"
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

    def test_a_probe_is_known_by_the_name_that_it_is_given(self, folder: ObjectStoragePath) -> None:
        Path(folder.path).mkdir()
        probe = Path(folder.path) / make_probe_name()
        probe.touch()
        os.utime(probe, (1e9, 1e9))
        sweep(folder, [])
        assert everything(folder) == set()

    def test_a_missing_folder_is_no_failure(self, destination: ObjectStoragePath) -> None:
        sweep(destination, ["hero-1.png"])


class TestAListingIsReadAsEveryStoreWritesIt:
    @pytest.mark.parametrize(
        ("info", "entry"),
        [
            ({"name": "/d/a", "type": "file", "mtime": 5.5, "created": 9.0}, FolderEntry("a", False, 5.5)),
            ({"name": "/d/sub/", "type": "directory", "LastModified": None}, FolderEntry("sub", True, 0)),
            ({"name": "b/k", "type": "file", "LastModified": SEVEN}, FolderEntry("k", False, 7)),
            ({"name": "b/k", "type": "file", "last_modified": SEVEN}, FolderEntry("k", False, 7)),
            ({"name": "k", "type": "file", "mtime": "yesterday", "created": 3}, FolderEntry("k", False, 3)),
        ],
    )
    def test_name_kind_and_time(self, info: dict[str, Any], entry: FolderEntry) -> None:
        assert FolderEntry.of(info) == entry

    def test_a_missing_folder_is_empty(self, destination: ObjectStoragePath) -> None:
        assert list_folder(destination / "nothing") == []


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
        target = attach_store("memory", "caching", store) / "hero.png"
        place(local, target)
        store.listed = len(local.read_bytes())
        store.pipe_file(target.path, b"damaged")
        assert not holds(target, 7, "0" * 64)
        assert holds(target, 7, hashlib.sha256(b"damaged").hexdigest())

    def test_what_is_missing_reads_as_nothing(self, destination: ObjectStoragePath) -> None:
        assert read(destination / "nothing.json", 100) is None
        remove(destination / "nothing.json")

    def test_a_size_is_that_of_a_file(self, destination: ObjectStoragePath, local: Path) -> None:
        place(local, destination / "sub/hero.png")
        assert read_size(destination / "sub/hero.png") == local.stat().st_size
        assert read_size(destination / "sub") is None
        assert read_size(destination / "other.png") is None

    def test_blocks_make_up_the_file(
        self, destination: ObjectStoragePath, local: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_seedream.storage.files._READ_BLOCK_BYTES", 65536)
        place(local, destination / "hero.png")
        blocks = list(read_blocks(destination / "hero.png"))
        assert max(map(len, blocks)) <= 65536
        assert b"".join(blocks) == local.read_bytes()

    def test_what_exists_may_be_a_folder(self, destination: ObjectStoragePath, local: Path) -> None:
        place(local, destination / "sub/hero.png")
        assert exists(destination / "sub")
        assert not exists(destination / "other")

    def test_a_store_that_nobody_reaches_is_an_error_for_every_question(self) -> None:
        target = attach_store("memory", "nobody", UnreachableStore()) / "hero.png"
        for ask in (
            exists,
            read_size,
            list_folder,
            lambda path: read(path, 1),
            lambda path: holds(path, 1, ""),
        ):
            with pytest.raises(StorageError, match="connection refused"):
                ask(target)

    def test_a_store_that_cannot_tell_is_not_taken_for_an_empty_one(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(StorageError, match="could not read"):
            read(ObjectStoragePath(f"file://{tmp_path}/file/manifest.json"), 100)


def old_image(folder: ObjectStoragePath) -> ObjectStoragePath:
    folder.fs.makedirs(folder.path)
    target = folder / "hero.png"
    target.fs.pipe_file(target.path, b"old")
    return target
