from __future__ import annotations

import io
import os
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow.sdk.log import mask_secret
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from airflow_provider_seedream.gallery import verified_images
from airflow_provider_seedream.gallery.verified_images import (
    ImageError,
    VerifiedImage,
    find_image,
    name_store,
    open_indexed,
    open_verified,
    read_saved,
)
from airflow_provider_seedream.storage.manifest import MAX_BYTES
from tests.support.files import files_limited_to
from tests.support.image_host import picture
from tests.support.images import png, png_with_text
from tests.unit.gallery.saved import PROMPT, TASK, Saved, save, stored

T = TypeVar("T")
GIGABYTE = 2**30
SECRET = "wJalrSECRETKEY"


@pytest.fixture
def folder(tmp_path: Path) -> ObjectStoragePath:
    return ObjectStoragePath(f"file://{tmp_path}/images")


class Store(MemoryFileSystem):
    """A store of its own, which records what is opened."""

    cachable = False

    def __init__(self) -> None:
        super().__init__(global_store=False)
        self.opened: list[str] = []

    def open(self, path: str, *args: Any, **kwargs: Any) -> Any:
        self.opened.append(path)
        return super().open(path, *args, **kwargs)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("AIRFLOW_CONN_GALLERY_STORE", "generic://")
    return Store()


@pytest.fixture
def remote(store: Store) -> ObjectStoragePath:
    return stored("s3", "gallery_store", store)


@pytest.fixture(params=["folder", "remote"])
def destination(request: pytest.FixtureRequest) -> ObjectStoragePath:
    path: ObjectStoragePath = request.getfixturevalue(request.param)
    return path


def refusal(work: Callable[[], object]) -> ImageError:
    with pytest.raises(ImageError) as refused:
        work()
    return refused.value


def opened(saved: Saved) -> VerifiedImage:
    return open_verified(saved.entry, find_image(read_saved(saved.entry), 1))


class TestAnImageComesAsItWasSaved:
    @pytest.mark.parametrize(
        ("format_", "extension", "media_type"),
        [("PNG", "png", "image/png"), ("JPEG", "jpg", "image/jpeg"), ("WEBP", "webp", "image/webp")],
    )
    def test_whole_and_from_its_start(
        self, destination: ObjectStoragePath, format_: str, extension: str, media_type: str
    ) -> None:
        saved = save(destination, picture(format_), f"shop/a mug-1.{extension}")
        verified = opened(saved)
        with verified.file as file:
            assert file.read() == saved.body
        assert verified.bytes == len(saved.body)
        assert verified.media_type == media_type

    def test_with_the_manifest_that_lies_beside_it(self, destination: ObjectStoragePath) -> None:
        manifest = read_saved(save(destination).entry)
        assert manifest.request == {"prompt": PROMPT}

    def test_wherever_the_manifest_says_that_it_lies(self, folder: ObjectStoragePath) -> None:
        saved = save(folder)
        saved.with_image(path="file:///etc/passwd", url="file:///etc/passwd").write_manifest()
        with opened(saved).file as file:
            assert file.read() == saved.body

    def test_from_the_store_of_its_own_connection(
        self, remote: ObjectStoragePath, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_OTHER_STORE", "generic://")
        mine, other = save(remote), save(stored("s3", "other_store", Store()))
        with opened(mine).file as file:
            assert file.read() == mine.body != other.body

    def test_through_a_destination_that_is_a_link(self, folder: ObjectStoragePath, tmp_path: Path) -> None:
        (tmp_path / "mounted").mkdir()
        Path(folder.path).symlink_to(tmp_path / "mounted")
        opened(save(folder)).file.close()

    def test_a_large_one_is_not_held_in_memory(self, folder: ObjectStoragePath) -> None:
        saved = save(folder, picture() + bytes(48 * 2**20))
        with traced() as peak:
            opened(saved).file.close()
        assert peak() < 16 * 2**20

    def test_nothing_is_left_in_the_temporary_folder(
        self, folder: ObjectStoragePath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "scratch").mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
        with opened(save(folder)).file:
            assert list((tmp_path / "scratch").iterdir()) == []


class TestWhatIsNotThereAnyMoreIsSaid:
    def test_no_manifest(self, destination: ObjectStoragePath) -> None:
        saved = save(destination)
        destination.fs.rm_file((destination / f"{TASK}-manifest.json").path)
        error = refusal(lambda: read_saved(saved.entry))
        assert error.status == 404
        assert saved.entry.manifest in str(error)
        assert ("must see the same folder" in str(error)) == (destination.protocol == "file")

    def test_no_image(self, destination: ObjectStoragePath) -> None:
        saved = save(destination)
        destination.fs.rm_file((destination / saved.image.name).path)
        error = refusal(lambda: opened(saved))
        assert (error.status, saved.image.name in str(error)) == (404, True)

    def test_a_folder_in_its_place(self, remote: ObjectStoragePath) -> None:
        saved = save(remote, name="image.png")
        remote.fs.rm_file((remote / "image.png").path)
        saved.write("image.png/other.png", saved.body)
        assert refusal(lambda: opened(saved)).status == 404

    def test_no_folder(self, destination: ObjectStoragePath) -> None:
        assert refusal(lambda: read_saved(Saved(destination).entry)).status == 404

    def test_no_image_of_this_number(self, folder: ObjectStoragePath) -> None:
        manifest = read_saved(save(folder).entry)
        assert refusal(lambda: find_image(manifest, 2)).status == 404


class TestWhatWasReplacedIsNotShownAsTheOldImage:
    def test_a_manifest_of_a_later_task(self, folder: ObjectStoragePath) -> None:
        saved = save(folder)
        saved.write_manifest(seedream_task_id="task-2")
        error = refusal(lambda: read_saved(saved.entry))
        assert error.status == 409
        assert "replaced by those of another task" in str(error)
        assert "task-2" not in str(error)

    @pytest.mark.parametrize("change", ["one byte", "shorter", "longer"])
    def test_bytes_that_changed(self, destination: ObjectStoragePath, change: str) -> None:
        saved = save(destination)
        body = saved.body
        bodies = {"one byte": body[:-1] + b"!", "shorter": body[:-100], "longer": body + b"!"}
        saved.write(saved.image.name, bodies[change])
        error = refusal(lambda: opened(saved))
        assert error.status == 409
        assert "changed after it was saved" in str(error)

    @pytest.mark.parametrize("change", [{"name": "other-1.png"}, {"sha256": "0" * 64}])
    def test_a_manifest_that_says_another_thing_than_the_database(
        self, folder: ObjectStoragePath, change: dict[str, str]
    ) -> None:
        saved = save(folder)
        (indexed,) = saved.entry.images
        open_indexed(saved.entry, indexed).file.close()
        assert refusal(lambda: open_indexed(saved.entry, replace(indexed, **change))).status == 409


class TestNothingHugeIsRead:
    def test_a_manifest_of_a_gigabyte(self, folder: ObjectStoragePath) -> None:
        saved = save(folder)
        os.truncate(f"{folder.path}/{TASK}-manifest.json", GIGABYTE)
        with traced() as peak:
            assert refusal(lambda: read_saved(saved.entry)).status == 413
        assert peak() < 4 * MAX_BYTES

    def test_an_image_that_grew_to_a_gigabyte(self, folder: ObjectStoragePath) -> None:
        saved = save(folder)
        os.truncate(f"{folder.path}/{saved.image.name}", GIGABYTE)
        # A copy of it would break this limit, and be another refusal.
        with files_limited_to(2**20):
            assert refusal(lambda: opened(saved)).status == 409

    def test_an_image_that_claims_a_gigabyte(self, remote: ObjectStoragePath, store: Store) -> None:
        saved = save(remote)
        saved.with_image(bytes=GIGABYTE).write_manifest()
        store.opened.clear()
        assert refusal(lambda: open_verified(saved.entry, saved.image)).status == 413
        assert store.opened == []

    def test_a_store_that_sends_more_than_it_says(
        self, remote: ObjectStoragePath, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        saved, endless = save(remote), Endless()
        monkeypatch.setattr(store, "open", lambda *_, **__: endless)
        assert refusal(lambda: open_verified(saved.entry, saved.image)).status == 409
        assert endless.reads == 1


class Endless(io.RawIOBase):
    """A file without an end."""

    reads = 0

    def read(self, size: int = -1) -> bytes:
        assert size > 0
        self.reads += 1
        return bytes(size)


HOSTILE_NAMES = [
    "",
    "../../etc/passwd",
    "../secret.png",
    "sub/../../secret.png",
    "/etc/secret.png",
    "//host/secret.png",
    "file:///etc/secret.png",
    "C:/secret.png",
    "..\\secret.png",
    ".secret.png",
    "sub/.secret.png",
    "./secret.png",
    "sub//secret.png",
    "simplecache::secret.png",
    "secret.png#.png",
    "*.png",
    "secret.png\0.png",
    "secret\n.png",
    "\ud800.png",
    "secret.svg",
    "secret.html",
    "secret.png.txt",
    "secret",
    "secret.PNG.",
]


class TestANameCannotLeaveTheDestination:
    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_a_hostile_one_is_refused_before_the_store_is_asked(
        self, remote: ObjectStoragePath, store: Store, name: str
    ) -> None:
        saved = Saved(remote).with_image(name=name)
        error = refusal(lambda: open_verified(saved.entry, saved.image))
        assert error.status == 422
        assert "is no name that a task gives" in str(error)
        assert store.opened == []

    def test_nor_can_a_link_to_a_file(self, folder: ObjectStoragePath, tmp_path: Path) -> None:
        saved = save(folder)
        secret = tmp_path / "secret.png"
        secret.write_bytes(saved.body)
        file = Path(folder.path) / saved.image.name
        file.unlink()
        file.symlink_to(secret)
        error = refusal(lambda: opened(saved))
        assert error.status == 422
        assert "leads out of the destination" in str(error)

    def test_nor_can_a_link_to_a_folder(self, folder: ObjectStoragePath, tmp_path: Path) -> None:
        saved = save(folder, name="sub/image.png")
        (Path(folder.path) / "sub").rename(tmp_path / "moved")
        (Path(folder.path) / "sub").symlink_to(tmp_path / "moved")
        assert refusal(lambda: opened(saved)).status == 422

    def test_a_manifest_that_is_a_link_is_not_read_either(
        self, folder: ObjectStoragePath, tmp_path: Path
    ) -> None:
        saved = save(folder)
        file = Path(folder.path) / f"{TASK}-manifest.json"
        file.rename(tmp_path / "elsewhere.json")
        file.symlink_to(tmp_path / "elsewhere.json")
        assert refusal(lambda: read_saved(saved.entry)).status == 422

    def test_a_link_within_the_destination_is_followed(self, folder: ObjectStoragePath) -> None:
        saved = save(folder)
        file = Path(folder.path) / saved.image.name
        file.rename(file.with_name("archived.png"))
        file.symlink_to("archived.png")
        opened(saved).file.close()

    @pytest.mark.parametrize("name", [f"{TASK}-manifest.json", f"{TASK}-1.png"])
    def test_a_pipe_is_not_waited_for(self, folder: ObjectStoragePath, name: str) -> None:
        saved = save(folder)
        pipe = Path(folder.path) / name
        pipe.unlink()
        os.mkfifo(pipe)
        assert refusal(lambda: within_seconds(lambda: opened(saved))).status == 422


class TestAResultCannotNameAManifestElsewhere:
    @pytest.mark.parametrize(
        "manifest",
        [
            "file:///etc/task.json",
            "s3://gallery_store@bucket/elsewhere/task.json",
            "s3://gallery_store@bucket/images-of-others/task.json",
            "s3://gallery_store@bucket/images/../elsewhere/task.json",
            "s3://gallery_store@other-bucket/images/task.json",
            "s3://other_store@bucket/images/task.json",
            "s3://bucket/images/task.json",
            "gs://gallery_store@bucket/images/task.json",
            "s3://gallery_store@bucket/images/.hidden.json",
            "s3://gallery_store@bucket/images/credentials.txt",
            "s3://gallery_store@bucket/images/",
            "s3://gallery_store@bucket/images",
            "task.json",
            "",
        ],
    )
    def test_than_in_its_destination(self, remote: ObjectStoragePath, store: Store, manifest: str) -> None:
        entry = replace(Saved(remote).entry, manifest=manifest)
        assert refusal(lambda: read_saved(entry)).status == 422
        assert store.opened == []

    @pytest.mark.parametrize(
        ("destination", "status"),
        [
            ("", 422),
            ("images", 422),
            ("file:///data/../etc", 422),
            ("file:///data\0", 422),
            ("s3://", 422),
            ("http://169.254.169.254/latest", 502),
            ("zip://x.zip::file:///etc", 502),
            ("s3://nosuch_connection@bucket", 502),
        ],
    )
    def test_nor_a_destination_that_is_none(self, destination: str, status: int) -> None:
        entry = replace(
            Saved(ObjectStoragePath("file:///data")).entry,
            destination=destination,
            manifest=f"{destination}/task.json",
        )
        assert refusal(lambda: read_saved(entry)).status == status

    def test_credentials_in_a_destination_are_not_repeated(self) -> None:
        destination = f"s3://AKIAEXAMPLE:{SECRET}@bucket"
        entry = Saved(ObjectStoragePath("file:///data")).entry
        error = refusal(lambda: read_saved(replace(entry, destination=destination)))
        assert error.status == 422
        assert SECRET not in str(error)


class TestABrokenManifestIsSaidToBeOne:
    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"root:x:0:0:secret",
            b"{",
            b"[]",
            b'{"schema": 1, "secret": 1}',
            b"\xff\xfe",
            b"[" * 100_000,
            b"1" * 10_000,
        ],
    )
    def test_without_showing_what_it_holds(self, folder: ObjectStoragePath, text: bytes) -> None:
        saved = save(folder)
        saved.write(f"{TASK}-manifest.json", text)
        error = refusal(lambda: read_saved(saved.entry))
        assert error.status == 422
        assert "is broken" in str(error)
        assert "secret" not in str(error)

    def test_one_of_a_newer_version_is_used_if_it_can_be(self, folder: ObjectStoragePath) -> None:
        saved = save(folder)
        saved.write_manifest(schema=99, mood="new")
        assert read_saved(saved.entry).schema == 99

    def test_one_of_a_newer_version_that_cannot_be_used_says_so(self, folder: ObjectStoragePath) -> None:
        saved = save(folder)
        saved.write_manifest(schema=99, images={"somewhere": "else"})
        error = refusal(lambda: read_saved(saved.entry))
        assert error.status == 422
        assert "newer version of this provider" in str(error)


class TestOnlyImagesAreEverHandedOut:
    """A manifest can claim anything; these have the right length and hash."""

    @pytest.mark.parametrize(
        "body",
        [
            b"root:x:0:0:secret",
            b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
            b"\x89PNG\r\n\x1a\n",
            b"",
            picture("GIF"),
            picture("JPEG"),
        ],
    )
    def test_other_bytes_under_the_name_of_a_png_are_refused(
        self, folder: ObjectStoragePath, body: bytes
    ) -> None:
        saved = save(folder, body)
        error = refusal(lambda: opened(saved))
        assert error.status == 422
        assert "secret" not in str(error)

    @pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
    @pytest.mark.parametrize("side", [8193, 60_000])
    def test_a_decompression_bomb_is_refused_from_its_header(
        self, folder: ObjectStoragePath, side: int
    ) -> None:
        saved = save(folder, png(side, side, zlib.compress(b"\0" * 1000)))
        assert refusal(lambda: opened(saved)).status == 422

    def test_text_that_unpacks_to_a_multiple_is_refused(self, folder: ObjectStoragePath) -> None:
        saved = save(folder, png_with_text("x" * 32 * 2**20))
        assert len(saved.body) < 2**20
        with traced() as peak:
            assert refusal(lambda: opened(saved)).status == 422
        assert peak() < 16 * 2**20

    def test_several_images_in_one_file_are_refused(self, folder: ObjectStoragePath) -> None:
        out, one = io.BytesIO(), Image.new("RGB", (8, 8))
        one.save(out, "MPO", save_all=True, append_images=[one])
        saved = save(folder, out.getvalue(), "image.jpg")
        assert refusal(lambda: opened(saved)).status == 422


class TestAStoreThatFailsIsNamed:
    def test_without_its_secrets(
        self, remote: ObjectStoragePath, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        mask_secret(SECRET)
        saved = save(remote)

        def refuse(*_: Any, **__: Any) -> None:
            raise PermissionError(f"AccessDenied for key {SECRET}")

        monkeypatch.setattr(store, "open", refuse)
        for work in (lambda: read_saved(saved.entry), lambda: open_verified(saved.entry, saved.image)):
            error = refusal(work)
            assert error.status == 502
            assert "gallery_store" in str(error)
            assert "AccessDenied" in str(error)
            assert SECRET not in str(error)

    def test_when_its_connection_is_gone(
        self, remote: ObjectStoragePath, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        saved = save(remote)
        monkeypatch.delenv("AIRFLOW_CONN_GALLERY_STORE")
        error = refusal(lambda: read_saved(saved.entry))
        assert error.status == 502
        assert "'gallery_store'" in str(error)

    def test_when_it_sends_too_slowly(
        self, folder: ObjectStoragePath, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(verified_images, "READ_SECONDS", -1.0)
        assert refusal(lambda: opened(save(folder))).status == 504

    def test_and_so_is_a_full_disk_of_the_api_server(self, folder: ObjectStoragePath) -> None:
        saved = save(folder, picture(size=(8, 8)))
        with files_limited_to(10):
            error = refusal(lambda: opened(saved))
        assert error.status == 503
        assert "temporary folder" in str(error)


class TestAStoreIsToldFromOthers:
    @pytest.mark.parametrize(
        ("path", "store"),
        [
            ("s3://conn@bucket/a/b.png", "s3://conn@bucket"),
            ("s3://bucket", "s3://bucket"),
            ("file:///data/images", "file://"),
            ("/data/images/a.png", "file://"),
            (" /other/images", "file://"),
        ],
    )
    def test_by_scheme_connection_and_bucket(self, path: str, store: str) -> None:
        assert name_store(path) == store

    def test_although_no_store_can_be_opened_by_it(self) -> None:
        assert name_store("no/../place/at/all") == "no/../place"


@contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """Tells, afterwards, the most memory in bytes that Python took within."""
    tracemalloc.start()
    peaks: list[int] = []
    try:
        yield lambda: peaks[0]
    finally:
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()


def within_seconds(work: Callable[[], T], seconds: float = 20) -> T:
    """What work returns, where it could hang."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(seconds)
