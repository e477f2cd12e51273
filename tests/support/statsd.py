"""A receiver of Airflow's metrics."""

from __future__ import annotations

import socket
import threading


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
        """Return the sum of a counter."""
        prefix = f"airflow.{name}:"
        lines = [line for line in self.lines if line.startswith(prefix)]
        return sum(float(line.removeprefix(prefix).split("|")[0]) for line in lines)
