"""The demo on a bad day: a port that is taken, and an impatient user."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest

from dev.demo import PREFERRED_PORT

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.long


@contextmanager
def demo(home: Path) -> Iterator[subprocess.Popen[str]]:
    """A running demo; whatever it should have ended itself is ended here."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dev.demo", "--home", str(home)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """The demo's output up to the line that holds a text."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"{text!r} never came: {''.join(lines)}")


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Every process that a running demo has started."""
    return psutil.Process(process.pid).children(recursive=True)


class TestInterrupted:
    @pytest.mark.parametrize("presses", [1, 2])
    @pytest.mark.parametrize("moment", ["starting Airflow", "generate: deferred"])
    def test_ctrl_c_leaves_no_process_behind(self, tmp_path: Path, moment: str, presses: int) -> None:
        with demo(tmp_path) as process:
            read_until(process, moment)
            started = descendants(process)
            assert started
            process.send_signal(signal.SIGINT)
            if presses == 2:
                read_until(process, "interrupted")
                process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)
            assert process.returncode == 1, output
            _, alive = psutil.wait_procs(started, timeout=10)
            assert alive == []


class TestAPortInUse:
    def test_the_sandbox_takes_another(self, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", PREFERRED_PORT))
            taken.listen()
            with demo(tmp_path) as process:
                line = read_until(process, "sandbox ready").splitlines()[-1]
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=60)
        assert "sandbox ready at http://127.0.0.1:" in line
        assert f":{PREFERRED_PORT}/" not in line
