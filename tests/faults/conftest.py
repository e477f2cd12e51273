"""One real Airflow on PostgreSQL for all tests that kill its processes."""

from __future__ import annotations

import socket
import threading
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


class Metrics:
    """A StatsD server that keeps what arrives, one ``name:amount|kind`` a line."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.lines: list[str] = []
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        while packet := self._socket.recv(65_536):
            self.lines += packet.decode().splitlines()

    def total(self, name: str) -> float:
        """The sum of a counter."""
        prefix = f"airflow.{name}:"
        lines = [line for line in self.lines if line.startswith(prefix)]
        return sum(float(line.removeprefix(prefix).split("|")[0]) for line in lines)


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
