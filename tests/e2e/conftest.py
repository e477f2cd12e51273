"""One real Airflow for all end-to-end tests, each component and each task a process of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from airflow_provider_seedream.sandbox.server import SandboxServer
from dev.airflow_stack import AirflowStack

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-e2e-93ab77"


class World:
    """The running Airflow, its sandbox, and the folder that receives the images."""

    def __init__(self, stack: AirflowStack, sandbox: SandboxServer, images: Path) -> None:
        self.stack = stack
        self.sandbox = sandbox
        self.images = images

    def ledger(self) -> dict[str, Any]:
        """Everything that the sandbox has recorded."""
        return dict(httpx.get(f"{self.sandbox.origin}/sandbox/ledger").json())

    def task(self, seedream_task_id: str) -> dict[str, Any]:
        """The sandbox's record of one task."""
        return next(task for task in self.ledger()["tasks"] if task["taskId"] == seedream_task_id)

    def instances(self, dag_id: str, run_id: str) -> dict[str, str]:
        """State of every task instance, by ``task_id`` and map index."""
        return {
            ti["task_id"] + (f"[{ti['map_index']}]" if ti["map_index"] >= 0 else ""): ti["state"]
            for ti in self.stack.task_instances(dag_id, run_id)
        }


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The example DAGs and those beside this file, on a real Airflow."""
    base = tmp_path_factory.mktemp("airflow")
    images = base / "images"
    dags = base / "dags"
    dags.mkdir()
    (dags / "examples").symlink_to(ROOT / "dags_examples")
    (dags / "e2e").symlink_to(Path(__file__).parent / "dags")
    with SandboxServer(time_scale=0.3) as sandbox:
        env = {
            "AIRFLOW_CONN_SEEDREAM_DEFAULT": json.dumps(
                {"conn_type": "seedream", "host": sandbox.base_url, "password": KEY}
            ),
            "AIRFLOW_CONN_SEEDREAM_WRONG_KEY": json.dumps(
                {"conn_type": "seedream", "host": sandbox.base_url, "password": "invalid"}
            ),
            "AIRFLOW_VAR_SEEDREAM_DESTINATION": images.as_uri(),
        }
        with AirflowStack(base / "home", dags, env) as stack:
            yield World(stack, sandbox, images)
