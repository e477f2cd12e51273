"""The endpoint on a real socket, and a DAG run in the metadata database."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_seedream import metrics
from airflow_provider_seedream.callback_endpoint.app import CallbackApp
from airflow_provider_seedream.callback_endpoint.limits import EndpointLimits
from airflow_provider_seedream.callback_endpoint.reports import Reports
from tests.unit.callback_endpoint.callback_site import (
    Counted,
    FakeDeliveries,
    OpenSite,
    Server,
    Site,
)
from tests.unit.callback_endpoint.callback_world import World


@pytest.fixture
def deliveries() -> FakeDeliveries:
    return FakeDeliveries()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """The counters that were added to, as that happens."""
    counters: Counted = queue.Queue()
    monkeypatch.setattr(metrics.Stats, "incr", lambda name, tags: counters.put((name, tags)))
    return counters


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


@pytest.fixture
def open_site(server: Server, deliveries: FakeDeliveries) -> Iterator[OpenSite]:
    """Opens the endpoint with other limits than its own."""

    def start(reports: Reports | None = None, **limits: Any) -> Site:
        return Site(server, CallbackApp(deliveries, EndpointLimits(**limits), reports))

    yield start
    deliveries.open.set()


@pytest.fixture
def site(open_site: OpenSite) -> Site:
    """The endpoint with its own limits."""
    return open_site()


@pytest.fixture
def world(airflow_database: None) -> World:
    return World()
