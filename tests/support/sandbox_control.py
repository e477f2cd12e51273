"""Steers a running sandbox and reads its records, through its own pages."""

from __future__ import annotations

from typing import Any

import httpx


class SandboxControl:
    """What a test does with a sandbox besides buying.

    :param origin: of the sandbox, such as ``http://127.0.0.1:8765``.
    """

    def __init__(self, origin: str) -> None:
        self.origin = origin
        # One client for all calls, since each reads its certificates anew; a connection for each call, since
        # the sandbox closes idle ones.
        self._pages = httpx.Client(
            base_url=f"{origin}/sandbox",
            trust_env=False,
            timeout=60,
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def ledger(self) -> dict[str, Any]:
        """Return everything that the sandbox has recorded."""
        return dict(self._pages.get("/ledger").json())

    def fault(self, path: str, times: int = 1, every: int = 1, **action: Any) -> None:
        """Switch a fault on for the next requests to a path, or for every so many of them."""
        body = {"path": path, "times": times, "every": every, "action": action}
        self._pages.post("/faults", json=body).raise_for_status()

    def clear_faults(self) -> None:
        """Switch all faults off."""
        self._pages.delete("/faults").raise_for_status()

    def reset(self) -> None:
        """Let the sandbox forget its tasks, faults and records."""
        self._pages.post("/reset").raise_for_status()

    def deliver(self, seedream_task_id: str) -> int | None:
        """Deliver the callback of a finished task now; return the status of the answer, if one came."""
        answer = self._pages.post("/callbacks", params={"taskId": seedream_task_id})
        status: int | None = answer.raise_for_status().json()["status"]
        return status
