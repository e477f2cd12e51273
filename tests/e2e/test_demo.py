"""The demo on a bad day: a port that is taken, and an impatient user."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dev.local_sandbox import PREFERRED_PORT
from tests.e2e.program import press_ctrl_c, read_until, running

pytestmark = pytest.mark.long


class TestInterrupted:
    @pytest.mark.parametrize(("moment", "presses"), [("starting Airflow", 2), ("generate: deferred", 1)])
    def test_ctrl_c_leaves_no_process_behind(self, tmp_path: Path, moment: str, presses: int) -> None:
        with running("dev.demo", tmp_path) as process:
            read_until(process, moment)
            press_ctrl_c(process, tmp_path, presses)


class TestAPortInUse:
    def test_the_sandbox_takes_another(self, tmp_path: Path) -> None:
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", PREFERRED_PORT))
            taken.listen()
            with running("dev.demo", tmp_path) as process:
                line = read_until(process, "sandbox ready").splitlines()[-1]
                press_ctrl_c(process, tmp_path)
        assert "sandbox ready at http://127.0.0.1:" in line
        assert f":{PREFERRED_PORT}/" not in line
