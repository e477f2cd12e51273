"""Runs a TCP proxy that holds or cuts a chosen upload half-way."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Break:
    """The point at which uploads break.

    :param request: the start of the request, such as ``b"PUT /bucket/key"``.
    :param after: bytes of the request that are passed on.
    :param times: how often.
    :param hold: keep the connection open, silent, until :meth:`Proxy.mend`; otherwise it is cut at once.
    :ivar reached: set when the first upload has come so far.
    """

    request: bytes
    after: int
    times: int = 1
    hold: bool = False
    reached: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)

    def take(self, request: bytes) -> bool:
        """Count a request that a client has begun to send, and tell whether it breaks."""
        if self.times == 0 or not request.startswith(self.request):
            return False
        self.times -= 1
        return True


class Proxy:
    """The running proxy.

    :ivar origin: what clients connect to.
    """

    def __init__(self, host: str, port: int) -> None:
        self._upstream = (host, port)
        self._break: Break | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.origin = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def break_uploads(self, request: str, after: int, *, times: int = 1, hold: bool = False) -> Break:
        """Break the next uploads whose request starts so; see :class:`Break`."""
        self._break = Break(request.encode(), after, times, hold)
        return self._break

    def mend(self) -> None:
        """Let everything pass again; uploads that are held are cut."""
        if self._break:
            self._break.times = 0
            self._break.over.set()

    def close(self) -> None:
        """End; open connections end with their clients."""
        self.mend()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._upstream)
                threading.Thread(target=self._send, args=(client, server), daemon=True).start()
                threading.Thread(target=_pump, args=(server, client), daemon=True).start()

    def _send(self, client: socket.socket, server: socket.socket) -> None:
        """Pass on what the client sends."""
        with suppress(OSError):
            while data := client.recv(65536):
                found = self._break
                # A client sends the next request only after the last answer, so each begins a chunk.
                if found and found.take(data):
                    _pass_on(data, client, server, found.after)
                    found.reached.set()
                    if found.hold:
                        found.over.wait(60)
                    break
                server.sendall(data)
        _cut(client, server)


def _pass_on(data: bytes, client: socket.socket, server: socket.socket, count: int) -> None:
    """Pass on so many bytes, beginning with those that are here."""
    while data and count > 0:
        server.sendall(data[:count])
        count -= len(data)
        data = client.recv(65536) if count > 0 else b""


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    _cut(source, target)


def _cut(*sockets: socket.socket) -> None:
    for end in sockets:
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


@contextmanager
def run_proxy(host: str, port: int) -> Iterator[Proxy]:
    proxy = Proxy(host, port)
    try:
        yield proxy
    finally:
        proxy.close()
