"""A sandbox, and a connection to it, for every test that speaks HTTP."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_seedream.purchases import lost_answer
from airflow_provider_seedream.sandbox.server import SandboxServer
from tests.support.airflow_runs import prepare_database
from tests.support.api_server import ApiServer, api_server
from tests.support.apixo import KEY, Apixo, Connect
from tests.support.purchases import AnyTask, generate, submit


@pytest.fixture(scope="session")
def sandbox_server() -> Iterator[SandboxServer]:
    with SandboxServer(time_scale=0.005) as server:
        yield server


@pytest.fixture(scope="session")
def _any_apixo(sandbox_server: SandboxServer) -> Apixo:
    return Apixo(sandbox_server)


@pytest.fixture
def apixo(_any_apixo: Apixo) -> Apixo:
    """A sandbox without tasks, faults and records."""
    _any_apixo.reset()
    return _any_apixo


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


@pytest.fixture
def quick(connected: Apixo, monkeypatch: pytest.MonkeyPatch) -> None:
    """No try of a task waits before it goes on."""
    monkeypatch.setenv("AIRFLOW__SEEDREAM__MIN_DEFERRAL_SECONDS", "0")
    monkeypatch.setattr(lost_answer, "may_be_on_its_way", lambda *_: False)


@pytest.fixture(params=["generate", "blocking generate", "submit"])
def any_task(request: pytest.FixtureRequest) -> AnyTask:
    """Everything that buys."""
    if request.param == "submit":
        return submit
    return lambda **fixed: generate(**{"deferrable": request.param == "generate", **fixed})


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """Where APIXO reaches Airflow."""
    with api_server() as server:
        monkeypatch.setenv("AIRFLOW__SEEDREAM__CALLBACK_BASE_URL", f"{server.base_url}/airflow/")
        yield server
