"""Carries out a decision on saved images: copies them to where they are published, or deletes them."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_seedream.storage.destination import check_writable, resolve_destination
from airflow_provider_seedream.storage.errors import StorageError
from airflow_provider_seedream.storage.files import holds, place, read_blocks, remove
from airflow_provider_seedream.storage.manifest import Manifest, SavedImage, read_manifest, write_manifest
from airflow_provider_seedream.storage.scratch import make_scratch_folder

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

# In a task, what is said here stands in the task's log.
log = cast("Logger", logging.getLogger(__name__))


def publish_images(
    images: Mapping[str, Mapping[str, Any]],
    destination: str | ObjectStoragePath,
    storage_conn_id: str | None = None,
) -> list[str]:
    """Copy saved images to another place, each verified; one that is there already is not copied again.

    :param images: items of ``images`` of a result record, by the name that each shall have below the
        destination, extension included.
    :param destination: folder as an ``ObjectStoragePath`` or its string, in any store.
    :param storage_conn_id: connection of the destination, where the path names none.
    :returns: the paths of all these images there, in the same order.
    :raises DestinationError: the destination cannot be written.
    :raises StorageError: an image is gone or changed, or could not be copied; never is half of one visible.
    """
    folder = resolve_destination(destination, storage_conn_id)
    check_writable(folder)
    for name, image in _find_missing(images, folder):
        _copy(image, folder / name)
        log.info("Published %s as %s", image.path, folder / name)
    return [str(folder / name) for name in images]


def find_unpublished(
    images: Mapping[str, Mapping[str, Any]],
    destination: str | ObjectStoragePath,
    storage_conn_id: str | None = None,
) -> list[str]:
    """Return the names of those images that :func:`publish_images` would copy; the parameters are the same.

    :raises StorageError: the store cannot tell.
    """
    folder = resolve_destination(destination, storage_conn_id)
    return [name for name, _ in _find_missing(images, folder)]


def discard_images(result: Mapping[str, Any], indexes: Collection[int]) -> None:
    """Delete some of a result's images.

    The manifest, a promise that its images exist, is corrected before the first one goes, and deleted if none
    is left. Images that were changed since, or replaced by another task's, are left alone.

    :param result: a result record with ``images`` and ``manifest``.
    :param indexes: positions in the result, from 1.
    :raises StorageError: something could not be deleted; it may be called again.
    """
    path = ObjectStoragePath(result["manifest"])
    manifest = read_manifest(path, log)
    if manifest and manifest.seedream_task_id != result["seedream_task_id"]:
        log.info("Discarding nothing: the images of task %s have been replaced", result["seedream_task_id"])
        return
    if manifest:
        _shorten_manifest(manifest, path, indexes)
    for image in map(_read_image, result["images"]):
        target = ObjectStoragePath(image.path)
        if image.index in indexes and holds(target, image.bytes, image.sha256):
            remove(target)
            log.info("Deleted %s", target)


def _find_missing(
    images: Mapping[str, Mapping[str, Any]], folder: ObjectStoragePath
) -> Iterator[tuple[str, SavedImage]]:
    for name, record in images.items():
        image = _read_image(record)
        if not holds(folder / name, image.bytes, image.sha256):
            yield name, image


def _read_image(record: Mapping[str, Any]) -> SavedImage:
    """Read an item of a result record, which another version of this provider may have written."""
    return SavedImage(**{field.name: record[field.name] for field in fields(SavedImage)})


def _copy(image: SavedImage, target: ObjectStoragePath) -> None:
    with make_scratch_folder() as folder:
        # Object stores derive the content type from the local file's extension.
        local = folder / f"image{PurePosixPath(image.name).suffix}"
        with local.open("wb") as file:
            file.writelines(read_blocks(ObjectStoragePath(image.path)))
        if not holds(ObjectStoragePath(local.as_uri()), image.bytes, image.sha256):
            raise StorageError(f"{image.path} is not the image that was saved there: its hash has changed")
        place(local, target)
    if not holds(target, image.bytes, image.sha256):
        raise StorageError(f"{target} does not hold what was written to it")


def _shorten_manifest(manifest: Manifest, path: ObjectStoragePath, discarded: Collection[int]) -> None:
    left = tuple(image for image in manifest.images if image.index not in discarded)
    if not left:
        remove(path)
    elif left != manifest.images:
        write_manifest(replace(manifest, images=left), path)
