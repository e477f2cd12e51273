"""Lists what lies in a folder of a store, and limits how large a file may become."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager

from airflow.providers.common.compat.sdk import ObjectStoragePath


def visible(path: ObjectStoragePath) -> set[str]:
    """Return the names, relative to a folder, of everything below it that a reader would take for content."""
    names = everything(path)
    return {name for name in names if not any(part.startswith(".") for part in name.split("/"))}


def everything(path: ObjectStoragePath) -> set[str]:
    """Return the names, relative to a folder, of every file below it."""
    fs = path.fs
    fs.invalidate_cache()
    root = path.path.lstrip("/").rstrip("/") + "/"
    return {name.lstrip("/").removeprefix(root) for name in fs.find(path.path)}


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """Have the operating system refuse to write files beyond a size, as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
