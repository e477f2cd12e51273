from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pendulum
import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath
from fsspec.implementations.memory import MemoryFileSystem

from airflow_provider_seedream.errors import DestinationError
from airflow_provider_seedream.storage import reuse
from airflow_provider_seedream.storage.fetch import DownloadLimits
from airflow_provider_seedream.storage.manifest import SCHEMA, Manifest, TaskRecord
from airflow_provider_seedream.storage.naming import DEFAULT_TEMPLATE
from airflow_provider_seedream.storage.reuse import find_finished, find_occupant
from airflow_provider_seedream.storage.save import save_task
from tests.support.files import everything
from tests.support.image_host import ImageHost, flipped
from tests.support.stores import UnreachableStore, attach_store

ASKED = "a" * 64
OTHER = "b" * 64
FIXED = "hero-{index}"
BY_REQUEST = "{fingerprint}/{index}"
BY_FOLDER = "catalog/{seedream_task_id}/{index:02d}"
TEMPLATES = [DEFAULT_TEMPLATE, FIXED, BY_REQUEST, BY_FOLDER]

Save = Callable[..., Manifest]
Find = Callable[..., Manifest | None]


@pytest.fixture
def save(host: ImageHost, destination: ObjectStoragePath, log: logging.Logger) -> Save:
    """Save a task of two images, as Generate does."""

    def run(
        task_id: str = "task_1", fingerprint: str = ASKED, template: str = DEFAULT_TEMPLATE, **options: Any
    ) -> Manifest:
        urls = [host.put(f"/{task_id}-{number}.png") for number in (1, 2)]
        task = TaskRecord(seedream_task_id=task_id, fingerprint=fingerprint)
        options = {"limits": DownloadLimits(backoff=0), "trusted_origin": host.origin, **options}
        return save_task(task, urls, destination, template=template, log=log, **options)

    return run


@pytest.fixture
def find(destination: ObjectStoragePath, log: logging.Logger) -> Find:
    def run(template: str = DEFAULT_TEMPLATE, fingerprint: str = ASKED, **options: Any) -> Manifest | None:
        return find_finished(destination, template, fingerprint, log=log, **options)

    return run


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The manifests that are read, by name."""
    seen: list[str] = []
    real = reuse.read_manifest

    def recording(path: ObjectStoragePath, log: logging.Logger) -> Manifest | None:
        seen.append(path.name)
        return real(path, log)

    monkeypatch.setattr(reuse, "read_manifest", recording)
    return seen


def edit(path: ObjectStoragePath, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest where it lies."""
    record = json.loads(path.fs.cat_file(path.path))
    change(record)
    path.fs.pipe_file(path.path, json.dumps(record).encode())


class TestTheSameRequestIsFoundAgain:
    @pytest.mark.parametrize("template", TEMPLATES)
    def test_under_every_kind_of_name(self, save: Save, find: Find, template: str) -> None:
        saved = save(template=template)
        assert find(template) == saved

    @pytest.mark.parametrize("template", TEMPLATES)
    def test_and_another_request_is_not_taken_for_it(self, save: Save, find: Find, template: str) -> None:
        save(fingerprint=OTHER, template=template)
        assert find(template) is None

    def test_among_other_requests_and_other_files(
        self, save: Save, find: Find, destination: ObjectStoragePath
    ) -> None:
        save("task_0", OTHER)
        saved = save("task_1")
        save("task_2", OTHER)
        destination.fs.pipe_file((destination / "notes-manifest.json").path, b"mine")
        assert find() == saved

    def test_beside_folders_that_are_called_like_manifests_and_files_like_folders(
        self, save: Save, find: Find, destination: ObjectStoragePath
    ) -> None:
        for template, other in (
            (DEFAULT_TEMPLATE, "task_0-manifest.json/mine.txt"),
            (BY_FOLDER, "catalog/notes"),
        ):
            saved = save(template=template)
            (destination / other).parent.mkdir(parents=True, exist_ok=True)
            destination.fs.pipe_file((destination / other).path, b"mine")
            assert find(template) == saved

    @pytest.mark.parametrize("template", TEMPLATES)
    def test_in_a_destination_that_does_not_exist_yet_nothing_is(self, find: Find, template: str) -> None:
        assert find(template) is None

    @pytest.mark.parametrize("destination", ["folder"], indirect=True)
    def test_a_folder_that_was_moved_is_recognised(
        self, save: Save, tmp_path: Path, log: logging.Logger
    ) -> None:
        save()
        (tmp_path / "images").rename(tmp_path / "archive")
        archive = ObjectStoragePath(f"file://{tmp_path}/archive")
        found = find_finished(archive, DEFAULT_TEMPLATE, ASKED, log=log)
        assert found is not None
        assert all(ObjectStoragePath(image.path).exists() for image in found.images)

    def test_searching_changes_nothing(self, save: Save, find: Find, destination: ObjectStoragePath) -> None:
        save()
        before = everything(destination)
        find()
        assert everything(destination) == before


class TestTheNewestResultWins:
    @pytest.mark.parametrize("template", [DEFAULT_TEMPLATE, BY_FOLDER])
    def test_by_the_time_of_its_manifest(
        self, save: Save, find: Find, destination: ObjectStoragePath, template: str
    ) -> None:
        ids = ["task_3", "task_9", "task_1"]
        for age, task_id in enumerate(ids):
            save(task_id, template=template)
            set_age(destination, task_id, age)
        assert found_id(find(template)) == ids[0]

    def test_an_older_one_serves_where_the_newest_is_damaged(
        self, save: Save, find: Find, destination: ObjectStoragePath
    ) -> None:
        for age, task_id in enumerate(["new", "old"]):
            save(task_id)
            set_age(destination, task_id, age)
        (destination / "new-1.png").unlink()
        assert found_id(find()) == "old"


class TestWhatIsNotWholeIsNotReused:
    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param(lambda body: None, id="deleted"),
            pytest.param(lambda body: body[:-1], id="cut"),
            pytest.param(flipped, id="flipped"),
        ],
    )
    @pytest.mark.parametrize("template", TEMPLATES)
    def test_an_image_that_is_gone_or_changed(
        self,
        save: Save,
        find: Find,
        template: str,
        damage: Callable[[bytes], bytes | None],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO)
        image = save(template=template).images[1]
        path = ObjectStoragePath(image.path)
        damaged = damage(path.read_bytes())
        path.unlink() if damaged is None else path.fs.pipe_file(path.path, damaged)
        assert find(template) is None
        assert f"records the same request, but these images are gone or changed: {image.name}" in caplog.text

    @pytest.mark.parametrize(
        ("change", "says"),
        [
            ({"schema": SCHEMA + 1}, f"its schema {SCHEMA + 1} is newer"),
            ({"images": []}, "it has 0 images, and 1 are needed"),
            ({"seedream_task_id": "task_2"}, "task task_2 would have its manifest at task_2-manifest.json"),
        ],
    )
    def test_a_manifest_that_cannot_be_trusted(
        self,
        save: Save,
        find: Find,
        destination: ObjectStoragePath,
        change: dict[str, Any],
        says: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO)
        save()
        edit(destination / "task_1-manifest.json", lambda record: record.update(change))
        assert find() is None
        assert says in caplog.text

    @pytest.mark.parametrize("template", [DEFAULT_TEMPLATE, FIXED])
    def test_a_broken_manifest_is_passed_over_and_named(
        self,
        save: Save,
        find: Find,
        destination: ObjectStoragePath,
        template: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        save(template=template)
        name = "hero-manifest.json" if template == FIXED else "task_1-manifest.json"
        destination.fs.pipe_file((destination / name).path, b"{")
        assert find(template) is None
        assert f"{name} is broken" in caplog.text

    def test_images_elsewhere_cannot_be_passed_off(
        self, save: Save, find: Find, destination: ObjectStoragePath
    ) -> None:
        save("task_2", OTHER)
        save("task_1")

        def point_elsewhere(record: dict[str, Any]) -> None:
            record["images"][0]["name"] = "../secret.png"

        edit(destination / "task_1-manifest.json", point_elsewhere)
        assert find() is None

    def test_fewer_images_than_are_needed(self, save: Save, find: Find) -> None:
        saved = save()
        assert find(min_images=2) == saved
        assert find(min_images=3) is None


class TestTheSearchIsCheapAndBounded:
    @pytest.mark.parametrize("template", [FIXED, BY_REQUEST])
    def test_one_read_where_the_name_is_known(
        self,
        save: Save,
        find: Find,
        reads: list[str],
        template: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        save(template=template)
        monkeypatch.setattr(reuse, "list_folder", pytest.fail)
        assert find(template) is not None
        assert len(reads) == 1

    def test_other_requests_are_not_even_read_where_the_name_tells_them_apart(
        self, save: Save, find: Find, reads: list[str]
    ) -> None:
        template = "{fingerprint}-{seedream_task_id}-{index}"
        for number in range(5):
            save(f"task_{number}", OTHER, template)
        save("task_9", ASKED, template)
        assert found_id(find(template)) == "task_9"
        assert len(reads) == 1

    def test_no_more_manifests_are_read_than_the_bound_and_the_log_says_so(
        self,
        save: Save,
        find: Find,
        destination: ObjectStoragePath,
        reads: list[str],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(reuse, "MAX_MANIFESTS", 3)
        for number in range(5):
            save(f"task_{number}", ASKED if number == 0 else OTHER)
            set_age(destination, f"task_{number}", 5 - number)
        assert find() is None
        assert reads == [f"task_{number}-manifest.json" for number in (4, 3, 2)]
        assert "an earlier result in 3 of 5 places, newest first" in caplog.text

    def test_the_newest_is_read_first_and_then_no_other(
        self, save: Save, find: Find, destination: ObjectStoragePath, reads: list[str]
    ) -> None:
        for number in range(4):
            save(f"task_{number}")
            set_age(destination, f"task_{number}", number)
        assert found_id(find()) == "task_0"
        assert reads == ["task_0-manifest.json"]


class TestTheSearchStaysInTheDestination:
    def test_folders_that_the_template_cannot_make_are_not_entered(
        self, save: Save, find: Find, destination: ObjectStoragePath, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        entered: list[str] = []
        real = reuse.list_folder

        def recording(folder: ObjectStoragePath) -> Any:
            entered.append(str(folder).removeprefix(str(destination)))
            return real(folder)

        monkeypatch.setattr(reuse, "list_folder", recording)
        save(template=BY_FOLDER)
        for other in ("private/x.json", "catalog/with space/manifest.json", "catalog/.hidden/manifest.json"):
            (destination / other).parent.mkdir(parents=True, exist_ok=True)
            destination.fs.pipe_file((destination / other).path, b"mine")
        assert find(BY_FOLDER) is not None
        assert entered == ["", "/catalog", "/catalog/task_1"]

    @pytest.mark.parametrize("odd", ["a[1]b", "sale *", "what?", "{x}"])
    def test_a_destination_may_hold_what_a_glob_would_read_otherwise(
        self, host: ImageHost, tmp_path: Path, log: logging.Logger, odd: str
    ) -> None:
        destination = ObjectStoragePath(f"file://{tmp_path}/{odd}")
        task = TaskRecord(seedream_task_id="task_1", fingerprint=ASKED)
        save_task(task, [host.put("/1.png")], destination, trusted_origin=host.origin, log=log)
        assert found_id(find_finished(destination, DEFAULT_TEMPLATE, ASKED, log=log)) == "task_1"
        sibling = ObjectStoragePath(f"file://{tmp_path}/a1b")
        assert find_finished(sibling, DEFAULT_TEMPLATE, ASKED, log=log) is None


class TestAStoreThatCannotTellIsNotTakenForAnEmptyOne:
    @pytest.mark.parametrize("template", [DEFAULT_TEMPLATE, FIXED])
    def test_nothing_is_bought_then(self, template: str, log: logging.Logger) -> None:
        destination = attach_store("memory", "reuse_down", UnreachableStore())
        for search in (
            lambda: find_finished(destination, template, ASKED, log=log),
            lambda: find_occupant(destination, template, ASKED, images=1, log=log),
        ):
            with pytest.raises(DestinationError, match="connection refused.*Nothing was bought") as refused:
                search()
            assert refused.value.retryable


class TestWhatIsInTheWayIsNamedBeforeThePurchase:
    @pytest.mark.parametrize("name", ["hero-manifest.json", "hero-1.png", "hero-2.webp"])
    def test_anything_under_a_name_that_would_be_written(
        self, destination: ObjectStoragePath, log: logging.Logger, name: str
    ) -> None:
        destination.mkdir(parents=True)
        destination.fs.pipe_file((destination / name).path, b"mine")
        assert find_occupant(destination, FIXED, ASKED, images=2, log=log) == str(destination / name)

    def test_nothing_else_is(self, destination: ObjectStoragePath, log: logging.Logger) -> None:
        destination.mkdir(parents=True)
        for name in ("hero-3.png", "hero-1.tiff", "zero-1.png"):
            destination.fs.pipe_file((destination / name).path, b"mine")
        assert find_occupant(destination, FIXED, ASKED, images=2, log=log) is None

    @pytest.mark.parametrize("template", [DEFAULT_TEMPLATE, BY_FOLDER])
    def test_where_nothing_can_be_overwritten_it_is_the_same_request(
        self, save: Save, destination: ObjectStoragePath, log: logging.Logger, template: str
    ) -> None:
        save("task_1", OTHER, template)
        assert find_occupant(destination, template, ASKED, images=2, log=log) is None
        save("task_2", ASKED, template)
        occupant = find_occupant(destination, template, ASKED, images=2, log=log)
        assert occupant is not None
        assert json.loads(ObjectStoragePath(occupant).read_bytes())["seedream_task_id"] == "task_2"


class TestARefreshUnderTheRequestsNameReplacesItself:
    def test_images_and_manifest_lie_under_the_fingerprint(
        self, save: Save, destination: ObjectStoragePath
    ) -> None:
        save("task_1", template=BY_REQUEST)
        manifest = save("task_2", template=BY_REQUEST)
        folder = ASKED[:16]
        assert everything(destination) == {f"{folder}/1.png", f"{folder}/2.png", f"{folder}/manifest.json"}
        assert manifest.images[0].name == f"{folder}/1.png"


def found_id(manifest: Manifest | None) -> str | None:
    return manifest.seedream_task_id if manifest else None


def set_age(destination: ObjectStoragePath, task_id: str, age: int) -> None:
    """Date a task's files back by so many hours."""
    fs = destination.fs
    for path in fs.find(destination.path):
        if task_id not in path:
            continue
        if isinstance(fs, MemoryFileSystem):
            fs.store[path].created = pendulum.now("UTC").subtract(hours=age)
        else:
            os.utime(path, (1e9 - 3600 * age, 1e9 - 3600 * age))
