"""A stand-in for Airflow's api-server in tests of the worker's side: it hears callbacks over real HTTP and
leaves the record that the real one leaves (``tests/unit/callback_endpoint``, ``tests/callbacks``)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from airflow_provider_seedream.callbacks.delivery import (
    Delivery,
    DeliveryRecord,
    ResumeEvent,
    make_delivery_key,
)
from airflow_provider_seedream.callbacks.token import CallbackToken

TIMEOUT_SECONDS = 30


@dataclass
class Heard:
    """One callback as it came."""

    path: str
    body: bytes

    @property
    def token(self) -> CallbackToken:
        token = CallbackToken.from_text(self.path.rpartition("/")[2])
        assert token is not None
        return token

    @property
    def record(self) -> DeliveryRecord:
        delivery = Delivery.from_body(self.body)
        assert delivery is not None
        return DeliveryRecord(
            digest=self.token.digest,
            seedream_task_id=delivery.seedream_task_id,
            state=delivery.state,
            delivered_at=time.time(),
        )


@dataclass
class ApiServer:
    """Where callbacks arrive.

    :param stores: the records go into the task state store of each, as if every task had bought.
    """

    base_url: str
    stores: list[Any] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)

    def take(self, path: str, body: bytes) -> None:
        """Record a callback."""
        heard = Heard(path, body)
        if CallbackToken.from_text(path.rpartition("/")[2]):
            for store in self.stores:
                store.set(make_delivery_key(heard.token.digest), heard.record.to_json())
        with self._news:
            self.heard.append(heard)
            self._news.notify_all()

    def wait_for(self, count: int = 1) -> Heard:
        """Wait for the callback with this number, from 1."""
        with self._news:
            assert self._news.wait_for(lambda: len(self.heard) >= count, TIMEOUT_SECONDS)
        return self.heard[count - 1]


def make_resume_event(
    deadline: float | None = None, seedream_task_ids: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The event by which the api-server resumes a task whose callback has come just now."""
    return ResumeEvent(
        delivered_at=time.time(), deadline=deadline, seedream_task_ids=seedream_task_ids
    ).to_event()


@contextmanager
def api_server() -> Iterator[ApiServer]:
    """Hear callbacks on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            here.take(self.path, body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        here = ApiServer(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield here
        server.shutdown()
