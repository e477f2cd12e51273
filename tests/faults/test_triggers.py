"""Deferred tasks on a bad day: dead triggerers, lost connections, impatient users, results at once."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import pytest
from PIL import Image

from dev.postgres import Postgres
from tests.support.airflow_world import KEY, Purchases, World

pytestmark = pytest.mark.long

MANY = 50
FINISHED = 200
PRICE = 0.035
HOURS = 9_100
"""Seconds by which every task of these tests is finished."""


def results(database: Postgres, dag_id: str, run_id: str) -> list[dict[str, Any]]:
    """The result records of all task instances of a run."""
    query = f"SELECT value FROM xcom WHERE dag_id='{dag_id}' AND run_id='{run_id}' AND key='return_value'"
    values = [json.loads(row[0]) for row in database.query(query)]
    return [value for value in values if isinstance(value, dict)]


def states(world: World, dag_id: str, run_id: str) -> list[str]:
    """State of every task instance of a run."""
    return [ti["state"] for ti in world.stack.list_task_instances(dag_id, run_id)]


# --- the triggerer dies ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Disaster:
    """What was waiting when the triggerer was killed; run id by DAG id.

    :param clock_ahead: seconds by which the sandbox's clock was ahead of the wall's until then.
    """

    runs: dict[str, str]
    purchases: Purchases
    restarted_at: float
    clock_ahead: float


@pytest.fixture(scope="module")
def disaster(world: World) -> Disaster:
    """Kill the triggerer with everything waiting, delete a connection, and start another triggerer."""
    stack = world.stack
    stack.run_airflow(
        *("connections", "add", "seedream_doomed", "--conn-type", "seedream"),
        *("--conn-host", world.sandbox.base_url, "--conn-password", KEY),
    )
    purchases = Purchases(world)
    clock_ahead = world.clock.ahead
    runs = {dag_id: stack.trigger(dag_id) for dag_id in ("faults_many_wait", "faults_connection_deleted")}
    purchases.wait_until_watched(MANY + 1)
    # Last, since its deadline runs.
    runs["faults_deadline"] = stack.trigger("faults_deadline")
    purchases.wait_until_watched(MANY + 2)

    stack.kill("triggerer")
    stack.call_api("DELETE", "/connections/seedream_doomed")
    stack.start_component("triggerer", "another-triggerer")
    restarted_at = time.time()
    world.clock.put_forward(1_000)
    for dag_id, run_id in runs.items():
        stack.wait_for_run(dag_id, run_id)
    return Disaster(runs, purchases, restarted_at, clock_ahead)


@pytest.mark.fault(
    "The triggerer is killed (SIGKILL) while 50 Generate tasks wait",
    "Another triggerer takes over; all tasks succeed, all images are there",
    "50 images, each bought once",
)
class TestTriggererKilled:
    def test_every_task_succeeds(self, world: World, disaster: Disaster) -> None:
        assert states(world, "faults_many_wait", disaster.runs["faults_many_wait"]) == ["success"] * MANY

    def test_each_was_bought_once(self, world: World, database: Postgres, disaster: Disaster) -> None:
        records = results(database, "faults_many_wait", disaster.runs["faults_many_wait"])
        assert len({record["seedream_task_id"] for record in records}) == MANY
        assert sum(record["cost_usd"] for record in records) == pytest.approx(MANY * PRICE)
        # The two others are those of the deadline and of the deleted connection.
        assert len(disaster.purchases.tasks()) == MANY + 2

    def test_all_images_are_there(self, world: World, disaster: Disaster) -> None:
        folder = world.images / "many_wait"
        files = [file for file in folder.rglob("*") if file.suffix in (".png", ".jpg", ".jpeg")]
        assert len(files) == MANY
        for file in files:
            with Image.open(file) as image:
                assert image.size == (2048, 2048)
        assert len(list(folder.rglob("*manifest.json"))) == MANY


@pytest.mark.fault(
    "The triggerer is killed while a deadline runs",
    "The wait ends at the deadline that was set at the submission, with our error",
    "the task, if it still delivers; the error names it",
)
class TestDeadlineOverARestart:
    def test_it_ends_at_the_original_deadline(self, world: World, disaster: Disaster) -> None:
        dag_id, run_id = "faults_deadline", disaster.runs["faults_deadline"]
        submission = world.stack.read_xcom(dag_id, run_id, "generate", "submission")
        log = world.stack.read_task_log(dag_id, run_id, "generate")
        said = re.search(r"did not finish by its deadline ([\d:T+-]+);", log)
        assert said, log
        deadline = datetime.fromisoformat(said[1]).timestamp()
        submitted_at = world.task(submission["seedream_task_id"])["submitted_at"] - disaster.clock_ahead
        assert deadline == pytest.approx(submitted_at + 45, abs=3)
        assert disaster.restarted_at < deadline, "the machine was too slow for this test to show anything"

    def test_its_error_is_ours_and_names_the_task(self, world: World, disaster: Disaster) -> None:
        dag_id, run_id = "faults_deadline", disaster.runs["faults_deadline"]
        submission = world.stack.read_xcom(dag_id, run_id, "generate", "submission")
        log = world.stack.read_task_log(dag_id, run_id, "generate")
        assert states(world, dag_id, run_id) == ["failed"]
        assert f"Task {submission['seedream_task_id']} did not finish" in log
        assert "TriggerTimeout" not in log
        assert "Trigger timeout" not in log


@pytest.mark.fault(
    "The connection is deleted while a task waits, and the triggerer restarts",
    "The Airflow task fails with one error that names the connection and the taskId",
    "the task, if it delivers; the error names it",
)
class TestConnectionDeleted:
    def test_one_error_names_connection_and_task(self, world: World, disaster: Disaster) -> None:
        dag_id, run_id = "faults_connection_deleted", disaster.runs["faults_connection_deleted"]
        submission = world.stack.read_xcom(dag_id, run_id, "generate", "submission")
        log = world.stack.read_task_log(dag_id, run_id, "generate")
        assert states(world, dag_id, run_id) == ["failed"]
        last = log[log.index("Gave up watching") :]
        assert f"task {submission['seedream_task_id']}" in last
        assert "'seedream_doomed' cannot be read" in last

    def test_it_is_not_polled_on(self, world: World, disaster: Disaster) -> None:
        dag_id, run_id = "faults_connection_deleted", disaster.runs["faults_connection_deleted"]
        submission = world.stack.read_xcom(dag_id, run_id, "generate", "submission")
        polls = world.task(submission["seedream_task_id"])["poll_times"]
        assert all(polled_at - disaster.clock_ahead < disaster.restarted_at for polled_at in polls)


# --- a user ends the wait ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ended(world: World) -> dict[str, tuple[str, str]]:
    """One deferred task marked as failed, one cleared; run id and first taskId by DAG id."""
    stack = world.stack
    purchases = Purchases(world)
    runs = {dag_id: stack.trigger(dag_id) for dag_id in ("faults_marked_failed", "faults_cleared")}
    purchases.wait_until_watched(2)
    first = {
        dag_id: stack.read_xcom(dag_id, run_id, "generate", "submission")["seedream_task_id"]
        for dag_id, run_id in runs.items()
    }
    stack.mark_failed("faults_marked_failed", runs["faults_marked_failed"], "generate")
    stack.clear("faults_cleared", runs["faults_cleared"], "generate")
    for dag_id, run_id in runs.items():
        world.wait_for_log(dag_id, run_id, "generate", "ended from outside")
    purchases.wait_until_watched(3)
    world.clock.put_forward(HOURS)
    for dag_id, run_id in runs.items():
        stack.wait_for_run(dag_id, run_id)
    return {dag_id: (run_id, first[dag_id]) for dag_id, run_id in runs.items()}


@pytest.mark.fault(
    "A deferred task is marked failed, or cleared",
    "The log says that the APIXO task cannot be cancelled and will still be billed, with its taskId",
    "the task, when it delivers; a cleared task buys anew",
)
class TestEndedByAUser:
    @pytest.mark.parametrize(
        ("dag_id", "state"), [("faults_marked_failed", "failed"), ("faults_cleared", "success")]
    )
    def test_the_log_says_what_is_still_billed(
        self, world: World, ended: dict[str, tuple[str, str]], dag_id: str, state: str
    ) -> None:
        run_id, seedream_task_id = ended[dag_id]
        log = world.stack.read_task_log(dag_id, run_id, "generate", 1)
        assert re.search(
            rf"ended from outside. Task {seedream_task_id} is in state (pending|processing)\.", log
        )
        assert "cannot be cancelled: it will still be billed when it delivers" in log
        assert world.stack.get_run_state(dag_id, run_id) == state


# --- results that come at once -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def at_once(world: World) -> dict[str, str]:
    """Both DAGs over tasks that are already finished; run id by DAG id."""
    purchases = Purchases(world)
    conf = {"seedream_task_ids": [buy(world) for _ in range(FINISHED)]}
    runs = {
        "faults_finished_before_the_sensors": world.stack.trigger("faults_finished_before_the_sensors", conf),
        "faults_finished_at_once": world.stack.trigger("faults_finished_at_once"),
    }
    for dag_id, run_id in runs.items():
        world.stack.wait_for_run(dag_id, run_id, timeout=600)
    assert len(purchases.tasks()) == 2 * FINISHED
    return runs


def buy(world: World) -> str:
    """Submit, as another program would; returns the taskId."""
    response = httpx.post(
        f"{world.sandbox.base_url}/generateTask/seedream-4-5",
        headers={"Authorization": f"Bearer {KEY}"},
        json={
            "request_type": "async",
            "input": {"mode": "text-to-image", "prompt": "a fox [[seconds:0]]", "max_images": 1},
        },
    )
    return str(response.json()["data"]["taskId"])


@pytest.mark.fault(
    "200 tasks are already finished when their sensors or Generate tasks start, with no retries",
    "All succeed: nothing resumes before Airflow's scheduler has seen it defer",
    "each image once",
)
class TestFinishedAtOnce:
    @pytest.mark.parametrize("dag_id", ["faults_finished_before_the_sensors", "faults_finished_at_once"])
    def test_all_succeed(
        self, world: World, database: Postgres, at_once: dict[str, str], dag_id: str
    ) -> None:
        failed = [
            (ti["map_index"], ti["state"])
            for ti in world.stack.list_task_instances(dag_id, at_once[dag_id])
            if (ti["state"], ti["try_number"]) != ("success", 1)
        ]
        assert failed == []
        records = results(database, dag_id, at_once[dag_id])
        assert len({record["seedream_task_id"] for record in records}) == FINISHED
        assert sum(record["cost_usd"] for record in records) == pytest.approx(FINISHED * PRICE)
