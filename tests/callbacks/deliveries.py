"""What the tests of callbacks ask of the sandbox, and read in the logs of the tasks."""

from __future__ import annotations

from typing import Any

import httpx

from tests.support.airflow_world import World

RESUMED = "Resumed by a callback"
"""The log line of a task that a callback has resumed."""


def deliver(world: World, seedream_task_id: str) -> int | None:
    """Let the sandbox deliver the callback of a finished task now; the status of the answer, if one came."""
    answer = httpx.post(
        f"{world.sandbox.origin}/sandbox/callbacks", params={"taskId": seedream_task_id}, timeout=60
    )
    status: int | None = answer.raise_for_status().json()["status"]
    return status


def statuses(task: dict[str, Any]) -> list[int | None]:
    """How the deliveries of a task were answered, from its entry in the ledger."""
    return [delivery["status"] for delivery in task["callbacks"]]


def token_of(task: dict[str, Any]) -> str:
    """The last part of the address that was given out for a task."""
    return str(task["callback_url"]).rpartition("/")[2]


def resumptions(
    world: World, dag_id: str, run_id: str, task_id: str, map_index: int = -1, try_number: int = 1
) -> int:
    """How often callbacks have resumed a try."""
    return world.stack.read_task_log(dag_id, run_id, task_id, try_number, map_index).count(RESUMED)
