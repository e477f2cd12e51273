"""A result host that can misbehave, over real HTTP on loopback."""

from __future__ import annotations

import hashlib
import io
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image


def picture(format_: str = "PNG", size: tuple[int, int] = (96, 64)) -> bytes:
    """A small image of noise, which no format compresses to nothing."""
    image = Image.frombytes("RGB", size, os.urandom(size[0] * size[1] * 3))
    out = io.BytesIO()
    image.save(out, format_)
    return out.getvalue()


@dataclass
class Resource:
    """What a path serves.

    :param faults: taken one per request; when they are used up, the host behaves.
    """

    body: bytes
    faults: list[Fault] = field(default_factory=list)
    content_type: str = "image/png"
    etag: bool = True
    ranges: bool = True

    @property
    def tag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:16]}"'


Fault = Callable[["Handler", Resource], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        host = self.server.host
        host.requests.append((self.path, dict(self.headers.items())))
        resource = host.resources.get(self.path.partition("?")[0])
        if resource is None:
            status(404)(self, Resource(b""))
        elif resource.faults:
            resource.faults.pop(0)(self, resource)
        else:
            self.serve(resource)

    def serve(self, resource: Resource) -> None:
        start = self._range_start(resource)
        body = memoryview(resource.body)[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(resource.body) - 1}/{len(resource.body)}")
        self.finish_headers(resource, len(body))
        self.wfile.write(body)

    def finish_headers(self, resource: Resource, length: int) -> None:
        self.send_header("Content-Type", resource.content_type)
        self.send_header("Content-Length", str(length))
        if resource.etag:
            self.send_header("ETag", resource.tag)
        self.end_headers()

    def hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True

    def _range_start(self, resource: Resource) -> int:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if match and resource.ranges and self.headers.get("If-Range") == resource.tag:
            return int(match[1])
        return 0

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    host: ImageHost

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # clients that hang up early are part of the tests


class ImageHost:
    """The host as a test sees it: what it serves, and what it was asked for."""

    def __init__(self, server: Server) -> None:
        self.origin = f"http://127.0.0.1:{server.server_address[1]}"
        self.resources: dict[str, Resource] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []

    def put(self, path: str, body: bytes | None = None, *faults: Fault, **options: object) -> str:
        """Serve a body, by default a small PNG; returns its URL."""
        self.resources[path] = Resource(picture() if body is None else body, list(faults), **options)  # type: ignore[arg-type]
        return self.origin + path

    def body(self, path: str) -> bytes:
        return self.resources[path].body

    def ranges(self) -> list[str | None]:
        """The Range header of every request, in order."""
        return [headers.get("Range") for _, headers in self.requests]


@contextmanager
def running_host() -> Iterator[ImageHost]:
    server = Server(("127.0.0.1", 0), Handler)
    server.host = ImageHost(server)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.host
    finally:
        server.shutdown()
        server.server_close()


# --- faults ------------------------------------------------------------------------------------------


def status(code: int, **headers: str) -> Fault:
    """Answer with a status and no body; ``Retry_After="1"`` becomes the header ``Retry-After``."""

    def fault(handler: Handler, resource: Resource) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return fault


def redirect(location: str, code: int = 302) -> Fault:
    return status(code, Location=location)


def cut(after: int) -> Fault:
    """Announce the whole body, send a part, hang up."""

    def fault(handler: Handler, resource: Resource) -> None:
        handler.send_response(200)
        handler.finish_headers(resource, len(resource.body))
        handler.wfile.write(resource.body[:after])
        handler.hang_up()

    return fault


def announce(length: int) -> Fault:
    """Announce another length than the body's, and hang up after the body."""

    def fault(handler: Handler, resource: Resource) -> None:
        handler.send_response(200)
        handler.finish_headers(resource, length)
        handler.wfile.write(resource.body)
        handler.hang_up()

    return fault


def unannounced(length: int) -> Fault:
    """Send a part of the body without saying how long it is, so that the end looks like the end."""

    def fault(handler: Handler, resource: Resource) -> None:
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.wfile.write(resource.body[:length])
        handler.hang_up()

    return fault


def instead(body: bytes) -> Fault:
    """Serve other bytes."""

    def fault(handler: Handler, resource: Resource) -> None:
        handler.serve(Resource(body, content_type=resource.content_type))

    return fault


def wrong_part(start: int) -> Fault:
    """Answer any request with a part that begins elsewhere."""

    def fault(handler: Handler, resource: Resource) -> None:
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(resource.body) - 1}/{len(resource.body)}")
        handler.finish_headers(resource, len(resource.body) - start)
        handler.wfile.write(resource.body[start:])

    return fault


def stall(after: int, until: threading.Event, reached: threading.Event | None = None) -> Fault:
    """Send a part of the body, then nothing until the event.

    :param reached: set when the part is sent.
    """

    def fault(handler: Handler, resource: Resource) -> None:
        handler.send_response(200)
        handler.finish_headers(resource, len(resource.body))
        handler.wfile.write(resource.body[:after])
        handler.wfile.flush()
        if reached:
            reached.set()
        until.wait(30)
        handler.hang_up()

    return fault


def flipped(body: bytes, position: int | None = None) -> bytes:
    """The same length, one byte inverted: by default the one in the middle."""
    position = len(body) // 2 if position is None else position
    return body[:position] + bytes([body[position] ^ 0xFF]) + body[position + 1 :]
