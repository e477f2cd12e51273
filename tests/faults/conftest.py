"""One real Airflow on PostgreSQL for all tests that kill its processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.postgres import Postgres
from tests.support.airflow_on_postgres import SETTINGS, postgres
from tests.support.airflow_world import World, airflow_world
from tests.support.statsd import Metrics


@pytest.fixture(scope="package")
def database() -> Iterator[Postgres]:
    """The metadata database."""
    with postgres() as server:
        yield server


@pytest.fixture(scope="package")
def metrics() -> Metrics:
    """Where Airflow's metrics go."""
    return Metrics()


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory, database: Postgres, metrics: Metrics) -> Iterator[World]:
    """The DAGs beside this file, on a real Airflow; the sandbox draws a hundred times as fast."""
    base = tmp_path_factory.mktemp("airflow")
    dags = {"faults": Path(__file__).parent / "dags"}
    statsd = {
        "AIRFLOW__METRICS__STATSD_ON": "True",
        "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
        "AIRFLOW__METRICS__STATSD_PORT": str(metrics.port),
    }
    env = SETTINGS | statsd
    with airflow_world(base, dags, time_scale=0.01, env=env, database_url=database.url) as world:
        yield world
