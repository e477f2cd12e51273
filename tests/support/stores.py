"""Stores that fail, or answer, as real ones do at a bad moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from airflow.providers.common.compat.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem


class FaultyStore(MemoryFileSystem):
    """A store whose uploads fail half-way; it keeps what a reader sees at that moment."""

    cachable = False

    def __init__(self, error: Exception) -> None:
        super().__init__(global_store=False)
        self.error = error
        self.seen: set[str] = set()

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        self.pipe_file(rpath, Path(lpath).read_bytes()[:1000])
        self.seen = set(self.store)
        raise self.error


class AtomicStore(MemoryFileSystem):
    """Like an object store: an upload appears when it is complete, and there are no folders to make."""

    cachable = False

    def __init__(self) -> None:
        super().__init__(global_store=False)
        self.put: list[str] = []

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        self.put.append(rpath)
        self.pipe_file(rpath, Path(lpath).read_bytes())

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        raise AssertionError("would create a bucket")


class CachingStore(MemoryFileSystem):
    """A store that answers sizes from an old listing until it is told to forget it."""

    cachable = False
    listed: int | None = None

    def __init__(self) -> None:
        super().__init__(global_store=False)

    def size(self, path: str) -> int:
        return super().size(path) if self.listed is None else self.listed

    def invalidate_cache(self, path: str | None = None) -> None:
        self.listed = None


class UnreachableStore(MemoryFileSystem):
    """A store that no request reaches."""

    cachable = False

    def __init__(self) -> None:
        super().__init__(global_store=False)

    def info(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionRefusedError("connection refused")

    ls = open = info


def attach_store(scheme: str, conn_id: str, fs: Any) -> ObjectStoragePath:
    """Return a folder in a store, which a connection id leads to from now on."""
    attach(scheme, conn_id, fs=fs).fs = fs
    return ObjectStoragePath(f"{scheme}://{conn_id}@bucket/images")
