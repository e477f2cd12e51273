"""Makes temporary folders on the worker's disk, and deletes those that killed workers left."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = "seedream-scratch-"


@contextmanager
def make_scratch_folder() -> Iterator[Path]:
    """Make a folder that is gone afterwards, and that no other worker touches meanwhile.

    Its owner holds a lock on it, which the operating system gives back when the owner dies, however that
    happens. So a folder that can be locked has no owner.
    """
    _sweep()
    folder, handle = _claim_folder()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _claim_folder() -> tuple[Path, int]:
    """Return a new folder, and the handle that holds its lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        with suppress(FileNotFoundError):
            handle = os.open(folder, os.O_RDONLY)
            with suppress(OSError):  # not every file system has locks; then nobody else gets one either
                fcntl.flock(handle, fcntl.LOCK_EX)
            if folder.exists():
                return folder, handle
            os.close(handle)  # another worker's sweep was quicker than the lock


def _sweep() -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with suppress(OSError):  # somebody else's, in use, or gone already
            _sweep_folder(folder)


def _sweep_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(handle).st_uid == os.geteuid():
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)
