"""Runs blocking work on threads that neither an event loop nor the end of the process waits for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def start_daemon(name: str, target: Callable[[], object]) -> None:
    """Start a thread that may hang for ever: those of a ``ThreadPoolExecutor`` are joined at exit.

    :raises RuntimeError: the system gives this process no more threads.
    """
    threading.Thread(target=target, name=name, daemon=True).start()


def fulfil(future: Future[T], work: Callable[[], T]) -> None:
    """Do work, and keep what comes of it, unless nobody waits for it any more."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = work()
    except BaseException as error:  # noqa: BLE001 - it is for whoever waits
        future.set_exception(error)
    else:
        future.set_result(result)
