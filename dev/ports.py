"""Finds TCP ports of the loopback address."""

from __future__ import annotations

import contextlib
import socket


def find_free_ports(count: int) -> list[int]:
    """Return TCP ports of the loopback address that nobody uses."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def find_free_port(preferred: int) -> int:
    """Return a TCP port of the loopback address, or any other where that one is in use."""
    with socket.socket() as one:
        # As the server does: connections that have just ended are no hindrance.
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", preferred))
        except OSError:
            return find_free_ports(1)[0]
    return preferred
