"""Finds the programs that the long tests need from the system; on Debian, root has them installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from dev.chromium import ChromiumError, find_chromium
from dev.postgres import PostgresError, find_binaries

PACKAGES: Mapping[str, Callable[[], Path]] = {"chromium": find_chromium, "postgresql": find_binaries}
"""Debian packages, each with what finds its programs."""


def find_missing() -> dict[str, str]:
    """Return the packages whose programs are not there, each with what to do about it."""
    complaints = {}
    for package, find in PACKAGES.items():
        try:
            find()
        except (ChromiumError, PostgresError) as error:
            complaints[package] = str(error)
    return complaints


def install(packages: list[str]) -> None:
    """Install Debian packages, as far as that goes; what came of it is for the caller to see."""
    print(f"Installing {', '.join(packages)} with apt-get", flush=True)
    quiet = {"env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, "check": False}
    subprocess.run(["apt-get", "update", "-qq"], **quiet)
    subprocess.run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages], **quiet)


def main() -> None:
    """Install what is find_missing, or say what to install and end with status 1."""
    if (packages := list(find_missing())) and os.geteuid() == 0 and shutil.which("apt-get"):
        install(packages)
    if complaints := find_missing():
        sys.exit("\n".join(complaints.values()))


if __name__ == "__main__":
    main()
