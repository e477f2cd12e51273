"""Does the whole job: saves a finished task's images and their manifest once, however often it is run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_seedream.apixo.model import Size
from airflow_provider_seedream.storage.fetch import DEFAULT_LIMITS, DownloadLimits, Fetcher
from airflow_provider_seedream.storage.files import holds, remove, sweep
from airflow_provider_seedream.storage.manifest import (
    Manifest,
    SavedImage,
    TaskRecord,
    read_manifest,
    write_manifest,
)
from airflow_provider_seedream.storage.naming import DEFAULT_TEMPLATE, FileNames, check_template
from airflow_provider_seedream.storage.placing import DEFAULT_PARALLEL, save_images
from airflow_provider_seedream.times import to_iso

if TYPE_CHECKING:
    from airflow.sdk.types import Logger


def save_task(
    task: TaskRecord,
    urls: Sequence[str],
    destination: ObjectStoragePath,
    *,
    template: str = DEFAULT_TEMPLATE,
    expected_size: Size | None = None,
    trusted_origin: str | None = None,
    limits: DownloadLimits = DEFAULT_LIMITS,
    parallel: int = DEFAULT_PARALLEL,
    now: Callable[[], float] = time.time,
    log: Logger,
) -> Manifest:
    """Save a task's images and, last, its manifest.

    Images that a manifest of this task vouches for and that are still intact are kept; the rest is fetched.
    A manifest of another task, under a template without ``{seedream_task_id}``, is deleted before the first
    image is replaced. So a manifest that exists is always a promise that its images do.

    :param task: what is known of the task.
    :param urls: result URLs, in the API's order.
    :param template: the images' names, see :func:`~.naming.check_template`.
    :param expected_size: width and height in pixels that every image must have; ``None`` accepts any.
    :param trusted_origin: such as ``http://127.0.0.1:8765``: the only origin that may be fetched without
        TLS or from a private address; given only when the API itself is on this machine.
    :param limits: of each download.
    :param parallel: downloads at once.
    :param now: epoch seconds, for ``saved_at``.
    :raises InvalidRequestError: if the template breaks a rule.
    :raises DownloadError: if not all images could be saved; those that could be are in place, and no
        manifest is written.
    """
    check_template(template, len(urls))
    names = FileNames(template, task.seedream_task_id, task.fingerprint)
    manifest_path = destination / names.manifest
    former = read_manifest(manifest_path, log)
    ours = former is not None and former.seedream_task_id == task.seedream_task_id
    kept = find_intact_images(former, destination, names) if former and ours else {}
    missing = {index: url for index, url in enumerate(urls, 1) if index not in kept}
    if former and not missing:
        log.info("All %d images of task %s are in place and intact", len(urls), task.seedream_task_id)
        return replace(former, images=_sort_by_index(kept))

    @cache  # once it has been made
    def make_room() -> None:
        sweep(destination, names.list_possible(len(urls)))
        if ours:
            return
        if former:
            log.info("Replacing the images of task %s", former.seedream_task_id)
        # One that cannot be read goes, too: it may be a later version's promise.
        remove(manifest_path)

    with Fetcher(trusted_origin=trusted_origin, limits=limits, log=log) as fetcher:
        fetched = save_images(
            missing,
            destination,
            names=names,
            fetcher=fetcher,
            expected_size=expected_size,
            parallel=parallel,
            make_room=make_room,
            log=log,
        )
    images = _sort_by_index(kept | {image.index: image for image in fetched})
    manifest = Manifest.of(replace(task, delivered=len(urls)), images, to_iso(now()))
    write_manifest(manifest, manifest_path)
    return manifest


def find_intact_images(
    manifest: Manifest, destination: ObjectStoragePath, names: FileNames
) -> dict[int, SavedImage]:
    """Return the manifest's images, by index, that lie under their names with size and hash unchanged.

    Every file is read back whole, as a stream.

    :raises StorageError: if the store cannot tell.
    """
    return {
        image.index: replace(image, path=str(destination / image.name))
        for image in manifest.images
        if image.name == names.name_image(image.index, image.name.rpartition(".")[2])
        and holds(destination / image.name, image.bytes, image.sha256)
    }


def _sort_by_index(images: dict[int, SavedImage]) -> tuple[SavedImage, ...]:
    return tuple(images[index] for index in sorted(images))
