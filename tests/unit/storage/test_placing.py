from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_seedream.errors import DownloadError, ResultExpiredError
from airflow_provider_seedream.storage import placing
from airflow_provider_seedream.storage.errors import StorageError
from airflow_provider_seedream.storage.fetch import DownloadLimits, Fetcher
from airflow_provider_seedream.storage.files import read
from airflow_provider_seedream.storage.manifest import SavedImage
from airflow_provider_seedream.storage.naming import DEFAULT_TEMPLATE, FileNames
from airflow_provider_seedream.storage.placing import save_images
from tests.support.files import everything, visible
from tests.support.image_host import Handler, ImageHost, Resource, picture, status

Save = Callable[..., list[SavedImage]]


@pytest.fixture
def save(host: ImageHost, log: logging.Logger) -> Save:
    """Save URLs of the trusted host as task_1, without pauses between attempts."""

    def run(urls: list[str], destination: ObjectStoragePath, **options: Any) -> list[SavedImage]:
        names = FileNames(DEFAULT_TEMPLATE, "task_1")
        options = {"names": names, "make_room": lambda: None, **options}
        with Fetcher(trusted_origin=host.origin, limits=DownloadLimits(backoff=0), log=log) as fetcher:
            return save_images(dict(enumerate(urls, 1)), destination, fetcher=fetcher, log=log, **options)

    return run


def three(host: ImageHost, *faults: Callable[[Handler, Resource], None]) -> list[str]:
    """Three results; the second one is served with faults."""
    return [host.put("/1.png"), host.put("/2.png", None, *faults), host.put("/3.png")]


class TestImagesArrive:
    def test_in_the_order_of_the_result_though_they_come_in_another(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath
    ) -> None:
        third_is_there = threading.Event()

        def wait_for_the_third(handler: Handler, resource: Resource) -> None:
            third_is_there.wait(20)
            handler.serve(resource)

        def serve_and_tell(handler: Handler, resource: Resource) -> None:
            handler.serve(resource)
            third_is_there.set()

        urls = three(host)
        host.resources["/1.png"].faults.append(wait_for_the_third)
        host.resources["/3.png"].faults.append(serve_and_tell)
        saved = save(urls, destination)
        assert [(image.index, image.name) for image in saved] == [
            (1, "task_1-1.png"), (2, "task_1-2.png"), (3, "task_1-3.png")
        ]  # fmt: skip
        assert read(destination / "task_1-1.png", 10**7) == host.body("/1.png")

    def test_several_are_fetched_at_once(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath
    ) -> None:
        together = threading.Barrier(3, timeout=20)

        def wait_for_the_others(handler: Handler, resource: Resource) -> None:
            together.wait()
            handler.serve(resource)

        urls = [host.put(f"/{number}.png", None, wait_for_the_others) for number in (1, 2, 3)]
        save(urls, destination, parallel=3)
        assert not together.broken


class TestRoomIsMade:
    def test_before_the_first_image_is_placed(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath
    ) -> None:
        there: list[set[str]] = []
        save(three(host), destination, make_room=lambda: there.append(everything(destination)))
        assert there[0] == set()

    def test_for_nothing_where_no_image_comes(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath
    ) -> None:
        with pytest.raises(ResultExpiredError):
            save([host.origin + "/gone.png"], destination, make_room=lambda: pytest.fail("room was made"))

    def test_or_nothing_is_placed(self, host: ImageHost, save: Save, destination: ObjectStoragePath) -> None:
        def fail() -> None:
            raise StorageError("could not delete the manifest")

        with pytest.raises(DownloadError, match="0 of 3 images saved.*could not delete the manifest"):
            save(three(host), destination, make_room=fail)
        assert everything(destination) == set()


class TestAnImageThatDoesNotComeCostsNoOther:
    def test_a_wrong_size_is_fetched_once_more_and_then_refused(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath
    ) -> None:
        url = host.put("/1.png", picture(size=(40, 30)))
        with pytest.raises(DownloadError, match="40x30 came, but 2048x2048 was ordered"):
            save([url], destination, expected_size=(2048, 2048))
        assert len(host.requests) == 2
        assert everything(destination) == set()

    def test_an_expired_image_says_so_and_that_no_retry_helps(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath
    ) -> None:
        urls = three(host, status(410))
        with pytest.raises(ResultExpiredError, match=r"2 of 3 images saved .*HTTP 410") as expired:
            save(urls, destination)
        assert not expired.value.retryable

    def test_a_retry_may_help_if_it_may_help_one_of_them(
        self, host: ImageHost, save: Save, destination: ObjectStoragePath
    ) -> None:
        urls = [host.put("/1.png", None, status(410)), host.put("/2.png", None, *[status(503)] * 4)]
        with pytest.raises(DownloadError, match=r"Image 1 .*HTTP 410.* Image 2 .*HTTP 503") as failed:
            save(urls, destination)
        assert failed.value.retryable

    def test_a_full_disk_is_named_with_what_is_saved_already(
        self, host: ImageHost, save: Save, folder: ObjectStoragePath, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.fsync

        def full(handle: int) -> None:
            if len(visible(folder)) == 2:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(handle)

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(
            DownloadError, match=r"2 of 3 images saved.*could not write file://.*No space left"
        ):
            save(three(host), folder, parallel=1)
        assert len(everything(folder)) == 2


class TestATaskThatIsInterruptedEnds:
    def test_without_waiting_for_its_downloads(
        self, host: ImageHost, save: Save, folder: ObjectStoragePath, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(local: Path, target: ObjectStoragePath) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(placing, "place", interrupted)
        urls = [host.put("/1.png"), host.put("/2.png", None, *[status(429, Retry_After="20")] * 4)]
        with pytest.raises(KeyboardInterrupt):
            save(urls, folder)
        assert [path for path, _ in host.requests].count("/2.png") <= 1
        assert everything(folder) == set()
