"""Workers, machines and schedulers die, answers get lost, waits end: what is bought, and what is kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from dev.postgres import Postgres
from tests.support.airflow_world import Purchases, World
from tests.support.statsd import Metrics

pytestmark = pytest.mark.long

AN_HOUR = 1_000
"""Seconds by which the sandbox finishes a task that takes 100000, a hundred times as fast."""


@pytest.fixture
def purchases(world: World) -> Iterator[Purchases]:
    """What a test buys; no fault outlives it."""
    yield Purchases(world)
    world.clear_faults()


def kill_while_submitting(world: World, purchases: Purchases, dag_id: str) -> str:
    """Let a worker die while it waits for the answer to a submission that was accepted; the run id."""
    world.fault("/generateTask", delay=600)
    run_id = world.stack.trigger(dag_id)
    world.stack.wait_until(lambda: len(purchases.tasks()) == 1, "the task is bought", 120)
    world.stack.kill_task(dag_id, run_id, "generate")
    return run_id


def charged(purchases: Purchases) -> float:
    return round(sum(task["charged"] - task["refunded"] for task in purchases.tasks()), 3)


def saved_images(world: World, dag_id: str) -> list[str]:
    """Names of the images that a DAG has saved, each of which can be decoded and is in the manifest."""
    folder = world.images / dag_id
    (manifest,) = folder.glob("*.json")
    names = sorted(file.name for file in folder.iterdir() if file != manifest)
    for name in names:
        Image.open(folder / name).load()
    assert names == [image["name"] for image in json.loads(manifest.read_text())["images"]]
    return names


@pytest.mark.fault(
    "Worker killed (SIGKILL) after APIXO accepted a submission and before its answer was recorded",
    "The next try ends, and says that a charge may have happened, with the balance before and after",
    "once, or not at all",
)
def test_a_submission_without_an_answer_is_not_repeated(world: World, purchases: Purchases) -> None:
    dag_id = "faults_killed_submitting"
    run_id = kill_while_submitting(world, purchases, dag_id)
    assert world.stack.wait_for_run(dag_id, run_id) == "failed"
    log = world.wait_for_log(dag_id, run_id, "generate", "may have accepted and charged", 2)
    assert "Balance before: " in log
    assert "Charged: perhaps 0.070 USD" in log
    assert (len(purchases.tasks()), charged(purchases)) == (1, 0.07)


@pytest.mark.fault(
    "The same, with on_ambiguous_submit='resubmit'",
    "The next try says that a charge may have happened, and submits again",
    "twice, as the user chose",
)
def test_unless_the_user_chose_to(world: World, purchases: Purchases) -> None:
    dag_id = "faults_killed_submitting_resubmit"
    run_id = kill_while_submitting(world, purchases, dag_id)
    assert world.stack.wait_for_run(dag_id, run_id) == "success"
    world.wait_for_log(dag_id, run_id, "generate", "may have accepted and charged", 2)
    assert world.stack.read_xcom(dag_id, run_id, "generate") == purchases.tasks()[1]["taskId"]
    assert len(purchases.tasks()) == 2


@pytest.mark.fault(
    "Worker killed (SIGKILL) while it waits for a paid task",
    "The next try carries on with the same task",
    "once",
)
@pytest.mark.parametrize("dag_id", ["faults_killed_waiting", "faults_machine_lost"], ids=["task", "machine"])
def test_a_retry_carries_on(world: World, purchases: Purchases, dag_id: str) -> None:
    run_id = world.stack.trigger(dag_id)
    purchases.wait_until_watched(1)
    world.stack.kill_task(dag_id, run_id, "generate", with_worker=dag_id == "faults_machine_lost")
    assert_carried_on(world, purchases, dag_id, run_id)


@pytest.mark.fault(
    "Scheduler killed (SIGKILL) with its workers, and started anew",
    "The next try carries on with the same task",
    "once",
)
def test_also_after_the_scheduler_died(world: World, purchases: Purchases) -> None:
    dag_id = "faults_scheduler_killed"
    run_id = world.stack.trigger(dag_id)
    purchases.wait_until_watched(1)
    world.stack.kill("scheduler")
    world.stack.start_component("scheduler")
    assert_carried_on(world, purchases, dag_id, run_id)


def assert_carried_on(world: World, purchases: Purchases, dag_id: str, run_id: str) -> None:
    def second_try() -> bool:
        return bool(world.stack.get_task_instance(dag_id, run_id, "generate")["try_number"] == 2)

    world.stack.wait_until(second_try, "the second try begins", 180)
    world.clock.put_forward(AN_HOUR)
    assert world.stack.wait_for_run(dag_id, run_id) == "success"
    (task,) = purchases.tasks()
    assert world.stack.read_xcom(dag_id, run_id, "generate")["seedream_task_id"] == task["taskId"]
    world.wait_for_log(dag_id, run_id, "generate", f"Carrying on with task {task['taskId']}", 2)
    assert len(saved_images(world, dag_id)) == 1


@pytest.mark.fault(
    "Worker killed (SIGKILL) while it saves the images of a deferred task",
    "The next try saves them; no half image, no manifest before all are there",
    "once",
)
def test_paid_images_are_saved_by_the_next_try(world: World, purchases: Purchases) -> None:
    dag_id = "faults_killed_saving"
    world.fault("/results", times=2, delay=600)
    run_id = world.stack.trigger(dag_id)

    def downloading() -> bool:
        ids = [task["taskId"] for task in purchases.tasks()]
        paths = [request["path"] for request in world.ledger()["requests"] if "/results" in request["path"]]
        return any(task_id in path for task_id in ids for path in paths)

    world.stack.wait_until(downloading, "the images are being fetched", 120)
    world.stack.kill_task(dag_id, run_id, "generate")
    assert list((world.images / dag_id).glob("*.json")) == []
    assert world.stack.wait_for_run(dag_id, run_id) == "success"
    assert len(saved_images(world, dag_id)) == 3
    assert (len(purchases.tasks()), charged(purchases)) == (1, 0.105)


@pytest.mark.fault(
    "A user clears finished tasks",
    "Both are bought anew: who clears wants new images",
    "once more",
)
def test_a_clear_buys_anew(world: World, purchases: Purchases) -> None:
    dag_id = "faults_finished_then_cleared"
    run_id = world.stack.trigger(dag_id)
    assert world.stack.wait_for_run(dag_id, run_id) == "success"
    before = {task["taskId"] for task in purchases.tasks()}
    world.stack.clear(dag_id, run_id, "submit", "generate")
    world.stack.wait_until(lambda: len(purchases.tasks()) == 4, "both are bought anew", 120)
    assert world.stack.wait_for_run(dag_id, run_id) == "success"
    after = {
        world.stack.read_xcom(dag_id, run_id, "submit"),
        world.stack.read_xcom(dag_id, run_id, "generate")["seedream_task_id"],
    }
    assert (len(before), len(after), before & after) == (2, 2, set())


@pytest.mark.fault(
    "execution_timeout passes while the task is deferred",
    "Our error says so before Airflow would; the next try carries on with the same task",
    "once",
)
def test_execution_timeout_is_kept_while_deferred(world: World, purchases: Purchases) -> None:
    dag_id = "faults_execution_timeout"
    run_id = world.stack.trigger(dag_id)

    def second_try() -> bool:
        return bool(world.stack.get_task_instance(dag_id, run_id, "generate")["try_number"] == 2)

    world.stack.wait_until(second_try, "the first try has ended", 120)
    world.clock.put_forward(AN_HOUR)
    assert world.stack.wait_for_run(dag_id, run_id) == "success"
    assert len(purchases.tasks()) == 1
    log = world.wait_for_log(dag_id, run_id, "generate", "did not finish by its deadline")
    assert "Retry: carries on with what was bought" in log


@pytest.mark.fault(
    "APIXO throttles a submission and asks for 90 s, with SeedreamRetryPolicy",
    "Airflow waits as long as APIXO asked, whatever retry_delay says",
    "nothing",
)
def test_retry_after_becomes_the_delay_of_the_retry(
    world: World, database: Postgres, purchases: Purchases
) -> None:
    dag_id = "faults_throttled"
    world.fault("/generateTask", times=9, status=429, headers={"Retry-After": "90"})
    run_id = world.stack.trigger(dag_id)
    world.stack.wait_for_task(dag_id, run_id, "submit", "up_for_retry")
    world.wait_for_log(dag_id, run_id, "submit", "Retry policy decision")
    query = f"SELECT retry_delay_override FROM task_instance WHERE dag_id='{dag_id}' AND run_id='{run_id}'"
    assert float(database.query(query)[0][0]) == 90
    assert purchases.tasks() == []
    world.stack.mark_failed(dag_id, run_id, "submit")


@pytest.mark.fault(
    "A task is marked failed while its worker waits (SIGTERM)",
    "The log says that the APIXO task cannot be cancelled and will be billed, with its taskId; nothing hangs",
    "the task, when it delivers",
)
def test_a_stopped_worker_says_what_goes_on(world: World, purchases: Purchases) -> None:
    dag_id = "faults_stopped"
    run_id = world.stack.trigger(dag_id)
    purchases.wait_until_watched(1)
    world.stack.mark_failed(dag_id, run_id, "generate")
    words = f"Task {purchases.tasks()[0]['taskId']} cannot be cancelled"
    world.wait_for_log(dag_id, run_id, "generate", words)
    assert world.stack.wait_for_run(dag_id, run_id) == "failed"


@pytest.mark.fault(
    "APIXO delivers two of three images, with on_partial='top_up'",
    "The missing one is bought alone, and all three are saved under one manifest",
    "three images",
)
def test_just_the_missing_images_are_bought(world: World, purchases: Purchases, metrics: Metrics) -> None:
    dag_id = "faults_top_up"
    images, cost = metrics.total("seedream.images"), metrics.total("seedream.cost_usd")
    run_id = world.stack.trigger(dag_id)
    assert world.stack.wait_for_run(dag_id, run_id) == "success"
    result: dict[str, Any] = world.stack.read_xcom(dag_id, run_id, "generate")
    assert [task["requested"] for task in purchases.tasks()] == [3, 1]
    assert (result["delivered"], result["cost_usd"], charged(purchases)) == (3, 0.105, 0.105)
    assert metrics.total("seedream.images") - images == 3
    assert metrics.total("seedream.cost_usd") - cost == pytest.approx(0.105)
    assert len(saved_images(world, dag_id)) == 3
