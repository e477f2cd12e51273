"""One real Airflow on PostgreSQL for all tests of callbacks; the sandbox delivers to its api-server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dev.postgres import Postgres
from tests.support.airflow_on_postgres import SETTINGS, postgres
from tests.support.airflow_world import World, airflow_world


@pytest.fixture(scope="package")
def database() -> Iterator[Postgres]:
    """The metadata database."""
    with postgres() as server:
        yield server


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory, database: Postgres) -> Iterator[World]:
    """The DAGs beside this file; the sandbox draws and repeats ten times as fast.

    Nothing is set for callbacks: the address is Airflow's ``[api] base_url``.
    """
    base = tmp_path_factory.mktemp("airflow")
    dags = {"callbacks": Path(__file__).parent / "dags"}
    with airflow_world(base, dags, time_scale=0.1, env=SETTINGS, database_url=database.url) as world:
        yield world
