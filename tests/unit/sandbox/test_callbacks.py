"""Callbacks, delivered to a real endpoint and repeated until it answers."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from airflow_provider_seedream.sandbox import callbacks
from airflow_provider_seedream.sandbox.server import SandboxServer
from tests.unit.sandbox.users import Account, text_to_image


class Endpoint:
    """A user's webhook: it answers with the given statuses in turn, the last one for ever."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.bodies: queue.Queue[dict[str, Any]] = queue.Queue()
        self.release = threading.Event()
        self.release.set()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                endpoint.bodies.put(json.loads(raw))
                endpoint.release.wait(timeout=30)
                self.send_response(endpoint.next_status())
                self.send_header("Location", endpoint.url)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def next_status(self) -> int:
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def __enter__(self) -> Endpoint:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def running() -> Iterator[SandboxServer]:
    """Callbacks wait in real time, so this sandbox is a thousand times faster."""
    with SandboxServer(time_scale=0.001) as server:
        yield server


@pytest.fixture
def account(running: SandboxServer, http: httpx.Client) -> Account:
    http.post(f"{running.origin}/sandbox/reset").raise_for_status()
    return Account(running, http, "key")


def submit(account: Account, endpoint: Endpoint, prompt: str = "a teapot") -> str:
    body = {"request_type": "callback", "callback_url": endpoint.url, "input": text_to_image(prompt)}
    return str(account.post(body).json()["data"]["taskId"])


def deliveries(account: Account, count: int) -> list[dict[str, Any]]:
    """A task's deliveries, once there are ``count`` of them in the ledger."""
    return eventually(
        lambda: account.ledger()["tasks"][0]["callbacks"], until=lambda attempts: len(attempts) >= count
    )


def attempts(account: Account, count: int) -> list[int | None]:
    """Statuses of a task's deliveries, once there are ``count`` of them in the ledger."""
    return [attempt["status"] for attempt in deliveries(account, count)]


def eventually(read: Callable[[], Any], until: Callable[[Any], bool]) -> Any:
    deadline = time.monotonic() + 30
    while not until(value := read()):
        assert time.monotonic() < deadline, f"still {value}"
        time.sleep(0.01)
    return value


class TestACallback:
    def test_carries_what_a_poll_shows(self, account: Account) -> None:
        with Endpoint(200) as endpoint:
            task = submit(account, endpoint)
            body = endpoint.bodies.get(timeout=30)
        assert (body["code"], body["message"]) == (200, "success")
        assert body["data"] == account.status(task)

    def test_of_a_failed_task_has_code_500(self, account: Account) -> None:
        with Endpoint(200) as endpoint:
            submit(account, endpoint, "a teapot [[fail:Timeout]]")
            body = endpoint.bodies.get(timeout=30)
        assert (body["code"], body["message"]) == (500, "failed")
        assert (body["data"]["state"], body["data"]["failCode"]) == ("failed", "Timeout")

    def test_that_is_answered_is_not_repeated(self, account: Account) -> None:
        with Endpoint(200) as endpoint:
            submit(account, endpoint)
            endpoint.bodies.get(timeout=30)
            assert attempts(account, 1) == [200]
            with pytest.raises(queue.Empty):
                endpoint.bodies.get(timeout=0.3)


class TestACallbackThatFails:
    def test_is_repeated_until_it_is_answered_with_200(self, account: Account) -> None:
        with Endpoint(500, 404, 200) as endpoint:
            submit(account, endpoint)
            assert attempts(account, 3) == [500, 404, 200]

    def test_is_given_up_after_three_repeats(self, account: Account) -> None:
        with Endpoint(503) as endpoint:
            submit(account, endpoint)
            assert attempts(account, 4) == [503] * 4
            bodies = [endpoint.bodies.get(timeout=30) for _ in range(4)]
            with pytest.raises(queue.Empty):
                endpoint.bodies.get(timeout=0.3)
        assert all(body == bodies[0] for body in bodies)

    def test_does_not_follow_a_redirect(self, account: Account) -> None:
        with Endpoint(302, 200) as endpoint:
            submit(account, endpoint)
            assert attempts(account, 2) == [302, 200]

    def test_is_repeated_when_nobody_listens(self, account: Account) -> None:
        with Endpoint(200) as endpoint:
            pass
        submit(account, endpoint)
        assert attempts(account, 4) == [None] * 4

    def test_is_repeated_when_the_answer_does_not_come_in_time(
        self, account: Account, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(callbacks, "SHORTEST_ANSWER_SECONDS", 0.1)
        with Endpoint(200) as endpoint:
            endpoint.release.clear()
            submit(account, endpoint)
            assert attempts(account, 1)[0] is None

    def test_waits_longer_before_each_repeat(self) -> None:
        assert callbacks.REPEAT_DELAYS[0] == 30
        assert list(callbacks.REPEAT_DELAYS) == sorted(set(callbacks.REPEAT_DELAYS))


class TestSteering:
    """What the words of a prompt do to the callbacks of its task."""

    def test_a_lost_one_is_never_sent(self, account: Account) -> None:
        with Endpoint(200) as endpoint:
            task = submit(account, endpoint, "a teapot [[callback:lost]]")
            eventually(lambda: account.status(task)["state"], until=lambda state: state == "success")
            with pytest.raises(queue.Empty):
                endpoint.bodies.get(timeout=0.3)
        assert deliveries(account, 0) == []

    def test_a_doubled_one_is_sent_twice_at_once(self, account: Account) -> None:
        with Endpoint(200) as endpoint:
            endpoint.release.clear()
            submit(account, endpoint, "a teapot [[callback:twice]]")
            # Neither is answered before both are there.
            assert endpoint.bodies.get(timeout=30) == endpoint.bodies.get(timeout=30)
            endpoint.release.set()
            assert attempts(account, 2) == [200, 200]

    def test_a_late_one_comes_after_its_time_scaled(self, account: Account) -> None:
        with Endpoint(200) as endpoint:
            submit(account, endpoint, "a teapot [[seconds:0]] [[callback_after:400]]")
            (delivery,) = deliveries(account, 1)
        assert delivery["at"] - account.ledger()["tasks"][0]["completed_at"] >= 0.4

    def test_a_failure_may_have_the_code_of_the_vendors_other_page(self, account: Account) -> None:
        with Endpoint(200) as endpoint:
            submit(account, endpoint, "a teapot [[fail:Timeout]] [[callback:code200]]")
            body = endpoint.bodies.get(timeout=30)
        assert (body["code"], body["data"]["state"]) == (200, "failed")

    @pytest.mark.parametrize("words", ["[[callback:never]]", "[[callback]]", "[[callback_after:soon]]"])
    def test_other_words_are_refused(self, account: Account, words: str) -> None:
        answer = account.post({"input": text_to_image(f"a teapot {words}")})
        assert (answer.status_code, account.ledger()["tasks"]) == (400, [])


class TestADeliveryByHand:
    """``POST /sandbox/callbacks``."""

    def deliver(self, account: Account, task: str) -> httpx.Response:
        return account.control("POST", "/callbacks", params={"taskId": task})

    def test_is_sent_whatever_was_sent_before(self, account: Account) -> None:
        with Endpoint(200, 503) as endpoint:
            task = submit(account, endpoint)
            attempts(account, 1)
            assert self.deliver(account, task).json()["status"] == 503
            assert attempts(account, 2) == [200, 503]
            assert endpoint.bodies.get(timeout=30) == endpoint.bodies.get(timeout=30)

    def test_is_refused_before_the_task_has_ended(self, account: Account) -> None:
        with Endpoint(200) as endpoint:
            task = submit(account, endpoint, "a teapot [[seconds:900000]]")
            assert self.deliver(account, task).status_code == 400
            assert endpoint.bodies.empty()

    def test_is_refused_for_a_task_without_an_address(self, account: Account) -> None:
        task = account.submit("a teapot [[seconds:0]]")
        assert self.deliver(account, task).status_code == 400

    def test_is_refused_for_an_unknown_task(self, account: Account) -> None:
        assert self.deliver(account, "task_nobody").status_code == 404


def test_the_ledger_names_the_address_of_a_task(account: Account) -> None:
    with Endpoint(200) as endpoint:
        submit(account, endpoint)
        account.submit()
        addresses = [task["callback_url"] for task in account.ledger()["tasks"]]
    assert addresses == [endpoint.url, None]
