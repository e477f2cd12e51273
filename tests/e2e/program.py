"""One of the programs in ``dev``, run as a person does: its lines are read, its keys are pressed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def running(module: str, home: Path) -> Iterator[subprocess.Popen[str]]:
    """A running program; whatever it should have ended itself is ended here.

    :param module: such as ``dev.demo``.
    :param home: folder for everything that it leaves.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", module, "--home", str(home)],
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
        for one in processes_of(home):
            with suppress(psutil.NoSuchProcess):
                one.kill()


def run_to_its_end(module: str, home: Path) -> str:
    """Run a program that ends by itself; return its output."""
    done = subprocess.run(
        [sys.executable, "-m", module, "--home", str(home)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """The program's output up to the line that holds a text."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return "".join(lines)
    raise AssertionError(f"{text!r} never came: {''.join(lines)}")


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Every process that a running program has started."""
    return psutil.Process(process.pid).children(recursive=True)


def processes_of(home: Path) -> list[psutil.Process]:
    """Every process of the Airflow in a program's folder, even one that its program has forgotten."""
    return [one for one in psutil.process_iter() if _airflow_home(one).startswith(f"{home}/")]


def _airflow_home(process: psutil.Process) -> str:
    try:
        return process.environ().get("AIRFLOW_HOME", "")
    except (psutil.Error, OSError):
        return ""


def press_ctrl_c(process: subprocess.Popen[str], home: Path, presses: int = 1) -> str:
    """End a program; returns what it still says.

    :raises AssertionError: something that it has started is still there.
    """
    started = descendants(process)
    assert started
    process.send_signal(signal.SIGINT)
    if presses == 2:
        read_until(process, "interrupted")
        process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    _, alive = psutil.wait_procs(started, timeout=10)
    assert [*alive, *processes_of(home)] == []
    return output
