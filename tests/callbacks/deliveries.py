"""What the tests of callbacks ask of the sandbox, and read in the logs of the tasks."""

from __future__ import annotations

from typing import Any

from tests.support.airflow_world import World

RESUMED = "Resumed by a callback"
"""The log line of a task that a callback has resumed."""


def statuses(task: dict[str, Any]) -> list[int | None]:
    """How the deliveries of a task were answered, from its entry in the ledger."""
    return [delivery["status"] for delivery in task["callbacks"]]


def token_of(task: dict[str, Any]) -> str:
    """The last part of the address that was given out for a task."""
    return str(task["callback_url"]).rpartition("/")[2]


def count_resumes(
    world: World, dag_id: str, run_id: str, task_id: str, map_index: int = -1, try_number: int = 1
) -> int:
    """How often callbacks have resumed a try."""
    return world.stack.read_task_log(dag_id, run_id, task_id, try_number, map_index).count(RESUMED)
