"""Finds what a request's images would repeat or overwrite, before they are bought."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import ObjectStoragePath

from airflow_provider_seedream.errors import DestinationError
from airflow_provider_seedream.storage.errors import StorageError
from airflow_provider_seedream.storage.files import exists, list_folder
from airflow_provider_seedream.storage.manifest import SCHEMA, Manifest, read_manifest
from airflow_provider_seedream.storage.naming import FileNames, depends_on_task, make_manifest_patterns
from airflow_provider_seedream.storage.save import find_intact_images

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

MAX_MANIFESTS = 500
"""Manifests, or folders on the way to them, that one search reads; each costs the store a request."""


def find_finished(
    destination: ObjectStoragePath, template: str, fingerprint: str, *, min_images: int = 1, log: Logger
) -> Manifest | None:
    """Return an earlier result of the same request whose images are all in place and unchanged, or ``None``.

    A template without ``{seedream_task_id}`` names one manifest, and that is read. Under any other, the
    folders that the template can make are listed, and at most ``MAX_MANIFESTS`` manifests are read, newest
    first where the store tells when a file changed. Images are read back whole and compared by their hash.

    :param template: a rendered one that passes :func:`~.naming.check_template`.
    :param fingerprint: of the request as it would be sent.
    :param min_images: an earlier result with fewer images is no result.
    :param log: told what was found, and why what seemed alike does not do.
    :returns: the manifest, with the images' paths as they are at this destination.
    :raises DestinationError: if the store cannot tell; it may be tried again.
    """
    with _refuse_before_purchase(destination):
        for path in _find_manifest_paths(destination, template, fingerprint, log):
            manifest = read_manifest(path, log)
            if manifest is None or manifest.fingerprint != fingerprint:
                continue
            try:
                finished = _verify(manifest, path, destination, template, min_images)
            except _UnfitError as unfit:
                log.info("%s records the same request, but %s", path, unfit)
                continue
            log.info("%s records the same request, and its %d images are intact", path, len(finished.images))
            return finished
    log.info("No finished images of this request lie in %s", destination)
    return None


def find_occupant(
    destination: ObjectStoragePath, template: str, fingerprint: str, *, images: int, log: Logger
) -> str | None:
    """Return the path of what is in the way of a request's images, or ``None``.

    Where the template holds no ``{seedream_task_id}``, that is anything under a name that the new task may
    write. Elsewhere nothing can be overwritten, and it is the manifest that :func:`find_finished` finds.

    :param template: a rendered one that passes :func:`~.naming.check_template`.
    :param fingerprint: of the request as it would be sent.
    :param images: the number of images that may come.
    :raises DestinationError: if the store cannot tell; it may be tried again.
    """
    if depends_on_task(template):
        finished = find_finished(destination, template, fingerprint, log=log)
        return str(destination / _make_names(finished, template).manifest) if finished else None
    with _refuse_before_purchase(destination):
        names = _make_names_without_id(template, fingerprint)
        targets = (destination / name for name in names.list_possible(images))
        return next((str(target) for target in targets if exists(target)), None)


class _UnfitError(Exception):
    """The reason for which a manifest of the same request cannot be the result."""


@contextmanager
def _refuse_before_purchase(destination: ObjectStoragePath) -> Iterator[None]:
    """Make a store that fails now another error than one that fails while paid images are saved."""
    try:
        yield
    except StorageError as error:
        what = f"Cannot search for earlier images in {destination}: {error}."
        raise DestinationError(what, "Nothing was bought.", retryable=True) from None


def _verify(
    manifest: Manifest,
    path: ObjectStoragePath,
    destination: ObjectStoragePath,
    template: str,
    min_images: int,
) -> Manifest:
    """Return the manifest, its images found intact; what costs nothing is checked first."""
    names = _make_names(manifest, template)
    if manifest.schema > SCHEMA:
        raise _UnfitError(f"its schema {manifest.schema} is newer than {SCHEMA}, the newest known here")
    if destination / names.manifest != path:
        raise _UnfitError(f"task {manifest.seedream_task_id} would have its manifest at {names.manifest}")
    if len(manifest.images) < max(1, min_images):
        raise _UnfitError(f"it has {len(manifest.images)} images, and {max(1, min_images)} are needed")
    intact = find_intact_images(manifest, destination, names)
    if lost := [image.name for image in manifest.images if image.index not in intact]:
        raise _UnfitError(f"these images are gone or changed: {', '.join(lost)}")
    return replace(manifest, images=tuple(intact.values()))


def _make_names(manifest: Manifest, template: str) -> FileNames:
    return FileNames(template, manifest.seedream_task_id, manifest.fingerprint)


def _make_names_without_id(template: str, fingerprint: str) -> FileNames:
    """Return the names under a template that does not hold the taskId."""
    return FileNames(template, "", fingerprint)


def _find_manifest_paths(
    destination: ObjectStoragePath, template: str, fingerprint: str, log: Logger
) -> list[ObjectStoragePath]:
    """Return the paths at which manifests of this request may lie, the likeliest first."""
    if not depends_on_task(template):
        return [destination / _make_names_without_id(template, fingerprint).manifest]
    patterns = make_manifest_patterns(template, fingerprint)
    paths = [destination]
    for depth, pattern in enumerate(patterns, 1):
        # Only what matches is read: the destination may hold much else.
        found = [
            (entry.modified, folder / entry.name)
            for folder in paths
            for entry in list_folder(folder)
            if entry.is_folder == (depth < len(patterns)) and pattern.fullmatch(entry.name)
        ]
        paths = _keep_newest(found, log)
    return paths


def _keep_newest(found: list[tuple[float, ObjectStoragePath]], log: Logger) -> list[ObjectStoragePath]:
    found.sort(key=lambda item: (item[0], str(item[1])), reverse=True)
    if len(found) > MAX_MANIFESTS:
        log.warning(
            "Searching for an earlier result in %d of %d places, newest first; with {fingerprint} in "
            "filename there would be fewer",
            MAX_MANIFESTS, len(found),
        )  # fmt: skip
    return [path for _, path in found[:MAX_MANIFESTS]]
