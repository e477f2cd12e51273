"""Measures how long after its completion at APIXO a task goes on, told by a callback or by its polls.

Both kinds wait side by side in one run of a real Airflow, in generations of 25-35 s: on PostgreSQL where its
server and driver are installed, on SQLite otherwise. It takes about two minutes.

    python benchmarks/callback_delay.py [TASKS OF EACH KIND]
"""

from __future__ import annotations

import math
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from dev.postgres import PostgresError, find_binaries
from tests.support.airflow_on_postgres import SETTINGS, postgres
from tests.support.airflow_world import World, airflow_world

DAG_ID = "callback_delay"
KINDS = {"callback": "told by a callback", "async": "polled"}
DEFAULT_TASKS = 20
LIMIT_SECONDS = 900


def main() -> None:
    """Print delay and polls of both."""
    tasks = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_TASKS
    dags = {"benchmark": Path(__file__).parent / "dags"}
    env = SETTINGS | {"AIRFLOW__CORE__PARALLELISM": "12", "BENCH_TASKS": str(tasks)}
    with (
        tempfile.TemporaryDirectory() as base,
        run_database() as url,
        airflow_world(Path(base), dags, time_scale=1, env=env, database_url=url) as world,
    ):
        report(world, run(world))


@contextmanager
def run_database() -> Iterator[str | None]:
    """Run a PostgreSQL server and yield its URL, or ``None`` where it or its driver is missing."""
    if obstacle := describe_obstacle():
        print(f"On SQLite: {obstacle}")
        yield None
        return
    with postgres() as server:
        yield server.url


def describe_obstacle() -> str:
    """Describe what PostgreSQL needs and is missing, if anything is."""
    try:
        find_binaries()
    except PostgresError as error:
        return str(error)
    missing = [driver for driver in ("psycopg2", "asyncpg") if find_spec(driver) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def run(world: World) -> str:
    """Run the DAG to its end."""
    run_id = world.stack.trigger(DAG_ID)
    if world.stack.wait_for_run(DAG_ID, run_id, LIMIT_SECONDS) != "success":
        sys.exit("the run failed")
    return run_id


def report(world: World, run_id: str) -> None:
    """Print what was measured."""
    ledger = {task["taskId"]: task for task in world.ledger()["tasks"]}
    instances = world.stack.list_task_instances(DAG_ID, run_id)
    for kind, words in KINDS.items():
        indexes = [one["map_index"] for one in instances if one["task_id"] == kind]
        delays, polls = zip(*(measure(world, ledger, run_id, kind, n) for n in indexes), strict=True)
        print(
            f"{words:20}{len(delays):4} tasks   delay: median {statistics.median(delays):5.1f} s,"
            f" p95 {compute_percentile(delays, 95):5.1f} s   {statistics.mean(polls):4.1f} polls per task"
        )


def measure(
    world: World, ledger: dict[str, Any], run_id: str, kind: str, map_index: int
) -> tuple[float, int]:
    """Return the seconds from a task's completion until it is resumed, and the polls that it took."""
    result = world.stack.read_xcom(DAG_ID, run_id, kind, map_index=map_index)
    resumed_at = world.stack.read_xcom(DAG_ID, run_id, kind, "resumed_at", map_index)
    task = ledger[result["seedream_task_id"]]
    return float(resumed_at) - float(task["completed_at"]), int(task["polls"])


def compute_percentile(values: tuple[float, ...], percent: float) -> float:
    """Return the smallest value that so many percent do not exceed."""
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


if __name__ == "__main__":
    main()
