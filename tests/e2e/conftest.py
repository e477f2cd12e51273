"""One real Airflow for all end-to-end tests, each component and each task a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.airflow_world import World, airflow_world

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The example DAGs and those beside this file, on a real Airflow."""
    dags = {"examples": ROOT / "dags_examples", "e2e": Path(__file__).parent / "dags"}
    with airflow_world(tmp_path_factory.mktemp("airflow"), dags, time_scale=0.3) as world:
        yield world
