"""``make ui`` as a newcomer meets it: log in as it says, press *Trigger*, see a picture, press Ctrl-C."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.program import press_ctrl_c, read_until, run_to_its_end, running

pytestmark = pytest.mark.long

PICTURE_SECONDS = 120
READY = "Ctrl-C ends everything"


@dataclass(frozen=True)
class Newcomer:
    """Somebody who has read the closing lines, and nothing else."""

    address: str
    password: str
    client: httpx.Client

    @classmethod
    def reading(cls, output: str) -> Newcomer:
        """Log in as the lines say."""
        said = dict(re.findall(r"^  (address|user|password) +(\S+)$", output, re.MULTILINE))
        client = httpx.Client(base_url=said["address"], timeout=60, trust_env=False)
        login = {"username": said["user"], "password": said["password"]}
        token = client.post("/auth/token", json=login).raise_for_status().json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        return cls(said["address"], said["password"], client)

    def get(self, path: str) -> Any:
        """Read from Airflow's REST API."""
        return self.client.get(f"/api/v2{path}").raise_for_status().json()

    def press_trigger(self, dag_id: str) -> str:
        """Start a run with the form as it is; returns its id."""
        answer = self.client.post(f"/api/v2/dags/{dag_id}/dagRuns", json={"logical_date": None})
        return str(answer.raise_for_status().json()["dag_run_id"])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it is kept."""
    return tmp_path_factory.mktemp("ui")


@pytest.fixture(scope="module")
def program(home: Path) -> Iterator[subprocess.Popen[str]]:
    """It, started for the first time; after the tests, Ctrl-C is pressed."""
    with running("dev.ui", home) as process:
        yield process
        if process.poll() is None:
            press_ctrl_c(process, home)


@pytest.fixture(scope="module")
def newcomer(program: subprocess.Popen[str]) -> Newcomer:
    """Somebody who has started it."""
    return Newcomer.reading(read_until(program, READY))


class TestTheFirstMinutes:
    def test_end_with_a_picture_in_the_gallery(self, newcomer: Newcomer) -> None:
        run_id = newcomer.press_trigger("seedream_studio")
        deadline = time.monotonic() + PICTURE_SECONDS
        while newcomer.get(f"/dags/seedream_studio/dagRuns/{run_id}")["state"] != "success":
            assert time.monotonic() < deadline
            time.sleep(1)
        page = newcomer.client.get("/seedream/").raise_for_status().text
        (thumbnail,) = re.findall(r'src="([^"]+/thumbnail)"', page)
        picture = newcomer.client.get(thumbnail).raise_for_status()
        assert picture.headers["Content-Type"].startswith("image/")

    def test_find_everything_set_up(self, newcomer: Newcomer) -> None:
        connection = newcomer.get("/connections/seedream_default")
        assert (connection["conn_type"], connection["host"][:17]) == ("seedream", "http://127.0.0.1:")
        tested = newcomer.client.post("/api/v2/connections/test", json={**connection, "password": "any"})
        assert tested.json()["status"] is True
        assert newcomer.get("/pools/seedream")["include_deferred"] is True
        paused = {dag["dag_id"]: dag["is_paused"] for dag in newcomer.get("/dags")["dags"]}
        assert paused["seedream_weekly_refresh"] is True
        assert [dag_id for dag_id in paused if paused[dag_id]] == ["seedream_weekly_refresh"]


class TestASecondOne:
    def test_says_so_and_does_no_harm(self, newcomer: Newcomer, home: Path) -> None:
        assert "Another 'make ui' uses" in run_to_its_end("dev.ui", home)
        assert newcomer.get("/monitor/health")["scheduler"]["status"] == "healthy"


class TestTheNextStart:
    # The last test of the newcomer's, since it ends what they have started.
    def test_knows_the_same_password_and_leaves_the_users_changes_alone(
        self, program: subprocess.Popen[str], newcomer: Newcomer, home: Path
    ) -> None:
        mine = {"connection_id": "seedream_default", "conn_type": "seedream", "host": "https://x.example/v1"}
        newcomer.client.patch("/api/v2/connections/seedream_default", json=mine).raise_for_status()
        press_ctrl_c(program, home)
        with running("dev.ui", home) as process:
            again = Newcomer.reading(read_until(process, READY))
            assert again.password == newcomer.password
            assert again.get("/connections/seedream_default")["host"] == mine["host"]
            press_ctrl_c(process, home)


class TestInterrupted:
    @pytest.mark.parametrize(("moment", "presses"), [("preparing", 2), ("starting Airflow", 1)])
    def test_ctrl_c_leaves_no_process_behind(self, tmp_path: Path, moment: str, presses: int) -> None:
        with running("dev.ui", tmp_path) as process:
            read_until(process, moment)
            press_ctrl_c(process, tmp_path, presses)
