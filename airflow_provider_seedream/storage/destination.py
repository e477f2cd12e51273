"""The team's storage: opened, probed before money is spent, written so that nothing half is ever visible."""

from __future__ import annotations

import errno
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

from airflow.providers.common.compat.sdk import BaseHook, ObjectStoragePath, redact
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]

from airflow_provider_seedream.errors import DestinationError
from airflow_provider_seedream.storage.errors import StorageError
from airflow_provider_seedream.storage.location import OBJECT_STORES, conn_id_of, destination_url
from airflow_provider_seedream.storage.scratch import scratch_folder

_PACKAGES = {
    ("s3", "s3a", "s3n"): "apache-airflow-providers-amazon[s3fs]",
    ("gs", "gcs"): "apache-airflow-providers-google",
    ("abfs", "abfss", "adl", "az"): "apache-airflow-providers-microsoft-azure",
    ("sftp", "ssh"): "apache-airflow-providers-sftp",
    ("hdfs",): "apache-airflow-providers-apache-hdfs",
    ("smb",): "apache-airflow-providers-samba",
    ("oss",): "apache-airflow-providers-alibaba",
}

_PART = re.compile(r"\.(.+)\.part-[0-9a-f]{16}")
_PROBE = re.compile(r"\.{1,2}seedream-probe-[0-9a-f]{16}(\.part-[0-9a-f]{16})?")
_PROBE_LASTS_SECONDS = 3600
"""A probe is there for a moment; one that is older belongs to nobody any more."""
_PERMANENT = (
    PermissionError,
    FileNotFoundError,
    FileExistsError,
    NotADirectoryError,
    IsADirectoryError,
    NotImplementedError,
)
"""What a store raises when trying again cannot help; all else may be a passing fault of the network."""

_MODIFIED_KEYS = ("mtime", "LastModified", "last_modified", "modified", "created")
"""Where listings hold the time of the last change; the last one is the memory store's."""

_READ_BLOCK_BYTES = 4 * 2**20
_REASON_CHARACTERS = 300


# --- before money is spent ---------------------------------------------------------------------------


def resolve_destination(
    destination: str | ObjectStoragePath, storage_conn_id: str | None = None
) -> ObjectStoragePath:
    """Read a destination, and open its store. An absolute path such as ``/data/x`` means ``file:///data/x``.

    :param destination: a folder or prefix.
    :param storage_conn_id: its storage connection, where the path names none.
    :raises DestinationError: if it is no usable location, if path and parameter name different connections,
        or if the store's file system is not installed or its connection not found.
    """
    url = destination_url(destination)
    path_conn_id = conn_id_of(url)
    if path_conn_id and storage_conn_id and path_conn_id != storage_conn_id:
        raise DestinationError(
            f"The destination names connection {path_conn_id!r}, but storage_conn_id is {storage_conn_id!r}.",
            "Give one of them, or the same twice.",
        )
    return _opened(url, path_conn_id or storage_conn_id)


def check_writable(destination: ObjectStoragePath) -> None:
    """Write and delete a small object, so that a destination that cannot take images is found early.

    Folders are created where the store has folders.

    :raises DestinationError: naming destination, storage connection and the store's own reason.
    """
    try:
        _probe(destination)
    except DestinationError:
        raise
    except Exception as error:  # noqa: BLE001 - every store has its own kinds
        raise DestinationError(
            f"Cannot write to {destination}: {_reason(error)}.",
            _write_remedy(conn_id_of(str(destination))),
            retryable=not isinstance(error, _PERMANENT) and getattr(error, "errno", None) != errno.EROFS,
        ) from None


def _opened(url: str, conn_id: str | None) -> ObjectStoragePath:
    scheme = url.partition("://")[0]
    try:
        if conn_id:
            # Amazon's file system takes a connection that does not exist for anonymous access.
            BaseHook.get_connection(conn_id)
        path = ObjectStoragePath(url, conn_id=conn_id)
        path.fs  # noqa: B018 - opens the store, which looks up its file system and its connection
    except Exception as error:  # noqa: BLE001 - a missing library, connection or setting, each of its own kind
        remedy = _open_remedy(scheme, conn_id)
        raise DestinationError(
            f"The store of {scheme}:// cannot be opened: {_reason(error)}.", remedy
        ) from None
    return path


def _open_remedy(scheme: str, conn_id: str | None) -> str:
    package = next((name for schemes, name in _PACKAGES.items() if scheme in schemes), None)
    connection = f"Check storage connection {conn_id!r}. " if conn_id else ""
    if scheme in ("file", "local"):
        return connection
    return f"{connection}{scheme}:// needs {package or 'an Airflow provider that brings it'}."


def _write_remedy(conn_id: str | None) -> str:
    connection = f"storage connection {conn_id!r}" if conn_id else "the worker"
    return f"Check that the place exists and that {connection} may write and delete there."


def _probe(destination: ObjectStoragePath) -> None:
    if destination.fs.isfile(destination.path):
        raise DestinationError(f"The destination {destination} is a file.", "Name a folder or prefix.")
    probe = destination / f".seedream-probe-{secrets.token_hex(8)}"
    with scratch_folder() as folder:
        local = folder / "probe"
        local.write_bytes(b"airflow-provider-seedream")
        _put(local, probe)
    probe.fs.rm_file(probe.path)


# --- afterwards --------------------------------------------------------------------------------------


def place(local: Path, target: ObjectStoragePath) -> None:
    """Copy a finished local file to its place; until it is whole there, the place keeps what it held.

    Object stores show an upload when it is complete. Elsewhere the file is written under a hidden temporary
    name beside the target, then renamed.

    :raises StorageError: naming the target; nothing of the file is left there.
    """
    with _failures(f"write {target}"):
        _put(local, target)


def remove(target: ObjectStoragePath) -> None:
    """Delete a file if it is there.

    :raises StorageError: if it cannot be deleted.
    """
    with _failures(f"delete {target}"), suppress(FileNotFoundError):
        target.fs.rm_file(target.path)


def read(target: ObjectStoragePath, max_bytes: int) -> bytes | None:
    """A small file's bytes, at most ``max_bytes`` of them; ``None`` if it is not there.

    :raises StorageError: if it cannot be read.
    """
    with _failures(f"read {target}"), suppress(FileNotFoundError), _opened_fresh(target) as file:
        return bytes(file.read(max_bytes))
    return None


def holds(target: ObjectStoragePath, size: int, sha256: str) -> bool:
    """Whether the file at the target has this size in bytes and this hash; read back as a stream.

    :raises StorageError: if it cannot be read.
    """
    with _failures(f"read {target}"), suppress(FileNotFoundError), _opened_fresh(target) as file:
        if target.fs.size(target.path) == size:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256
    return False


def file_size(target: ObjectStoragePath) -> int | None:
    """Length of a file in bytes; ``None`` if there is none, or what is there is no regular file.

    :raises StorageError: if the store cannot tell.
    """
    with _failures(f"look for {target}"), suppress(FileNotFoundError):
        target.fs.invalidate_cache()
        info = target.fs.info(target.path)
        return int(info["size"]) if info["type"] == "file" else None
    return None


def blocks(target: ObjectStoragePath) -> Generator[bytes, None, None]:
    """A file's bytes in blocks of at most 4 MiB; close the iterator that is left early.

    :raises StorageError: if it cannot be read.
    """
    with _failures(f"read {target}"), _opened_fresh(target) as file:
        while block := file.read(_READ_BLOCK_BYTES):
            yield block


def exists(target: ObjectStoragePath) -> bool:
    """Whether anything lies at the target.

    :raises StorageError: if the store cannot tell.
    """
    with _failures(f"look for {target}"), suppress(FileNotFoundError):
        target.fs.invalidate_cache()
        target.fs.info(target.path)
        return True
    return False


@dataclass(frozen=True, slots=True)
class Entry:
    """What lies in a folder.

    :param modified: epoch seconds of the last change; 0 where the store does not tell.
    """

    name: str
    is_folder: bool
    modified: float

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Entry:
        """Read one item of a listing; stores agree on ``name`` and ``type`` only."""
        name = str(info["name"]).rstrip("/").rpartition("/")[2]
        return cls(name, info.get("type") == "directory", _modified(info))


def entries(folder: ObjectStoragePath) -> list[Entry]:
    """What lies directly in a folder; nothing if there is no such folder.

    :raises StorageError: if it cannot be listed.
    """
    with _failures(f"list {folder}"), suppress(FileNotFoundError):
        folder.fs.invalidate_cache()
        return [Entry.of(info) for info in folder.fs.ls(folder.path, detail=True)]
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
    for entry in entries(folder):
        if _is_leftover(entry, own):
            remove(folder / entry.name)


def _is_leftover(entry: Entry, own: set[str]) -> bool:
    part = _PART.fullmatch(entry.name)
    if part and part[1] in own:
        return True
    is_old = 0 < entry.modified < time.time() - _PROBE_LASTS_SECONDS
    return is_old and _PROBE.fullmatch(entry.name) is not None


def _modified(info: Mapping[str, Any]) -> float:
    for key in _MODIFIED_KEYS:
        value = info.get(key)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return 0


@contextmanager
def _opened_fresh(target: ObjectStoragePath) -> Iterator[Any]:
    # Some stores answer from a listing that they cached before the last change.
    target.fs.invalidate_cache()
    with target.fs.open(target.path, "rb", block_size=_READ_BLOCK_BYTES) as file:
        yield file


@contextmanager
def _failures(action: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - every store has its own kinds
        raise StorageError(f"could not {action}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """A store's error in one line; Airflow replaces the secrets of the connections that it has handed out."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
    return str(redact(text))[:_REASON_CHARACTERS]


def _put(local: Path, target: ObjectStoragePath) -> None:
    if target.protocol in OBJECT_STORES:
        target.fs.put_file(str(local), target.path)
        return
    folder, _, name = target.path.rpartition("/")
    target.fs.makedirs(folder, exist_ok=True)
    part = f"{folder}/{_part_name(name)}"
    try:
        _write_part(target.fs, local, part)
        _rename(target.fs, part, target.path)
    except BaseException:  # a worker that is told to stop must not leave the part behind either
        with suppress(Exception):
            target.fs.rm_file(part)
        raise


def _part_name(name: str) -> str:
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
