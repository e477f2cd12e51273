"""Finds the chromium that the browser tests drive; Playwright's own would be a download of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome")


class ChromiumError(RuntimeError):
    """There is no chromium."""


def find_chromium() -> Path:
    """Return the browser's program, from PATH.

    :raises ChromiumError: names the package to install.
    """
    for name in NAMES:
        if found := shutil.which(name):
            return Path(found)
    raise ChromiumError(
        f"None of {', '.join(NAMES)} is on PATH. Install one: 'apt-get install chromium' (Debian), "
        "'dnf install chromium' (Fedora) or 'brew install --cask google-chrome' (macOS)."
    )
