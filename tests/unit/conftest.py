"""A sandbox, and a connection to it, for every test that speaks HTTP."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from airflow.sdk import DAG

from airflow_provider_seedream.sandbox.server import SandboxServer
from tests.support.airflow_runs import prepare_database

KEY = "sk-test-4f1d"


class Apixo:
    """The sandbox as a test sees it: its addresses, its ledger, and its faults."""

    def __init__(self, server: SandboxServer) -> None:
        self.base_url = server.base_url
        self.origin = server.origin
        self.key = KEY

    def ledger(self) -> dict[str, Any]:
        """Everything that the sandbox has recorded."""
        return dict(httpx.get(f"{self.origin}/sandbox/ledger").json())

    def tasks(self) -> list[dict[str, Any]]:
        """The tasks that were bought."""
        return list(self.ledger()["tasks"])

    def requests(self, path: str) -> list[dict[str, Any]]:
        """The requests whose path holds a text."""
        return [request for request in self.ledger()["requests"] if path in request["path"]]

    def fault(self, path: str, times: int = 1, every: int = 1, **action: Any) -> None:
        """Switch a fault on for the next requests to a path, or for every so many of them."""
        body = {"path": path, "times": times, "every": every, "action": action}
        httpx.post(f"{self.origin}/sandbox/faults", json=body).raise_for_status()


@pytest.fixture(scope="session")
def sandbox_server() -> Iterator[SandboxServer]:
    with SandboxServer(time_scale=0.005) as server:
        yield server


@pytest.fixture
def apixo(sandbox_server: SandboxServer) -> Apixo:
    """A sandbox without tasks, faults and records."""
    httpx.post(f"{sandbox_server.origin}/sandbox/reset").raise_for_status()
    return Apixo(sandbox_server)


Connect = Callable[..., None]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Sets the connection ``seedream_default``."""

    def set_connection(**fields: Any) -> None:
        fields = {"conn_type": "seedream", "password": KEY, **fields}
        monkeypatch.setenv("AIRFLOW_CONN_SEEDREAM_DEFAULT", json.dumps(fields))

    return set_connection


@pytest.fixture
def connected(apixo: Apixo, connect: Connect) -> Apixo:
    """A fresh sandbox that ``seedream_default`` points to."""
    connect(host=apixo.base_url)
    return apixo


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """The metadata database that ``dag.test()`` needs."""
    prepare_database()


@pytest.fixture
def dag(
    airflow_database: None, connected: Apixo, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> DAG:
    """An empty DAG whose tasks speak to a fresh sandbox; ``dag.test()`` has no scheduler to wait for."""
    monkeypatch.setenv("AIRFLOW__SEEDREAM__MIN_DEFERRAL_SECONDS", "0")
    return DAG(re.sub(r"\W+", "_", request.node.name), schedule=None)
