"""Serves the person at the terminal: prints lines with the time, and ends at Ctrl-C."""

from __future__ import annotations

import signal
import time
from types import FrameType

from dev.processes import ENDING


class Clock:
    """Prints lines with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def say(self, text: str) -> None:
        """Print one line."""
        print(f"{time.monotonic() - self._start:6.1f} s  {text}", flush=True)


def end_on_signals() -> None:
    """Have the first signal from now on raise :class:`KeyboardInterrupt`, and all later ones do nothing.

    What was started ends as the exception passes through its ``with`` block; a second Ctrl-C must not break
    that off, or processes would be left behind.
    """
    for one in ENDING:
        signal.signal(one, _interrupt)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    for one in ENDING:
        signal.signal(one, signal.SIG_IGN)
    print("\ninterrupted; ending every process", flush=True)
    raise KeyboardInterrupt
