"""A sandbox on a real socket, under a clock that the tests set."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from airflow_provider_seedream.sandbox.server import SandboxServer
from tests.unit.sandbox.users import Account, Clock


@pytest.fixture(scope="session")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def server(clock: Clock) -> Iterator[SandboxServer]:
    """One sandbox for all tests, with the vendor's own generation times."""
    with SandboxServer(time_scale=1, clock=clock) as running:
        yield running


@pytest.fixture(scope="session")
def http() -> Iterator[httpx.Client]:
    """One client for all tests, since each new one costs a TLS context. It has no key."""
    with httpx.Client(trust_env=False, timeout=30) as client:
        yield client


@pytest.fixture
def open_account(server: SandboxServer, http: httpx.Client) -> Callable[[str], Account]:
    """Accounts by key, in a sandbox that is as new."""
    http.post(f"{server.origin}/sandbox/reset").raise_for_status()
    return lambda key: Account(server, http, key)


@pytest.fixture
def account(open_account: Callable[[str], Account]) -> Account:
    return open_account("key-of-a-tester")


@pytest.fixture
def url(account: Account, clock: Clock) -> str:
    """The address of a finished image."""
    task = account.submit("a fox in watercolor style")
    clock.advance(60)
    return account.urls(task)[0]
