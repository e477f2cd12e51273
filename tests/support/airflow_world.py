"""A real Airflow beside a sandbox, each component and each task a process of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from airflow_provider_seedream.sandbox.server import SandboxServer
from dev.airflow_stack import AirflowStack
from tests.support.sandbox_control import SandboxControl

KEY = "sk-e2e-93ab77"


class Clock:
    """The wall clock, which can be put forward: what the sandbox draws for hours is then finished at once."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        """Epoch seconds."""
        return time.time() + self.ahead

    def put_forward(self, seconds: float) -> None:
        """Let seconds pass."""
        self.ahead += seconds


class World(SandboxControl):
    """The running Airflow, its sandbox, and the folder that receives the images."""

    def __init__(self, stack: AirflowStack, sandbox: SandboxServer, clock: Clock, images: Path) -> None:
        super().__init__(sandbox.origin)
        self.stack = stack
        self.sandbox = sandbox
        self.clock = clock
        self.images = images

    def task(self, seedream_task_id: str) -> dict[str, Any]:
        """The sandbox's record of one task."""
        return next(task for task in self.ledger()["tasks"] if task["taskId"] == seedream_task_id)

    def wait_for_log(self, dag_id: str, run_id: str, task_id: str, words: str, try_number: int = 1) -> str:
        """Wait until the log of a try holds some words, which may come after the task's end; returns it."""
        log = ""

        def says() -> bool:
            nonlocal log
            log = self.stack.read_task_log(dag_id, run_id, task_id, try_number)
            return words in log

        self.stack.wait_until(says, f"the log of {dag_id}.{task_id}, try {try_number}, says {words!r}", 60)
        return log

    def instances(self, dag_id: str, run_id: str) -> dict[str, str]:
        """State of every task instance, by ``task_id`` and map index."""
        return {
            ti["task_id"] + (f"[{ti['map_index']}]" if ti["map_index"] >= 0 else ""): ti["state"]
            for ti in self.stack.list_task_instances(dag_id, run_id)
        }


class Purchases:
    """What the sandbox's ledger has gained since this was made."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._before = len(world.ledger()["tasks"])

    def tasks(self) -> list[dict[str, Any]]:
        """The tasks, in the order of their purchase."""
        return list(self._world.ledger()["tasks"][self._before :])

    def wait_until_watched(self, count: int) -> None:
        """Wait until so many tasks were bought and the triggerer has polled each."""

        def watched() -> bool:
            return sum(1 for task in self.tasks() if task["polls"]) >= count

        self._world.stack.wait_until(watched, f"{count} tasks are watched", 180)


@contextmanager
def airflow_world(
    base: Path,
    dags: Mapping[str, Path],
    *,
    time_scale: float,
    env: Mapping[str, str] | None = None,
    **stack_options: Any,
) -> Iterator[World]:
    """Start both; the connection ``seedream_default`` leads to the sandbox.

    :param base: empty folder for everything that is left behind.
    :param dags: folders of DAG files, by the name under which they appear in the DAGs folder.
    :param time_scale: factor on the sandbox's generation times.
    :param env: more environment for Airflow.
    :param stack_options: further parameters of :class:`AirflowStack`.
    """
    images = base / "images"
    dags_folder = base / "dags"
    dags_folder.mkdir()
    for name, folder in dags.items():
        (dags_folder / name).symlink_to(folder)
    clock = Clock()
    with SandboxServer(time_scale=time_scale, clock=clock) as sandbox:
        whole_env = {
            "AIRFLOW_CONN_SEEDREAM_DEFAULT": connection(sandbox, KEY),
            "AIRFLOW_CONN_SEEDREAM_WRONG_KEY": connection(sandbox, "invalid"),
            # A retry waits this long for the answer to a submission of the try before.
            "AIRFLOW_CONN_SEEDREAM_SHORT_TIMEOUT": connection(sandbox, KEY, request_timeout=25),
            "AIRFLOW_VAR_SEEDREAM_DESTINATION": images.as_uri(),
            # Each task is a process of its own, and must not compile this package anew.
            "PYTHONDONTWRITEBYTECODE": "",
            # A file of DAGs is parsed again when it changes, so that is often enough.
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "600",
            **(env or {}),
        }
        with AirflowStack(base / "home", dags_folder, whole_env, **stack_options) as stack:
            yield World(stack, sandbox, clock, images)


def connection(sandbox: SandboxServer, key: str, **extra: Any) -> str:
    """An Airflow connection to a sandbox, as JSON."""
    fields = {"conn_type": "seedream", "host": sandbox.base_url, "password": key, "extra": extra}
    return json.dumps(fields)
