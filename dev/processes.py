"""Starts and finds child processes, which no Ctrl-C can make their parent forget."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, ``kill``, and a window that is closed."""


@contextmanager
def run_child(command: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a process that is gone at the end of the block, however that comes; its streams are text.

    :param options: of :class:`subprocess.Popen`.
    """
    process = None
    try:
        with hold_signals():
            process = subprocess.Popen(command, text=True, **options)
        yield process
    finally:
        if process:
            process.kill()
            process.wait()


@contextmanager
def hold_signals() -> Iterator[None]:
    """Hold these signals back until the end of the block.

    For a process that is being started: an exception before its id is kept would leave it
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


def find_processes(sessions: set[int]) -> list[psutil.Process]:
    """Return all processes of some sessions; orphans keep the session when their parent is gone."""
    return [process for process in psutil.process_iter() if _find_session(process.pid) in sessions]


def read_title(process: psutil.Process) -> str:
    """Return the command line, which Airflow overwrites with a title; nothing once the process has ended."""
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


def _find_session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
