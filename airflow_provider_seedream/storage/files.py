"""Reads, writes, lists and deletes files in a destination, so that nothing half is ever visible there."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import ObjectStoragePath, redact
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from airflow_provider_seedream.storage.errors import StorageError
from airflow_provider_seedream.storage.location import OBJECT_STORES

_PART = re.compile(r"\.(.+)\.part-[0-9a-f]{16}")
_PROBE = re.compile(r"\.{1,2}seedream-probe-[0-9a-f]{16}(\.part-[0-9a-f]{16})?")
_PROBE_LASTS_SECONDS = 3600
"""A probe is there for a moment; one that is older belongs to nobody any more."""

_MODIFIED_KEYS = ("mtime", "LastModified", "last_modified", "modified", "created")
"""Where listings hold the time of the last change; the last one is the memory store's."""

_READ_BLOCK_BYTES = 4 * 2**20
_REASON_CHARACTERS = 300


def place(local: Path, target: ObjectStoragePath) -> None:
    """Copy a finished local file to its place; until it is whole there, the place keeps what it held.

    Object stores show an upload when it is complete. Elsewhere the file is written under a hidden temporary
    name beside the target, then renamed.

    :raises StorageError: naming the target; nothing of the file is left there.
    """
    with _wrap_errors(f"write {target}"):
        put(local, target)


def remove(target: ObjectStoragePath) -> None:
    """Delete a file if it is there.

    :raises StorageError: if it cannot be deleted.
    """
    with _wrap_errors(f"delete {target}"), suppress(FileNotFoundError):
        target.fs.rm_file(target.path)


def read(target: ObjectStoragePath, max_bytes: int) -> bytes | None:
    """Return a small file's bytes, at most ``max_bytes`` of them; ``None`` if it is not there.

    :raises StorageError: if it cannot be read.
    """
    with _wrap_errors(f"read {target}"), suppress(FileNotFoundError), _open_fresh(target) as file:
        return bytes(file.read(max_bytes))
    return None


def holds(target: ObjectStoragePath, size: int, sha256: str) -> bool:
    """Tell whether the file at the target has this size in bytes and this hash; it is read as a stream.

    :raises StorageError: if it cannot be read.
    """
    with _wrap_errors(f"read {target}"), suppress(FileNotFoundError), _open_fresh(target) as file:
        if target.fs.size(target.path) == size:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    return False


def read_size(target: ObjectStoragePath) -> int | None:
    """Return the length of a file in bytes; ``None`` if there is none, or what is there is no regular file.

    :raises StorageError: if the store cannot tell.
    """
    with _wrap_errors(f"check {target}"), suppress(FileNotFoundError):
        target.fs.invalidate_cache()
        info = target.fs.info(target.path)
        return int(info["size"]) if info["type"] == "file" else None
    return None


def read_blocks(target: ObjectStoragePath) -> Generator[bytes, None, None]:
    """Yield a file's bytes in blocks of at most 4 MiB; close the iterator that is left early.

    :raises StorageError: if it cannot be read.
    """
    with _wrap_errors(f"read {target}"), _open_fresh(target) as file:
        while block := file.read(_READ_BLOCK_BYTES):
            yield block


def exists(target: ObjectStoragePath) -> bool:
    """Tell whether anything lies at the target.

    :raises StorageError: if the store cannot tell.
    """
    with _wrap_errors(f"check {target}"), suppress(FileNotFoundError):
        target.fs.invalidate_cache()
        target.fs.info(target.path)
        return True
    return False


@dataclass(frozen=True, slots=True)
class FolderEntry:
    """A file or folder in a folder.

    :param modified: epoch seconds of the last change; 0 where the store does not tell.
    """

    name: str
    is_folder: bool
    modified: float

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> FolderEntry:
        """Read one item of a listing; stores agree on ``name`` and ``type`` only."""
        name = str(info["name"]).rstrip("/").rpartition("/")[2]
        return cls(name, info.get("type") == "directory", _read_modified(info))


def list_folder(folder: ObjectStoragePath) -> list[FolderEntry]:
    """Return what lies directly in a folder; nothing if there is no such folder.

    :raises StorageError: if it cannot be listed.
    """
    with _wrap_errors(f"list {folder}"), suppress(FileNotFoundError):
        folder.fs.invalidate_cache()
        return [FolderEntry.of(info) for info in folder.fs.ls(folder.path, detail=True)]
    return []


def sweep(destination: ObjectStoragePath, names: Iterable[str]) -> None:
    """Delete what killed workers left: temporary files of these names, and old probes.

    Only for the one task instance that writes these names: another writer at work would lose its temporary
    file, and fail with a :class:`StorageError`.

    :param names: relative to the destination.
    """
    if destination.protocol in OBJECT_STORES:
        return
    mine: dict[ObjectStoragePath, set[str]] = {destination: set()}
    for name in names:
        target = destination / name
        mine.setdefault(target.parent, set()).add(target.name)
    for folder, own in mine.items():
        with suppress(Exception):  # a leftover does no harm, so neither may the sweeping
            _sweep_folder(folder, own)


def _sweep_folder(folder: ObjectStoragePath, own: set[str]) -> None:
    for entry in list_folder(folder):
        if _is_leftover(entry, own):
            remove(folder / entry.name)


def _is_leftover(entry: FolderEntry, own: set[str]) -> bool:
    part = _PART.fullmatch(entry.name)
    if part and part[1] in own:
        return True
    is_old = 0 < entry.modified < time.time() - _PROBE_LASTS_SECONDS
    return is_old and _PROBE.fullmatch(entry.name) is not None


def _read_modified(info: Mapping[str, Any]) -> float:
    for key in _MODIFIED_KEYS:
        value = info.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return 0


@contextmanager
def _open_fresh(target: ObjectStoragePath) -> Iterator[Any]:
    # Some stores answer from a listing that they cached before the last change.
    target.fs.invalidate_cache()
    with target.fs.open(target.path, "rb", block_size=_READ_BLOCK_BYTES) as file:
        yield file


@contextmanager
def _wrap_errors(action: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - every store has its own kinds
        raise StorageError(f"could not {action}: {describe_error(error)}") from None


def describe_error(error: Exception) -> str:
    """Describe a store's error in one line, without secrets of connections that Airflow has handed out."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
    return str(redact(text))[:_REASON_CHARACTERS]


def put(local: Path, target: ObjectStoragePath) -> None:
    """Do what :func:`place` does, with the errors of the store; of every kind."""
    if target.protocol in OBJECT_STORES:
        target.fs.put_file(str(local), target.path)
        return
    folder, _, name = target.path.rpartition("/")
    target.fs.makedirs(folder, exist_ok=True)
    part = f"{folder}/{_make_part_name(name)}"
    try:
        _write_part(target.fs, local, part)
        _rename(target.fs, part, target.path)
    except BaseException:  # a worker that is told to stop must not leave the part behind either
        with suppress(Exception):
            target.fs.rm_file(part)
        raise


def make_probe_name() -> str:
    """Return a name for a file that proves that a destination can be written; :func:`sweep` knows it."""
    return f".seedream-probe-{secrets.token_hex(8)}"


def _make_part_name(name: str) -> str:
    return f".{name}.part-{secrets.token_hex(8)}"


def _write_part(fs: Any, local: Path, part: str) -> None:
    if not isinstance(fs, LocalFileSystem):
        fs.put_file(str(local), part)
        return
    shutil.copyfile(local, part)
    _sync(part)


def _rename(fs: Any, part: str, path: str) -> None:
    if isinstance(fs, LocalFileSystem):
        Path(part).replace(path)
        with suppress(OSError):  # the file is in place, and some network file systems cannot sync a folder
            _sync(path.rpartition("/")[0] or "/")
        return
    # Some stores refuse to rename onto a file; the moment without one is no half file.
    if fs.exists(path):
        fs.rm_file(path)
    fs.mv(part, path)


def _sync(path: str) -> None:
    """Have a file or folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
