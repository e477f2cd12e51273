"""The sandbox as a unit test sees it, and the account that the test has there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_provider_seedream.sandbox.server import SandboxServer
from tests.support.sandbox_control import SandboxControl

KEY = "sk-test-4f1d"

Connect = Callable[..., None]
"""Sets the connection ``seedream_default``, given its fields."""


class Apixo(SandboxControl):
    """The sandbox as a test sees it: its addresses, its ledger, and its faults."""

    def __init__(self, server: SandboxServer) -> None:
        super().__init__(server.origin)
        self.base_url = server.base_url
        self.key = KEY

    def tasks(self) -> list[dict[str, Any]]:
        """Return the tasks that were bought."""
        return list(self.ledger()["tasks"])

    def requests(self, path: str) -> list[dict[str, Any]]:
        """Return the requests whose path holds a text."""
        return [request for request in self.ledger()["requests"] if path in request["path"]]
