"""Runs a sandbox process for as long as somebody needs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TextIO

from dev.processes import run_child

ROOT = Path(__file__).resolve().parent.parent
KEY = "demo-key"
PREFERRED_PORT = 8765


@contextmanager
def run_sandbox(time_scale: float, log: Path) -> Iterator[str]:
    """Run a sandbox, and yield its base URL. Takes another port when the usual one is in use.

    :param time_scale: factor on generation times.
    :param log: file for what it says beside that.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    for port in (PREFERRED_PORT, 0):
        with log.open("w") as errors, _start(port, time_scale, errors) as process:
            assert process.stdout is not None
            if ready := process.stdout.readline():
                yield ready.rsplit(" ", 1)[1].strip()
                return
    raise RuntimeError(f"the sandbox did not start: {log.read_text()}")


def _start(port: int, time_scale: float, errors: TextIO) -> AbstractContextManager[subprocess.Popen[str]]:
    options = ["--port", str(port), "--time-scale", str(time_scale)]
    return run_child(
        [sys.executable, "-m", "airflow_provider_seedream.sandbox", *options],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=errors,
        start_new_session=True,
    )
