"""Reads, by a task's result, the verified bytes of an image that it saved.

A result is what anybody who writes a DAG can forge, and the api-server may hold files that such a person must
not see. So a file is handed out only if its name stays inside the destination, its manifest there belongs to
the result's task and knows the file's hash, and its bytes are a PNG, JPEG or WebP.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from airflow.providers.common.compat.sdk import ObjectStoragePath
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]
from pydantic_core import from_json

from airflow_provider_seedream.apixo.text import make_printable
from airflow_provider_seedream.errors import DestinationError
from airflow_provider_seedream.storage.destination import resolve_destination
from airflow_provider_seedream.storage.errors import StorageError
from airflow_provider_seedream.storage.fetch import DEFAULT_LIMITS
from airflow_provider_seedream.storage.files import read, read_blocks, read_size
from airflow_provider_seedream.storage.index import IndexedImage, IndexEntry
from airflow_provider_seedream.storage.inspection import EXTENSIONS, open_image
from airflow_provider_seedream.storage.location import read_destination_url
from airflow_provider_seedream.storage.manifest import SCHEMA, Manifest, SavedImage
from airflow_provider_seedream.storage.naming import is_safe_name

READ_SECONDS = 60.0
"""Longest time for one image: by then its reader has gone, and the thread is needed for others."""

MAX_MANIFEST_BYTES = 256 * 1024
"""Many times what a task writes; a page is drawn from it."""

_MESSAGE_CHARACTERS = 600
_LARGEST = 2**40


class ImageError(Exception):
    """An image, or its manifest, cannot be shown; the text tells a person why, and what to do.

    :param status: HTTP: 404 gone, 409 changed or replaced since it was saved, 413 too large, 422 hostile,
        broken or no image, 502 the storage fails, 503 too busy, 504 too slow.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(make_printable(text, _MESSAGE_CHARACTERS))
        self.status = status


@dataclass(frozen=True, slots=True)
class VerifiedImage:
    """An image as it was saved, verified.

    :param file: the whole of it in an unnamed temporary file, at its start; to be closed by its user.
    :param media_type: ``image/png``, ``image/jpeg`` or ``image/webp``, as the bytes say.
    :param bytes: length of the file.
    """

    file: IO[bytes]
    media_type: str
    bytes: int


# --- the manifest ------------------------------------------------------------------------------------


def read_saved(entry: IndexEntry) -> Manifest:
    """Read the manifest of what a task has saved. Blocks while the storage answers.

    :raises ImageError: it is not there, cannot be read, or is another task's.
    """
    with _explain_storage_faults():
        text = read(_find_manifest(entry), MAX_MANIFEST_BYTES + 1)
    if text is None:
        raise ImageError(404, f"There is no manifest at {entry.manifest}. {_describe_missing(entry)}")
    if len(text) > MAX_MANIFEST_BYTES:
        raise ImageError(413, f"The manifest {entry.manifest} is longer than {MAX_MANIFEST_BYTES} bytes.")
    manifest = _parse(text, entry.manifest)
    if manifest.seedream_task_id != entry.seedream_task_id:
        raise ImageError(
            409,
            # Not whose: that would tell a forger the names of another task's results.
            "These images were replaced by those of another task. See the images of the latest run.",
        )
    return manifest


def find_image(manifest: Manifest, index: int) -> SavedImage:
    """Return the image with an index.

    :param index: position in the task's result, from 1.
    :raises ImageError: there is none.
    """
    for image in manifest.images:
        if image.index == index:
            return image
    raise ImageError(404, f"The manifest has no image {index} (any more): perhaps it was discarded.")


def _parse(text: bytes, path: str) -> Manifest:
    try:
        manifest = Manifest.from_json(text)
        if any(abs(number) > _LARGEST for number in _list_numbers(manifest)):
            raise ValueError("a number is out of all bounds")
        return manifest
    except ValueError:
        # What is wrong where would tell about a file that may be somebody else's.
        broken = "is broken: it was changed after it was written. The images beside it may be intact."
        newer = "is from a newer version of this provider. Update it where the api-server runs."
        raise ImageError(422, f"The manifest {path} {newer if _is_newer(text) else broken}") from None


def _list_numbers(manifest: Manifest) -> Iterator[float]:
    yield manifest.cost_usd or 0
    for image in manifest.images:
        yield from (image.index, image.bytes, image.width, image.height)


def _is_newer(text: bytes) -> bool:
    try:
        document = from_json(text)
    except ValueError:
        return False
    schema = document.get("schema") if isinstance(document, dict) else None
    return isinstance(schema, int) and schema > SCHEMA


# --- the image ---------------------------------------------------------------------------------------


def open_indexed(entry: IndexEntry, image: IndexedImage) -> VerifiedImage:
    """Open the image that an entry names: as the manifest has it, if both mean the same. Blocks.

    :raises ImageError: see :func:`read_saved` and :func:`open_verified`.
    """
    saved = find_image(read_saved(entry), image.index)
    if (saved.name, saved.sha256) != (image.name, image.sha256):
        raise ImageError(409, f"Image {image.index} was replaced. See the images of the latest run.")
    return open_verified(entry, saved)


def open_verified(entry: IndexEntry, image: SavedImage) -> VerifiedImage:
    """Copy an image to a temporary file, and verify the copy. Blocks, for at most about a minute.

    :param entry: says in which folder; the image's own ``path`` and ``url`` are not read.
    :param image: from the manifest of ``entry``.
    :raises ImageError: it is gone, changed, too large, no image, or cannot be read.
    """
    if image.bytes > DEFAULT_LIMITS.max_bytes:
        raise ImageError(413, f"Image {image.index} is longer than {DEFAULT_LIMITS.max_bytes} bytes.")
    with _explain_disk_faults(), ExitStack() as stack:
        with _explain_storage_faults():
            target = _find_inside(_open_folder(entry), image.name, EXTENSIONS.values())
            _check_length(read_size(target), image, entry)
            file = stack.enter_context(tempfile.TemporaryFile(prefix="seedream-image-"))
            _copy(target, file, image)
        verified = VerifiedImage(file, _read_media_type(file, image), image.bytes)
        file.seek(0)
        stack.pop_all()
        return verified


def _check_length(length: int | None, image: SavedImage, entry: IndexEntry) -> None:
    if length is None:
        raise ImageError(
            404, f"There is no file of image {image.index}, {image.name}. {_describe_missing(entry)}"
        )
    if length != image.bytes:
        raise _make_changed_error(image)


def _copy(target: ObjectStoragePath, file: IO[bytes], image: SavedImage) -> None:
    """Copy what has the right length and hash; a store's word on its length is not trusted."""
    sha256 = hashlib.sha256()
    deadline = time.monotonic() + READ_SECONDS
    with closing(read_blocks(target)) as stream:
        for block in stream:
            sha256.update(block)
            file.write(block)
            if file.tell() > image.bytes:
                raise _make_changed_error(image)
            if time.monotonic() > deadline:
                raise ImageError(504, f"Reading image {image.index} took longer than {READ_SECONDS:g} s.")
    file.flush()  # where a full disk shows
    if sha256.hexdigest() != image.sha256:
        raise _make_changed_error(image)


def _read_media_type(file: IO[bytes], image: SavedImage) -> str:
    """Return the media type of the bytes; only their header is read."""
    try:
        with open_image(file) as opened:
            format_, media_type = str(opened.format), opened.get_format_mimetype()
    except Exception:  # noqa: BLE001 - on hostile bytes Pillow raises nearly every kind
        format_, media_type = "", None
    if media_type is None or not image.name.endswith(f".{EXTENSIONS[format_]}"):
        raise ImageError(422, f"The file of image {image.index} is not the image that its name claims.")
    return media_type


def _make_changed_error(image: SavedImage) -> ImageError:
    return ImageError(
        409,
        f"The file of image {image.index}, {image.name}, was changed after it was saved. See the images of "
        "the latest run, or restore the file.",
    )


# --- where both lie ----------------------------------------------------------------------------------


def name_store(path: str) -> str:
    """Return the name of a path's store: its scheme, connection and bucket or host."""
    try:
        url = read_destination_url(path)
    except DestinationError:
        url = path  # it is refused before any store is opened
    return "/".join(url.split("/", 3)[:3])


def _find_manifest(entry: IndexEntry) -> ObjectStoragePath:
    folder = _open_folder(entry)
    root = f"{str(folder).rstrip('/')}/"
    if not entry.manifest.startswith(root):
        raise ImageError(422, "The manifest of this result lies outside its destination and was not read.")
    return _find_inside(folder, entry.manifest.removeprefix(root), ["json"])


def _open_folder(entry: IndexEntry) -> ObjectStoragePath:
    """Open the destination with the connection that it names."""
    try:
        url = read_destination_url(entry.destination)
    except DestinationError as error:
        raise ImageError(422, f"The result names no destination that can be read. {error}") from None
    if not url.isprintable():
        raise ImageError(422, "The result names a destination with a control character.")
    return resolve_destination(url)


def _find_inside(folder: ObjectStoragePath, name: str, extensions: Collection[str]) -> ObjectStoragePath:
    """Find a file of a destination whose name leads nowhere else."""
    if not is_safe_name(name) or not name.endswith(tuple(f".{extension}" for extension in extensions)):
        raise ImageError(422, f"A name in this result was refused: {name!r} is no name that a task gives.")
    target = folder / name
    if isinstance(target.fs, LocalFileSystem):
        _check_local(Path(folder.path), Path(target.path))
    return target


def _check_local(folder: Path, file: Path) -> None:
    """Refuse a link that leads out of the destination, and a pipe, which may be waited for without end."""
    real = Path(os.path.realpath(file))
    if not real.is_relative_to(os.path.realpath(folder)):
        raise ImageError(422, f"{file.name} is a link that leads out of the destination; it was not read.")
    with suppress(OSError):  # what has no status is no file to be opened either
        if not stat.S_ISREG(real.stat().st_mode):
            raise ImageError(422, f"{file.name} is no regular file; it was not read.")


def _describe_missing(entry: IndexEntry) -> str:
    seen = " The api-server must see the same folder as the workers." if _is_local(entry) else ""
    return f"It was deleted, moved or replaced since the task ran.{seen}"


def _is_local(entry: IndexEntry) -> bool:
    return name_store(entry.destination) in ("file://", "local://")


@contextmanager
def _explain_storage_faults() -> Iterator[None]:
    try:
        yield
    except (DestinationError, StorageError) as error:
        raise ImageError(502, f"The api-server cannot read the storage of these images: {error}") from None


@contextmanager
def _explain_disk_faults() -> Iterator[None]:
    """Explain an error of the temporary file: stores raise errors of their own."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or "it cannot be written"
        raise ImageError(503, f"The temporary folder of the api-server takes no more: {reason}.") from None
