"""Child processes that no Ctrl-C can make their parent forget."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, ``kill``, and a window that is closed."""


@contextmanager
def child(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that is gone at the end of the block, however that comes; its streams are text.

    :param options: of :class:`subprocess.Popen`.
    """
    process = None
    try:
        with uninterrupted():
            process = subprocess.Popen(command, text=True, **options)
        yield process
    finally:
        if process:
            process.kill()
            process.wait()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold these signals back until the end of the block.

    For a process that is being started: an exception between its start and the note of its id would leave it
    behind.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # no other thread is interrupted
        return
    held: list[int] = []
    handlers = {one: signal.signal(one, lambda signum, frame: held.append(signum)) for one in ENDING}
    try:
        yield
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)
        for signum in held:
            signal.raise_signal(signum)
