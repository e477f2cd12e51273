"""Serves the sandbox over a real socket: in this thread for the command line, in another one for tests."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from types import TracebackType
from typing import Self

import uvicorn

from airflow_provider_seedream.sandbox.app import Clock, Sandbox, Settings, create_app
from airflow_provider_seedream.sandbox.directives import Directives
from airflow_provider_seedream.sandbox.faults import API
from airflow_provider_seedream.sandbox.tcp import CuttableProtocol

LAST_ANSWERS_SECONDS = 5
"""What is still running at the end, two drawings at most, gets this long."""


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket; connections wait in it until the server runs.

    :param port: 0 picks a free one.
    :raises OSError: where the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The explicit protocol lets asyncio switch Nagle's algorithm off; with it each answer takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except BaseException:
        listener.close()
        raise
    return listener


def read_origin(listener: socket.socket) -> str:
    """Return ``http://HOST:PORT`` of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Server(uvicorn.Server):
    """uvicorn with the sandbox on one socket.

    :param on_ready: called when requests are answered.
    """

    def __init__(
        self, listener: socket.socket, settings: Settings, clock: Clock, on_ready: Callable[[], None]
    ) -> None:
        self._sandbox = Sandbox(settings, clock)
        config = uvicorn.Config(
            create_app(self._sandbox),
            http=CuttableProtocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            timeout_graceful_shutdown=LAST_ANSWERS_SECONDS,
        )
        super().__init__(config)
        self._listener = listener
        self._on_ready = on_ready

    def serve_forever(self) -> None:
        """Serve until told to exit."""
        self.run(sockets=[self._listener])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Cut all connections and give up what is to be drawn, so that nothing is waited for."""
        self._sandbox.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)
        await super().shutdown(sockets)


class SandboxServer:
    """A sandbox in a thread of its own, for tests.

    ::

        with SandboxServer(time_scale=0.01) as sandbox:
            httpx.get(f"{sandbox.base_url}/apikeys/current-balance", headers={"Authorization": "Bearer key"})
            httpx.get(f"{sandbox.origin}/sandbox/ledger")

    :param port: 0 picks a free one.
    :param time_scale: factor on generation times and callback delays.
    :param balance: USD that every account starts with.
    :param fail: failCode of all tasks whose prompt says nothing else.
    :param deliver: number of images of all tasks whose prompt says nothing else.
    :param clock: epoch seconds; the wall clock if not given. Callbacks wait in real time all the same.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        time_scale: float = 0.01,
        balance: Decimal | float = 100,
        fail: str | None = None,
        deliver: int | None = None,
        clock: Clock = time.time,
    ) -> None:
        settings = Settings(time_scale, Decimal(str(balance)), Directives(fail=fail, deliver=deliver))
        self._listener = listen(host, port)
        self.origin = read_origin(self._listener)
        """``http://HOST:PORT``; ``/sandbox`` and ``/results`` live under it."""
        self.base_url = self.origin + API
        """What a connection's host is set to."""
        self._ready = threading.Event()
        self._server = Server(self._listener, settings, clock, on_ready=self._ready.set)
        self._thread = threading.Thread(target=self._server.serve_forever, name="sandbox", daemon=True)

    def start(self) -> Self:
        """Start serving, and return when requests are answered."""
        self._thread.start()
        if not self._ready.wait(timeout=30):
            raise RuntimeError("The sandbox did not start")
        return self

    @property
    def is_running(self) -> bool:
        """True while it serves, or still is about to end."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End it and wait for the end; a second call does nothing."""
        self._server.should_exit = True
        if self.is_running:
            self._thread.join(timeout=30)
        self._listener.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
