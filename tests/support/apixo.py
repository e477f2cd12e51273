"""The sandbox as a unit test sees it, and the account that the test has there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from airflow_provider_seedream.sandbox.server import SandboxServer

KEY = "sk-test-4f1d"

Connect = Callable[..., None]
"""Sets the connection ``seedream_default``, given its fields."""


class Apixo:
    """The sandbox as a test sees it: its addresses, its ledger, and its faults."""

    def __init__(self, server: SandboxServer) -> None:
        self.base_url = server.base_url
        self.origin = server.origin
        self.key = KEY

    def ledger(self) -> dict[str, Any]:
        """Return everything that the sandbox has recorded."""
        return dict(httpx.get(f"{self.origin}/sandbox/ledger").json())

    def tasks(self) -> list[dict[str, Any]]:
        """Return the tasks that were bought."""
        return list(self.ledger()["tasks"])

    def requests(self, path: str) -> list[dict[str, Any]]:
        """Return the requests whose path holds a text."""
        return [request for request in self.ledger()["requests"] if path in request["path"]]

    def fault(self, path: str, times: int = 1, every: int = 1, **action: Any) -> None:
        """Switch a fault on for the next requests to a path, or for every so many of them."""
        body = {"path": path, "times": times, "every": every, "action": action}
        httpx.post(f"{self.origin}/sandbox/faults", json=body).raise_for_status()
