from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_seedream.errors import DownloadError, InvalidRequestError, ResultExpiredError
from airflow_provider_seedream.storage import placing
from airflow_provider_seedream.storage.errors import StorageError
from airflow_provider_seedream.storage.fetch import DownloadLimits
from airflow_provider_seedream.storage.files import place, read
from airflow_provider_seedream.storage.manifest import Manifest, TaskRecord
from airflow_provider_seedream.storage.save import save_task
from tests.support.files import everything, visible
from tests.support.image_host import (
    Fault,
    ImageHost,
    cut,
    flipped,
    instead,
    picture,
    status,
)

NOW = 1_795_000_000.0
MANIFEST = "task_1-manifest.json"

Save = Callable[..., Manifest]


@pytest.fixture
def save(host: ImageHost, log: logging.Logger) -> Save:
    """Save URLs of the trusted host as task_1, without pauses between attempts."""

    def run(
        urls: list[str], destination: ObjectStoragePath, task_id: str = "task_1", **options: Any
    ) -> Manifest:
        task = TaskRecord(seedream_task_id=task_id, requested=4, cost_usd=0.14)
        options = {
            "limits": DownloadLimits(backoff=0),
            "trusted_origin": host.origin,
            "now": lambda: NOW,
            **options,
        }
        return save_task(task, urls, destination, log=log, **options)

    return run


def three(host: ImageHost, *faults: Fault) -> list[str]:
    """Three results; the second one is served with faults."""
    return [host.put("/1.png"), host.put("/2.png", None, *faults), host.put("/3.png")]


class TestImagesAndManifestArrive:
    def test_under_their_names_and_byte_by_byte(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath
    ) -> None:
        manifest = save(three(host), destination)
        assert everything(destination) == {"task_1-1.png", "task_1-2.png", "task_1-3.png", MANIFEST}
        for image in manifest.images:
            assert read(ObjectStoragePath(image.path), 10**7) == host.body(f"/{image.index}.png")

    def test_the_manifest_says_what_was_saved(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath
    ) -> None:
        manifest = save([host.put("/a.png", picture(size=(40, 30))) + "?signature=secret"], destination)
        stored = json.loads(read(destination / MANIFEST, 10**6) or b"")
        assert Manifest.from_json(json.dumps(stored)) == manifest
        assert (stored["requested"], stored["delivered"], stored["cost_usd"]) == (4, 1, 0.14)
        assert stored["saved_at"] == "2026-11-18T11:06:40+00:00"
        image = stored["images"][0]
        assert (image["index"], image["name"], image["format"]) == (1, "task_1-1.png", "png")
        assert (image["width"], image["height"]) == (40, 30)
        assert image["bytes"] == len(host.body("/a.png"))
        assert image["url"] == f"{host.origin}/a.png"

    def test_the_name_follows_the_bytes_not_the_url(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath
    ) -> None:
        urls = [host.put("/1.png", picture("JPEG")), host.put("/2.png", picture("WEBP"))]
        assert [image.name for image in save(urls, destination).images] == ["task_1-1.jpg", "task_1-2.webp"]

    def test_a_template_may_make_folders(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath
    ) -> None:
        save(three(host), destination, template="{seedream_task_id}/{index:02d}")
        assert everything(destination) == {
            "task_1/01.png", "task_1/02.png", "task_1/03.png", "task_1/manifest.json"
        }  # fmt: skip

    def test_one_name_for_several_images_is_refused_before_anything_is_fetched(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath
    ) -> None:
        with pytest.raises(InvalidRequestError, match="3 images one name"):
            save(three(host), destination, template="hero")
        assert host.requests == []


class TestRunningItAgainDownloadsNothing:
    def test_no_request_and_no_write(self, host: ImageHost, save: Save, folder: ObjectStoragePath) -> None:
        first = save(three(host), folder)
        host.requests.clear()
        times = {file: file.stat().st_mtime_ns for file in Path(folder.path).iterdir()}
        again = save(three(host), folder, now=lambda: NOW + 1)
        assert host.requests == []
        assert again == first
        assert times == {file: file.stat().st_mtime_ns for file in Path(folder.path).iterdir()}

    @pytest.mark.parametrize(
        "damage",
        [
            pytest.param(lambda body: None, id="deleted"),
            pytest.param(lambda body: body[:-1], id="cut"),
            pytest.param(flipped, id="flipped"),
        ],
    )
    def test_only_what_is_missing_or_damaged_is_fetched(
        self,
        host: ImageHost,
        save: Save,
        destination: ObjectStoragePath,
        damage: Callable[[bytes], bytes | None],
    ) -> None:
        urls = three(host)
        first = save(urls, destination)
        target = destination / "task_1-2.png"
        damaged = damage(host.body("/2.png"))
        target.fs.rm_file(target.path)
        if damaged is not None:
            target.fs.pipe_file(target.path, damaged)
        host.requests.clear()
        assert save(urls, destination).images == first.images
        assert [path for path, _ in host.requests] == ["/2.png"]
        assert read(target, 10**7) == host.body("/2.png")

    def test_expired_urls_do_not_matter_then_and_do_not_cost_the_record(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath
    ) -> None:
        urls = three(host)
        first = save(urls, destination)
        host.resources.clear()
        assert save(urls, destination) == first
        target = destination / "task_1-2.png"
        target.fs.rm_file(target.path)
        with pytest.raises(ResultExpiredError):
            save(urls, destination)
        assert Manifest.from_json(read(destination / MANIFEST, 10**6) or b"") == first

    def test_a_folder_that_was_moved_is_recognised(
        self, host: ImageHost, save: Save, tmp_path: Path, folder: ObjectStoragePath
    ) -> None:
        urls = three(host)
        save(urls, folder)
        host.requests.clear()
        Path(folder.path).rename(tmp_path / "archive")
        archive = ObjectStoragePath(f"file://{tmp_path}/archive")
        images = save(urls, archive).images
        assert host.requests == []
        assert all(ObjectStoragePath(image.path).exists() for image in images)

    def test_a_manifest_cannot_pass_off_files_elsewhere(
        self, host: ImageHost, save: Save, tmp_path: Path, folder: ObjectStoragePath
    ) -> None:
        save(three(host), folder)
        manifest = Path(folder.path) / MANIFEST
        (tmp_path / "else.png").write_bytes(host.body("/1.png"))
        manifest.write_text(manifest.read_text().replace('"task_1-1.png"', '"../else.png"'))
        host.requests.clear()
        assert save(three(host), folder).images[0].name == "task_1-1.png"
        assert [path for path, _ in host.requests] == ["/1.png"]


class TestAFixedNameIsRefreshed:
    def test_the_new_task_takes_the_place_of_the_old(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath
    ) -> None:
        save(three(host), destination, "task_1", template="hero-{index}")
        manifest = save(three(host), destination, "task_2", template="hero-{index}")
        assert manifest.seedream_task_id == "task_2"
        assert read(destination / "hero-2.png", 10**7) == host.body("/2.png")

    def test_no_manifest_stands_beside_images_of_another_task(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save(three(host), destination, "task_1", template="hero-{index}")
        seen: list[bool] = []

        def recording(local: Path, target: ObjectStoragePath) -> None:
            seen.append("hero-manifest.json" in visible(destination))
            place(local, target)

        monkeypatch.setattr(placing, "place", recording)
        save(three(host), destination, "task_2", template="hero-{index}")
        assert seen == [False, False, False]

    def test_not_even_one_that_this_version_cannot_read(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath
    ) -> None:
        save(three(host), destination, "task_1", template="hero-{index}")
        path = destination / "hero-manifest.json"
        path.fs.pipe_file(path.path, b'{"schema": 99, "pictures": []}')
        with pytest.raises(ResultExpiredError):
            save(
                [host.put("/new.png"), host.origin + "/gone.png"],
                destination,
                "task_2",
                template="hero-{index}",
            )
        assert "hero-manifest.json" not in everything(destination)

    def test_room_is_made_once_and_not_before_the_first_image_has_come(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fetched_before: list[int] = []
        monkeypatch.setattr(
            "airflow_provider_seedream.storage.save.sweep",
            lambda *_: fetched_before.append(len(host.requests)),
        )
        save(three(host), destination, parallel=1)
        assert len(fetched_before) == 1
        assert fetched_before[0] >= 1

    def test_a_refresh_that_fetches_nothing_leaves_the_old_set_whole(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath
    ) -> None:
        old = save(three(host), destination, "task_1", template="hero-{index}")
        with pytest.raises(ResultExpiredError):
            save([host.origin + "/gone.png"] * 3, destination, "task_2", template="hero-{index}")
        assert Manifest.from_json(read(destination / "hero-manifest.json", 10**6) or b"") == old


class TestABadTransferEndsInAWholeImageOrNone:
    @pytest.mark.parametrize(
        "fault", [cut(3000), instead(b"<html>busy</html>"), instead(flipped(picture())), status(502)]
    )
    def test_a_passing_fault_is_survived(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath, fault: Fault
    ) -> None:
        save(three(host, fault), destination)
        assert read(destination / "task_1-2.png", 10**7) == host.body("/2.png")

    def test_a_lasting_fault_keeps_the_others_and_writes_no_manifest(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath
    ) -> None:
        urls = three(host, *[instead(flipped(picture()))] * 9)
        with pytest.raises(DownloadError) as failed:
            save(urls, destination)
        assert everything(destination) == {"task_1-1.png", "task_1-3.png"}
        message = str(failed.value)
        assert message.startswith("2 of 3 images saved (task_1-1.png, task_1-3.png). Image 2 (")
        assert f"{host.origin}/2.png" in message
        assert failed.value.retryable
        assert len(save(three(host), destination).images) == 3


class TestADestinationThatFailsOnTheWay:
    def test_a_manifest_that_cannot_be_written_is_an_error(
        self, host: ImageHost, save: Save, folder: ObjectStoragePath
    ) -> None:
        (Path(folder.path) / MANIFEST / "in the way").mkdir(parents=True)
        with pytest.raises(StorageError, match="manifest"):
            save(three(host), folder)

    def test_leftovers_of_a_killed_try_are_swept_up(
        self, host: ImageHost, save: Save, folder: ObjectStoragePath
    ) -> None:
        Path(folder.path).mkdir()
        for name in ("task_1-2.png", MANIFEST):
            (Path(folder.path) / f".{name}.part-0123456789abcdef").write_bytes(b"half")
        save(three(host), folder)
        assert everything(folder) == visible(folder)

    def test_in_every_folder_that_the_template_makes(
        self, host: ImageHost, save: Save, folder: ObjectStoragePath
    ) -> None:
        (Path(folder.path) / "2").mkdir(parents=True)
        (Path(folder.path) / "2/.hero.png.part-0123456789abcdef").write_bytes(b"half")
        save(three(host), folder, template="{index}/hero")
        assert everything(folder) == visible(folder)


class TestADagFileImportsItCheaply:
    def test_pillow_is_not_loaded(self) -> None:
        code = (
            "import sys, airflow_provider_seedream.storage.save as s;"
            "sys.exit('PIL' in sys.modules or 'aiohttp' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
