"""Makes a disk that is full: a real one of two megabytes where the machine allows it, else by a limit."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

SIZE = 2 * 2**20
FREE = 64 * 2**10
"""What a full disk has left: enough for a manifest, not for an image."""


class Disk:
    """A small disk.

    :param path: a folder on it.
    :param is_real: whether it is a disk of its own; if not, the kernel refuses long files.
    """

    def __init__(self, path: Path, *, is_real: bool) -> None:
        self.path = path
        self._is_real = is_real
        self._full = False

    @property
    def _ballast(self) -> Path:
        return self.path / ".ballast"

    def fill(self) -> None:
        """Leave no room for an image."""
        self._full = True
        if self._is_real:
            self._ballast.write_bytes(bytes(SIZE - FREE))

    def free(self) -> None:
        """Make room again."""
        self._full = False
        if self._is_real:
            self._ballast.unlink()

    def make_limits(self, *, copies_only: bool) -> Mapping[str, Any]:
        """Return what a worker's :class:`~.storage_worker.Job` needs besides the path."""
        if self._is_real or not self._full:
            return {}
        return {"longest_file": FREE, "limit_copies_only": copies_only}

    @property
    def refusal(self) -> str:
        """The kernel's words for it."""
        return "No space left on device" if self._is_real else "File too large"


@contextmanager
def make_small_disk(mount_point: Path) -> Iterator[Disk]:
    """Make an empty disk, mounted where only its keeper sees it, and reached through the keeper's root."""
    mount_point.mkdir(parents=True)
    mount = f"mount -t tmpfs -o size={SIZE} seedream '{mount_point}' && echo mounted && exec cat"
    with subprocess.Popen(
        ["sh", "-c", f'exec unshare --map-root-user --mount sh -c "{mount}"'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as keeper:  # which ends with its input
        assert keeper.stdout is not None
        is_real = keeper.stdout.readline().strip() == "mounted"
        yield Disk(Path(f"/proc/{keeper.pid}/root{mount_point}") if is_real else mount_point, is_real=is_real)
