"""Fetches a task's images, several at once, and places those that are whole, one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_seedream.apixo.model import Size
from airflow_provider_seedream.apixo.text import hide_secrets
from airflow_provider_seedream.errors import DownloadError, ResultExpiredError
from airflow_provider_seedream.storage.fetch import Fetcher
from airflow_provider_seedream.storage.files import place
from airflow_provider_seedream.storage.inspection import ImageFacts, inspect_image
from airflow_provider_seedream.storage.manifest import SavedImage
from airflow_provider_seedream.storage.naming import FileNames
from airflow_provider_seedream.storage.scratch import make_scratch_folder
from airflow_provider_seedream.storage.url_policy import remove_query

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

DEFAULT_PARALLEL = 4


@dataclass(frozen=True, slots=True)
class _Fetched:
    """A verified image on this worker's disk."""

    local: Path
    facts: ImageFacts


def save_images(
    urls: Mapping[int, str],
    destination: ObjectStoragePath,
    *,
    names: FileNames,
    fetcher: Fetcher,
    expected_size: Size | None = None,
    parallel: int = DEFAULT_PARALLEL,
    make_room: Callable[[], None],
    log: Logger,
) -> list[SavedImage]:
    """Fetch, verify and place images; a failing one does not keep the others from being saved.

    Downloads run in threads. Placing is done by the calling thread, one image at a time: few file systems
    promise to bear several.

    :param urls: result URLs by their position in the task's result, from 1.
    :param expected_size: width and height in pixels that every image must have.
    :param parallel: downloads at once.
    :param make_room: called before each image is placed.
    :returns: the images in the order of their index.
    :raises DownloadError: naming what was saved, and why the rest was not; a ``ResultExpiredError`` if no
        retry can bring the rest because the result host no longer has it.
    """
    saved: dict[int, SavedImage] = {}
    failures: dict[int, DownloadError] = {}
    with _start_workers(parallel, fetcher) as (pool, folder):
        jobs = {
            pool.submit(_fetch, fetcher, url, folder / str(index), expected_size): index
            for index, url in urls.items()
        }
        for job in as_completed(jobs):
            index = jobs[job]
            try:
                fetched = job.result()
                make_room()
                saved[index] = _place(fetched, index, urls[index], destination, names)
                _report(saved[index], log)
            except DownloadError as error:
                failures[index] = error
                log.warning("Image %d was not saved: %s", index, error)
    if failures:
        raise _make_error(urls, saved, failures)
    return [saved[index] for index in sorted(saved)]


@contextmanager
def _start_workers(parallel: int, fetcher: Fetcher) -> Iterator[tuple[ThreadPoolExecutor, Path]]:
    """Start threads with a folder to fetch into; a task that is told to stop does not wait for them."""
    with make_scratch_folder() as folder:
        pool = ThreadPoolExecutor(parallel, thread_name_prefix="seedream-download")
        try:
            yield pool, folder
        except BaseException:
            fetcher.stop()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _fetch(fetcher: Fetcher, url: str, local: Path, expected_size: Size | None) -> _Fetched:
    facts = fetcher.fetch(url, local, lambda path: inspect_image(path, expected_size))
    # Object stores derive the content type from the local file's extension.
    return _Fetched(local.rename(local.with_suffix(f".{facts.extension}")), facts)


def _place(
    fetched: _Fetched, index: int, url: str, destination: ObjectStoragePath, names: FileNames
) -> SavedImage:
    facts = fetched.facts
    name = names.name_image(index, facts.extension)
    target = destination / name
    place(fetched.local, target)
    fetched.local.unlink()
    return SavedImage(
        index=index,
        path=str(target),
        name=name,
        url=remove_query(url),
        bytes=facts.bytes,
        sha256=facts.sha256,
        format=facts.format,
        width=facts.width,
        height=facts.height,
    )


def _report(image: SavedImage, log: Logger) -> None:
    log.info(
        "Saved image %d: %s (%dx%d, %s, %d bytes)",
        image.index, image.path, image.width, image.height, image.format, image.bytes,
    )  # fmt: skip


def _make_error(
    urls: Mapping[int, str], saved: Mapping[int, SavedImage], failures: Mapping[int, DownloadError]
) -> DownloadError:
    """Return one error for all images that failed; a retry can help if it can help one of them."""
    there = ", ".join(saved[index].name for index in sorted(saved))
    details = " ".join(
        f"Image {index} ({hide_secrets(urls[index])}): {failures[index]}." for index in sorted(failures)
    )
    message = f"{len(saved)} of {len(urls)} images saved{f' ({there})' if there else ''}. {details}"
    errors = failures.values()
    if any(error.retryable for error in errors):
        return DownloadError(message)
    if any(isinstance(error, ResultExpiredError) for error in errors):
        return ResultExpiredError(message)
    return DownloadError(message, retryable=False)
