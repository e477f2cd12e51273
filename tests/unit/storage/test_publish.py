from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_seedream.errors import DestinationError
from airflow_provider_seedream.storage.errors import StorageError
from airflow_provider_seedream.storage.files import place, read
from airflow_provider_seedream.storage.manifest import Manifest, SavedImage, read_manifest, write_manifest
from airflow_provider_seedream.storage.publish import discard_images, find_unpublished, publish_images
from tests.support.files import everything

MANIFEST = "task_1-manifest.json"
CONTENTS = [b"first image", b"the second one", b"third"]


def write(path: ObjectStoragePath, content: bytes, scratch: Path) -> None:
    local = scratch / "content"
    local.write_bytes(content)
    place(local, path)


def saved_image(folder: ObjectStoragePath, index: int, content: bytes) -> SavedImage:
    name = f"task_1-{index}.png"
    digest = hashlib.sha256(content).hexdigest()
    return SavedImage(
        index=index, path=str(folder / name), name=name, url="https://x.example/i.png", bytes=len(content),
        sha256=digest, format="png", width=1, height=1,
    )  # fmt: skip


@pytest.fixture
def result(destination: ObjectStoragePath, tmp_path: Path) -> dict[str, Any]:
    """What Generate returns for three saved images."""
    images = tuple(saved_image(destination, index, content) for index, content in enumerate(CONTENTS, 1))
    for image, content in zip(images, CONTENTS, strict=True):
        write(destination / image.name, content, tmp_path)
    manifest = Manifest(seedream_task_id="task_1", cost_usd=0.105, delivered=3, images=images)
    write_manifest(manifest, destination / MANIFEST)
    return {
        "seedream_task_id": "task_1",
        "manifest": str(destination / MANIFEST),
        "images": [asdict(image) for image in images],
    }


@pytest.fixture
def published(tmp_path: Path) -> ObjectStoragePath:
    return ObjectStoragePath(f"file://{tmp_path}/published")


def named(result: dict[str, Any], *indexes: int) -> dict[str, Any]:
    """Some of a result's images, by their names."""
    return {image["name"]: image for image in result["images"] if image["index"] in indexes}


class TestPublishedImages:
    def test_are_those_that_were_chosen_byte_by_byte(
        self, result: dict[str, Any], published: ObjectStoragePath
    ) -> None:
        paths = publish_images(named(result, 1, 3), published)
        assert paths == [str(published / "task_1-1.png"), str(published / "task_1-3.png")]
        assert [read(ObjectStoragePath(path), 100) for path in paths] == [CONTENTS[0], CONTENTS[2]]
        assert everything(published) == {"task_1-1.png", "task_1-3.png"}

    def test_have_the_names_that_were_wished(
        self, result: dict[str, Any], published: ObjectStoragePath
    ) -> None:
        publish_images({"shop/hero.png": result["images"][1]}, str(published))
        assert read(published / "shop" / "hero.png", 100) == CONTENTS[1]

    def test_replace_what_had_their_name(
        self, result: dict[str, Any], published: ObjectStoragePath, tmp_path: Path
    ) -> None:
        write(published / "task_1-1.png", b"last week's", tmp_path)
        publish_images(named(result, 1), published)
        assert read(published / "task_1-1.png", 100) == CONTENTS[0]

    def test_are_not_copied_again(
        self, result: dict[str, Any], published: ObjectStoragePath, destination: ObjectStoragePath
    ) -> None:
        paths = publish_images(named(result, 1, 2), published)
        # A second copy would have to read this.
        destination.fs.rm_file((destination / "task_1-1.png").path)
        assert publish_images(named(result, 1, 2), published) == paths

    def test_can_come_from_a_record_of_a_later_version(
        self, result: dict[str, Any], published: ObjectStoragePath
    ) -> None:
        image = {**result["images"][0], "colour_profile": "sRGB"}
        assert publish_images({"a.png": image}, published) == [str(published / "a.png")]


class TestAnImageThatCannotBePublished:
    def test_was_changed_since_it_was_saved(
        self,
        result: dict[str, Any],
        published: ObjectStoragePath,
        destination: ObjectStoragePath,
        tmp_path: Path,
    ) -> None:
        write(destination / "task_1-2.png", b"something else", tmp_path)
        with pytest.raises(StorageError, match=r"task_1-2\.png is not the image that was saved there"):
            publish_images(named(result, 2), published)
        assert everything(published) == set()

    def test_is_gone(
        self, result: dict[str, Any], published: ObjectStoragePath, destination: ObjectStoragePath
    ) -> None:
        destination.fs.rm_file((destination / "task_1-2.png").path)
        with pytest.raises(StorageError, match=r"could not read .*task_1-2\.png"):
            publish_images(named(result, 2), published)

    def test_has_no_place_to_go(self, result: dict[str, Any], tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(DestinationError, match="is a file"):
            publish_images(named(result, 1), f"file://{tmp_path}/file")


class TestWhatIsNotPublished:
    def test_is_what_is_missing_or_different(
        self, result: dict[str, Any], published: ObjectStoragePath, tmp_path: Path
    ) -> None:
        publish_images(named(result, 1), published)
        write(published / "task_1-2.png", b"last week's", tmp_path)
        assert find_unpublished(named(result, 1, 2, 3), published) == ["task_1-2.png", "task_1-3.png"]

    def test_is_everything_where_there_is_no_such_folder(
        self, result: dict[str, Any], published: ObjectStoragePath
    ) -> None:
        assert find_unpublished(named(result, 1), published) == ["task_1-1.png"]


class TestDiscardedImages:
    def test_are_deleted_and_no_longer_promised(
        self, result: dict[str, Any], destination: ObjectStoragePath, log: logging.Logger
    ) -> None:
        discard_images(result, [1, 3])
        assert everything(destination) == {"task_1-2.png", MANIFEST}
        manifest = read_manifest(destination / MANIFEST, log)
        assert manifest
        assert [image.index for image in manifest.images] == [2]
        assert (manifest.cost_usd, manifest.delivered) == (0.105, 3)

    def test_take_the_manifest_with_them_if_none_is_left(
        self, result: dict[str, Any], destination: ObjectStoragePath
    ) -> None:
        discard_images(result, [1, 2, 3])
        assert everything(destination) == set()

    def test_can_be_discarded_again(self, result: dict[str, Any], destination: ObjectStoragePath) -> None:
        discard_images(result, [1])
        discard_images(result, [1])
        discard_images(result, [1, 2, 3])
        discard_images(result, [1, 2, 3])
        assert everything(destination) == set()

    def test_are_gone_from_the_manifest_first(
        self, result: dict[str, Any], destination: ObjectStoragePath, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def killed(path: ObjectStoragePath) -> None:
            raise StorageError(f"could not delete {path}")

        monkeypatch.setattr("airflow_provider_seedream.storage.publish.remove", killed)
        with pytest.raises(StorageError):
            discard_images(result, [1])
        assert b"task_1-1.png" not in (read(destination / MANIFEST, 10_000) or b"")

    def test_are_not_those_of_another_task_that_took_their_place(
        self, result: dict[str, Any], destination: ObjectStoragePath, log: logging.Logger
    ) -> None:
        manifest = read_manifest(destination / MANIFEST, log)
        assert manifest
        write_manifest(replace(manifest, seedream_task_id="task_2"), destination / MANIFEST)
        before = everything(destination)
        discard_images(result, [1])
        assert everything(destination) == before

    def test_are_not_files_that_somebody_has_changed(
        self, result: dict[str, Any], destination: ObjectStoragePath, tmp_path: Path
    ) -> None:
        write(destination / "task_1-1.png", b"retouched by hand", tmp_path)
        discard_images(result, [1, 2])
        assert everything(destination) == {"task_1-1.png", "task_1-3.png", MANIFEST}
