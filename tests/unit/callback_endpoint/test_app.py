"""Where APIXO calls: what counts as a callback, and what everybody else can reach, learn and cost."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import queue
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import exc
from structlog.testing import capture_logs

from airflow_provider_seedream import metrics
from airflow_provider_seedream.callback_endpoint import deliveries, retries
from airflow_provider_seedream.callback_endpoint.app import CallbackApp, create_app
from airflow_provider_seedream.callback_endpoint.limits import Busy, DeskThreads, Limits, Rate
from airflow_provider_seedream.callback_endpoint.reports import Reports
from airflow_provider_seedream.callback_endpoint.retries import LONGEST_SECONDS, ResumeRetries
from airflow_provider_seedream.callback_endpoint.standing import Reason, ReceiveResult, Refused
from airflow_provider_seedream.callbacks.delivery import Delivery
from airflow_provider_seedream.callbacks.token import CallbackToken
from tests.support.callback_world import World
from tests.unit.callback_endpoint.callback_site import (
    BODY,
    HandDesk,
    Server,
    Site,
    answer_of,
    new_token,
    post,
    request,
)

REFUSAL = (
    b"HTTP/1.1 404 Not Found\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n"
    b"connection: close\r\ncontent-length: 10\r\ncontent-type: text/plain; charset=utf-8\r\n\r\nnot found\n"
)
ACCEPTED = (
    b"HTTP/1.1 200 OK\r\ncache-control: no-store\r\nx-content-type-options: nosniff\r\n"
    b"content-length: 9\r\ncontent-type: text/plain; charset=utf-8\r\nconnection: close\r\n\r\naccepted\n"
)
LATER = b"HTTP/1.1 503 Service Unavailable\r\n"
GIGABYTE = 1024**3
HIDDEN = "/seedream/callback/***"

Counted = queue.Queue[tuple[str, dict[str, str]]]


@pytest.fixture
def desk() -> HandDesk:
    return HandDesk()


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    """The counters that were added to, as that happens."""
    counters: Counted = queue.Queue()
    monkeypatch.setattr(metrics.Stats, "incr", lambda name, tags: counters.put((name, tags)))
    return counters


OpenSite = Callable[..., Site]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as started:
        yield started


@pytest.fixture
def open_site(server: Server, desk: HandDesk) -> Iterator[OpenSite]:
    """Opens the endpoint with other limits than its own."""

    def start(reports: Reports | None = None, **limits: Any) -> Site:
        return Site(server, CallbackApp(desk, Limits(**limits), reports))

    yield start
    desk.open.set()


@pytest.fixture
def site(open_site: OpenSite) -> Site:
    """The endpoint with its own limits."""
    return open_site()


def refusal(reason: str) -> tuple[str, dict[str, str]]:
    """What is counted for a refusal."""
    return "seedream.callback.refusals", {"reason": reason}


def changed(**data: Any) -> bytes:
    """A callback's body with other fields of ``data``."""
    return json.dumps({"code": 200, "data": {"taskId": "task_1", "state": "success"} | data}).encode()


# --- what is accepted --------------------------------------------------------------------------------


class TestACallback:
    def test_is_recorded_before_it_is_answered(self, site: Site, desk: HandDesk) -> None:
        assert site.deliver(desk.token) == ACCEPTED
        assert desk.deliveries == [Delivery("task_1", "success")]

    @pytest.mark.parametrize("code", [500, 200])
    def test_of_a_failure_has_either_shape(self, site: Site, desk: HandDesk, code: int) -> None:
        body = {"code": code, "message": "failed", "data": {"taskId": "task_1", "state": "failed"}}
        assert site.deliver(desk.token, json.dumps(body).encode()) == ACCEPTED
        assert desk.deliveries == [Delivery("task_1", "failed")]

    @pytest.mark.parametrize("media_type", ["Application/JSON", "application/json; charset=utf-8"])
    def test_may_spell_its_type_differently(self, site: Site, desk: HandDesk, media_type: str) -> None:
        assert site.send(post(desk.token.to_text(), media_type=media_type)) == ACCEPTED

    def test_may_come_in_pieces(self, site: Site, desk: HandDesk) -> None:
        pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n"
        headers = ("Content-Type: application/json", "Transfer-Encoding: chunked")
        assert site.send(request("POST", desk.token.to_text(), pieces, *headers)) == ACCEPTED
        assert desk.deliveries == [Delivery("task_1", "success")]

    def test_may_be_as_long_as_the_limit(self, site: Site, desk: HandDesk) -> None:
        body = BODY.ljust(Limits().body_bytes)
        assert site.deliver(desk.token, body) == ACCEPTED
        assert site.deliver(desk.token, body + b" ") == REFUSAL

    def test_of_a_task_with_the_longest_ids_still_fits(self, site: Site, desk: HandDesk) -> None:
        desk.token = new_token(
            dag_id="d" * 250, run_id="\u65e5" * 250, task_id="t" * 250, map_index=2**31 - 1
        )
        assert site.deliver(desk.token) == ACCEPTED


# --- what is refused ---------------------------------------------------------------------------------

TOKENS: dict[str, Callable[[str], str]] = {
    "another": lambda _: new_token().to_text(),
    "of another task": lambda text: f"{new_token(task_id='other').to_text().split('.')[0]}.{text[-43:]}",
    "empty": lambda _: "",
    "cut short": lambda text: text[:-1],
    "without a nonce": lambda text: text.split(".")[0],
    "without a task": lambda text: text[-44:],
    "too long": lambda text: "A" * 60_000 + text,
    "with more behind it": lambda text: f"{text}/",
    "of other letters": lambda text: f"{text[:-1]}%C3%A9",
    "of broken letters": lambda text: f"{text[:-1]}%FF",
    "encoded twice": lambda text: text.replace(".", "%252E"),
    "with a zero byte": lambda text: f"{text}%00",
    "with a carriage return": lambda text: f"%0dSet-Cookie:a=b%0d{text}",
    "in a query": lambda text: f"?token={text}",
    "below another": lambda text: f"x/seedream/callback/{text}",
}

BODIES: dict[str, Callable[[str], bytes]] = {
    "empty": lambda text: post(text, b""),
    "no JSON": lambda text: post(text, b"taskId=task_1"),
    "half": lambda text: post(text, BODY[:-1]),
    "no text": lambda text: post(text, b"\xff\xfe\x00"),
    "deep lists": lambda text: post(text, b"[" * 60_000),
    "deep objects": lambda text: post(text, b'{"data":' * 8_000),
    "a list": lambda text: post(text, b"[1]"),
    "a long number": lambda text: post(text, b"1" * 60_000),
    "no data": lambda text: post(text, b'{"code": 200}'),
    "a number as taskId": lambda text: post(text, changed(taskId=7)),
    "no taskId": lambda text: post(text, changed(taskId="")),
    "a long taskId": lambda text: post(text, changed(taskId="t" * 10_000)),
    "a taskId of two lines": lambda text: post(text, changed(taskId="t\nINFO all is well")),
    "a taskId with a zero": lambda text: post(text, changed(taskId="t\0")),
    "no body": lambda text: request("POST", text, b"", "Content-Type: application/json"),
}

ANNOUNCEMENTS: dict[str, Callable[[str], bytes]] = {
    "a form": lambda text: post(text, media_type="application/x-www-form-urlencoded"),
    "text": lambda text: post(text, media_type="text/plain"),
    "nearly JSON": lambda text: post(text, media_type="application/jsonp"),
    "no type": lambda text: request("POST", text, BODY, f"Content-Length: {len(BODY)}"),
    "two types": lambda text: post(text, BODY, "Content-Type: application/json"),
    "two types in one": lambda text: post(text, media_type="application/json, text/html"),
    "a gigabyte announced": lambda text: request(
        "POST", text, BODY, "Content-Type: application/json", f"Content-Length: {GIGABYTE}"
    ),
}


class TestARefusal:
    """One answer, byte for byte: nobody learns why, nothing that was sent comes back, nothing is recorded."""

    @pytest.mark.parametrize("kind", TOKENS)
    def test_of_a_token(self, site: Site, desk: HandDesk, kind: str) -> None:
        assert site.send(post(TOKENS[kind](desk.token.to_text()))) == REFUSAL
        assert desk.deliveries == []
        assert site.read.total == 0

    @pytest.mark.parametrize("kind", BODIES)
    def test_of_a_body(self, site: Site, desk: HandDesk, counted: Counted, kind: str) -> None:
        assert site.send(BODIES[kind](desk.token.to_text())) == REFUSAL
        assert desk.deliveries == []
        assert counted.get(timeout=30) == refusal("body")

    @pytest.mark.parametrize("kind", ANNOUNCEMENTS)
    def test_of_what_is_announced_comes_before_it_is_read(
        self, site: Site, desk: HandDesk, counted: Counted, kind: str
    ) -> None:
        assert site.send(ANNOUNCEMENTS[kind](desk.token.to_text())) == REFUSAL
        assert site.read.total == 0
        assert counted.get(timeout=30) == refusal("body")

    @pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS"])
    def test_of_another_method(self, site: Site, desk: HandDesk, method: str) -> None:
        assert site.send(post(desk.token.to_text()).replace(b"POST", method.encode(), 1)) == REFUSAL
        assert desk.checks == 0

    def test_of_head_has_the_same_headers(self, site: Site, desk: HandDesk) -> None:
        assert site.send(request("HEAD", desk.token.to_text())) == REFUSAL.removesuffix(b"not found\n")

    @pytest.mark.parametrize("reason", Reason)
    def test_by_the_desk(self, site: Site, desk: HandDesk, counted: Counted, reason: Reason) -> None:
        desk.trouble = Refused(reason)
        assert site.deliver(desk.token) == REFUSAL
        assert counted.get(timeout=30) == refusal(reason.value)

    def test_comes_without_reading_what_a_stranger_sends(self, site: Site) -> None:
        with site.connect() as connection:
            text = new_token().to_text()
            head = ("Content-Type: application/json", f"Content-Length: {GIGABYTE}", "Expect: 100-continue")
            connection.sendall(request("POST", text, b"", *head))
            assert answer_of(connection) == REFUSAL
        assert site.read.total == 0

    def test_of_a_websocket(self, site: Site, desk: HandDesk) -> None:
        upgrade = request(
            "GET", desk.token.to_text(), b"", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        ).replace(b"Connection: close", b"Connection: Upgrade")  # fmt: skip
        with site.connect() as connection:
            connection.sendall(upgrade)
            assert connection.recv(65536).startswith(b"HTTP/1.1 403 ")
        assert desk.checks == 0


class TestABodyWithAValidToken:
    """The vendor's, or of whoever has stolen one address."""

    def test_of_a_gigabyte_is_dropped_at_the_limit(
        self, site: Site, desk: HandDesk, counted: Counted
    ) -> None:
        headers = ("Content-Type: application/json", "Transfer-Encoding: chunked")
        blocks = (b"10000\r\n" + b" " * 65536 + b"\r\n" for _ in range(GIGABYTE // 65536))
        with site.connect() as connection:
            connection.sendall(request("POST", desk.token.to_text(), b"", *headers))
            with pytest.raises(OSError, match="Broken pipe|reset"):
                deque(map(connection.sendall, blocks), maxlen=0)
        assert counted.get(timeout=30) == refusal("body")
        assert site.read.total < 1024**2
        assert desk.deliveries == []

    def test_that_takes_too_long_is_refused(self, open_site: OpenSite, desk: HandDesk) -> None:
        site = open_site(body_seconds=0.1)
        with site.connect() as connection:
            connection.sendall(post(desk.token.to_text())[:-1])
            assert answer_of(connection) == REFUSAL
        assert desk.deliveries == []

    def test_that_is_cut_off_is_not_recorded(self, site: Site, desk: HandDesk, counted: Counted) -> None:
        with site.connect() as connection:
            # What there is of it is a whole callback, but more was announced.
            connection.sendall(post(desk.token.to_text(), BODY + b" ")[:-1])
            while not site.read.total:
                assert site.deliver(new_token()) == REFUSAL
        while (counter := counted.get(timeout=30)) == refusal("token"):
            pass
        assert counter == refusal("body")
        assert desk.deliveries == []

    def test_holds_one_of_few_places(self, open_site: OpenSite, desk: HandDesk, counted: Counted) -> None:
        site = open_site(bodies=1)
        with site.connect() as slow:
            slow.sendall(post(desk.token.to_text())[:-1])
            while not site.read.total:
                assert site.deliver(new_token()) == REFUSAL
            assert site.deliver(desk.token).startswith(LATER)
        while counted.get(timeout=30) != refusal("body"):
            pass
        assert site.deliver(desk.token) == ACCEPTED


# --- when to repeat ----------------------------------------------------------------------------------


class TestTroubleWithTheDatabase:
    def test_asks_the_sender_to_repeat_whatever_the_token(self, site: Site, desk: HandDesk) -> None:
        desk.trouble = ConnectionError("the database is down")
        answer = site.deliver(desk.token)
        assert answer.startswith(LATER)
        assert b"retry-after: 30\r\n" in answer
        assert site.deliver(new_token()) == answer

    def test_that_hangs_ends_the_wait_but_gives_no_thread_back(
        self, open_site: OpenSite, desk: HandDesk
    ) -> None:
        site = open_site(threads=1, waiting=0, desk_seconds=0.1)
        desk.open.clear()
        assert site.deliver(desk.token).startswith(LATER)
        assert site.deliver(desk.token).startswith(LATER)
        assert desk.checks == 0
        desk.open.set()
        while site.deliver(desk.token).startswith(LATER):
            pass
        assert desk.most_at_once == 1

    async def test_that_hangs_gathers_no_work_behind_it(self) -> None:
        asked, gate = [], threading.Event()
        threads = DeskThreads(threads=2, waiting=10, seconds=0.05)

        async def ask() -> None:
            work = Work(gate)
            asked.append(weakref.ref(work))
            with pytest.raises(Busy):
                await threads.run(work)

        for _ in range(5):
            await asyncio.gather(*(ask() for _ in range(20)))
        gc.collect()
        assert sum(work() is not None for work in asked) == 2
        gate.set()

    def test_that_hangs_keeps_no_process_from_exiting(self) -> None:
        code = (
            "import asyncio, threading\n"
            "from airflow_provider_seedream.callback_endpoint.limits import Busy, DeskThreads\n"
            "try: asyncio.run(DeskThreads(1, 1, 0.1).run(threading.Event().wait))\n"
            "except Busy: print('busy')"
        )
        ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
        assert ended.stdout == b"busy\n"

    async def test_such_as_no_more_threads_in_the_system_costs_one_call(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        threads = DeskThreads(threads=1, waiting=1, seconds=30)
        with monkeypatch.context() as without:
            without.setattr(threading.Thread, "start", start)
            with pytest.raises(RuntimeError):
                await threads.run(partial(int, "7"))
        assert await threads.run(partial(int, "7")) == 7

    async def test_gives_the_turn_to_the_next_when_work_fails(self) -> None:
        threads = DeskThreads(threads=1, waiting=1, seconds=30)
        failing, following = threads.run(partial(int, "x")), threads.run(partial(int, "7"))
        results = await asyncio.gather(failing, following, return_exceptions=True)
        assert isinstance(results[0], ValueError)
        assert results[1] == 7

    def test_is_logged_once_a_minute(
        self, site: Site, desk: HandDesk, caplog: pytest.LogCaptureFixture
    ) -> None:
        desk.trouble = ConnectionError(f"the database\nis down for {desk.token.to_text()}")
        for _ in range(5):
            site.deliver(desk.token)
        (record,) = [one for one in caplog.records if one.levelno == logging.WARNING]
        assert "ConnectionError" in record.getMessage()
        assert "\n" not in record.getMessage()
        assert record.exc_info is None

    def test_of_a_later_attempt_does_not_say_that_anybody_repeats(
        self, site: Site, desk: HandDesk, caplog: pytest.LogCaptureFixture
    ) -> None:
        desk.receipt = ReceiveResult(again_at=time.time())
        desk.resumes.extend([ConnectionError("the database is down"), ReceiveResult()])
        site.deliver(desk.token)
        assert desk.resumed.wait(30)
        (line,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
        assert "cannot be resumed" in line
        assert "repeat" not in line

    def test_that_is_a_fault_of_ours_shows_once_where_it_is(
        self, site: Site, desk: HandDesk, caplog: pytest.LogCaptureFixture
    ) -> None:
        cause = TypeError(f"no number: {desk.token.to_text()}\nall is well")
        cause.__cause__ = ValueError(desk.token.nonce)
        desk.trouble = cause
        for _ in range(3):
            site.deliver(desk.token)
        (record,) = [one for one in caplog.records if one.levelno == logging.ERROR]
        assert "TypeError" in record.getMessage()
        assert "in _refuse_strangers" in record.getMessage()
        assert "all is well" not in record.getMessage()
        assert desk.token.nonce not in caplog.text

    @pytest.mark.parametrize(
        "trouble",
        [exc.OperationalError("SELECT", {}, Exception("gone")), exc.TimeoutError("pool"), Busy("x")],
    )
    def test_of_another_kind_shows_no_code(
        self, site: Site, desk: HandDesk, caplog: pytest.LogCaptureFixture, trouble: Exception
    ) -> None:
        desk.trouble = trouble
        site.deliver(desk.token)
        assert [one.levelno for one in caplog.records if one.levelno >= logging.WARNING] == [logging.WARNING]
        assert "Traceback" not in caplog.text


class Work:
    """Hangs until a gate opens."""

    def __init__(self, gate: threading.Event) -> None:
        self._gate = gate

    def __call__(self) -> None:
        self._gate.wait(60)


class TestAFlood:
    def test_waits_in_a_short_line_and_is_sent_away_beyond(self, open_site: OpenSite, desk: HandDesk) -> None:
        site = open_site(threads=2, waiting=3)
        desk.open.clear()
        with ThreadPoolExecutor(20) as strangers:
            answers = as_completed([strangers.submit(site.deliver, new_token()) for _ in range(20)], 30)
            for _ in range(15):
                assert next(answers).result().startswith(LATER)
            desk.open.set()
            assert [answer.result() for answer in answers] == [REFUSAL] * 5
        assert desk.most_at_once == 2
        assert desk.checks == 5

    def test_of_true_callbacks_is_a_batch_that_ends_at_one_moment(
        self, open_site: OpenSite, desk: HandDesk
    ) -> None:
        site = open_site(per_second=0, burst=1)
        desk.seconds = 0.003
        with ThreadPoolExecutor(200) as vendor:
            answers = list(vendor.map(site.deliver, [desk.token] * 200))
        assert answers == [ACCEPTED] * 200

    def test_of_true_callbacks_may_send_all_their_bodies_a_little_later(
        self, site: Site, desk: HandDesk
    ) -> None:
        callback = post(desk.token.to_text())
        with ExitStack() as stack:
            vendor = [stack.enter_context(site.connect()) for _ in range(200)]
            for connection in vendor:
                connection.sendall(callback[: -len(BODY)])
            assert eventually(lambda: desk.checks == 200)
            for connection in vendor:
                connection.sendall(BODY)
            assert [answer_of(connection) for connection in vendor] == [ACCEPTED] * 200

    def test_of_tasks_that_are_tried_again_takes_no_room_from_callbacks(
        self, open_site: OpenSite, desk: HandDesk
    ) -> None:
        site = open_site(threads=1, waiting=0, later_threads=1)
        desk.receipt = ReceiveResult(again_at=time.time())
        desk.resumable.clear()
        desk.resumes.append(ReceiveResult())
        site.deliver(desk.token)
        assert desk.resuming.wait(30)
        assert site.deliver(desk.token) == ACCEPTED
        desk.resumable.set()
        assert desk.resumed.wait(30)

    @pytest.mark.parametrize(
        ("body", "receipt", "answer"),
        [
            (BODY, ReceiveResult(repeated=True), ACCEPTED),
            (changed(state="processing"), ReceiveResult(), ACCEPTED),
            (b"junk", ReceiveResult(), REFUSAL),
        ],
        ids=["repeated", "unfinished", "no callback"],
    )
    def test_with_a_true_token_is_held_back_as_well(
        self, open_site: OpenSite, desk: HandDesk, body: bytes, receipt: ReceiveResult, answer: bytes
    ) -> None:
        site = open_site(per_second=0, burst=3)
        desk.receipt = receipt
        answers = [site.deliver(desk.token, body) for _ in range(5)]
        assert answers[:3] == [answer] * 3
        assert all(answer.startswith(LATER) for answer in answers[3:])

    def test_of_readable_tokens_reaches_the_database_at_a_rate(
        self, open_site: OpenSite, desk: HandDesk
    ) -> None:
        site = open_site(per_second=0, burst=3)
        answers = [site.deliver(new_token()) for _ in range(5)]
        assert answers[:3] == [REFUSAL] * 3
        assert all(answer.startswith(LATER) for answer in answers[3:])
        assert desk.checks == 3

    def test_of_junk_keeps_nobody_out(self, open_site: OpenSite, desk: HandDesk) -> None:
        site = open_site(per_second=0, burst=1)
        for _ in range(20):
            assert site.send(post("junk")) == REFUSAL
        assert site.deliver(desk.token) == ACCEPTED

    def test_is_one_line_in_the_log(
        self, open_site: OpenSite, desk: HandDesk, counted: Counted, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        reports = Reports(seconds=0.5)
        site = open_site(reports)
        for _ in range(12):
            site.send(post("junk"))
        site.deliver(desk.token, b"junk")
        while not (lines := refusals_in(caplog)) or total(lines) < 13:
            assert site.deliver(desk.token) == ACCEPTED
        assert len(lines) < 13
        assert "token" in lines[0]
        assert "body" in lines[-1]
        assert not any("junk" in line for line in lines)


def refusals_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines about refusals."""
    return [line for line in caplog.messages if "callbacks were refused" in line]


def total(lines: list[str]) -> int:
    """The refusals that some lines speak of."""
    return sum(int(line.split()[0]) for line in lines)


class TestTheRate:
    def test_lets_a_burst_through_and_then_so_many_a_second(self) -> None:
        now = 100.0
        rate = Rate(2.0, 3, lambda: now)
        assert passed(rate, 10) == 3
        now = 101.0
        assert passed(rate, 10) == 2
        now = 1000.0
        assert passed(rate, 10) == 3


def passed(rate: Rate, requests: int) -> int:
    """How many of some requests at once are let through."""
    through = 0
    for _ in range(requests):
        try:
            rate.check()
            rate.count()
            through += 1
        except Busy:
            pass
    return through


# --- secrets, metrics and the log --------------------------------------------------------------------


@pytest.fixture
def access_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Iterator[pytest.LogCaptureFixture]:
    """Everything that is logged, also uvicorn's access log, which Airflow may have switched off before."""
    caplog.set_level(logging.DEBUG)
    logger = logging.getLogger("uvicorn.access")
    caplog.set_level(logging.INFO, logger.name)
    monkeypatch.setattr(logger, "disabled", False)
    monkeypatch.setattr(logger, "propagate", False)
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


class TestATokenIsNeverLogged:
    """In uvicorn's access log, and in the lines of our own."""

    @pytest.mark.parametrize("trouble", [None, RuntimeError("x {}")], ids=["well", "in trouble"])
    @pytest.mark.parametrize("method", ["POST", "GET", "OPTIONS"])
    def test_whatever_becomes_of_the_request(
        self,
        site: Site,
        desk: HandDesk,
        access_log: pytest.LogCaptureFixture,
        capfd: pytest.CaptureFixture[str],
        method: str,
        trouble: Exception | None,
    ) -> None:
        right, wrong = desk.token, new_token()
        desk.trouble = trouble and RuntimeError(f"for {right.to_text()}, {right!r}, {wrong.to_text()}")
        for text in right.to_text(), wrong.to_text(), f"malformed-{right.nonce}", f"x?a={wrong.nonce}":
            site.send(post(text).replace(b"POST", method.encode(), 1))
        lines = [line for line in access_log.messages if f'"{method} /seedream/callback/%2A%2A%2A' in line]
        assert len(lines) == 4
        assert right.nonce not in access_log.text + "".join(capfd.readouterr())


@pytest.fixture
def inside_airflow(
    airflow_database: None, server: Server, desk: HandDesk, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """Airflow's own api-server with the plugin, and its own access log; only the desk is ours."""
    from airflow.api_fastapi.app import create_app as create_airflow
    from airflow.api_fastapi.app import purge_cached_app

    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "s" * 64)
    for name in "check", "receive":
        monkeypatch.setattr(deliveries, name, getattr(desk, name))
    purge_cached_app()
    site = Site(server, CallbackApp(desk))
    server.app = create_airflow("core")
    yield site
    purge_cached_app()


class TestInsideAirflow:
    @pytest.mark.parametrize("trouble", [None, RuntimeError("no database")], ids=["well", "in trouble"])
    def test_no_access_log_has_a_token_and_no_page_of_airflow_answers(
        self,
        inside_airflow: Site,
        desk: HandDesk,
        caplog: pytest.LogCaptureFixture,
        trouble: Exception | None,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        desk.trouble = trouble
        right, wrong = desk.token, new_token()
        texts = right.to_text(), wrong.to_text(), f"malformed-{right.nonce}", f"x?token={wrong.nonce}"
        with capture_logs() as written:
            answers = [
                inside_airflow.send(post(text).replace(b"POST", method, 1))
                for method in (b"POST", b"GET", b"OPTIONS")
                for text in texts
            ]
            # Airflow writes its line after the answer.
            assert eventually(lambda: len([one for one in written if one.get("path") == HIDDEN]) == 12)
        assert right.nonce not in caplog.text + str(written)
        assert wrong.nonce not in caplog.text + str(written)
        known = 503 if trouble else 200
        statuses = [int(answer.split()[1]) for answer in answers]
        assert statuses == [known, 503 if trouble else 404] + [404] * 10


class TestTheLog:
    def test_has_a_line_for_a_callback_that_nobody_can_forge(
        self, site: Site, desk: HandDesk, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "airflow_provider_seedream")
        desk.token = new_token(run_id="r\nall is well", map_index=7)
        site.deliver(desk.token, changed(state="success"))
        (line,) = [line for line in caplog.messages if line.startswith("Callback for")]
        assert line == (
            "Callback for dag 'art', run 'r\\nall is well', task 'draw', map index 7: "
            "APIXO task 'task_1' is said to be 'success'; resumed"
        )

    @pytest.mark.parametrize(
        ("body", "receipt"),
        [(BODY, ReceiveResult(repeated=True)), (changed(state="processing"), ReceiveResult())],
        ids=["repeated", "not final"],
    )
    def test_is_not_filled_by_who_may_send_any_number(
        self,
        site: Site,
        desk: HandDesk,
        caplog: pytest.LogCaptureFixture,
        body: bytes,
        receipt: ReceiveResult,
    ) -> None:
        caplog.set_level(logging.INFO, "airflow_provider_seedream")
        desk.receipt = receipt
        assert site.deliver(desk.token, body) == ACCEPTED
        assert not [line for line in caplog.messages if line.startswith("Callback for")]


class TestMetrics:
    @pytest.mark.parametrize(
        ("receipt", "outcome"),
        [
            (ReceiveResult(resumed=1), "resumed"),
            (ReceiveResult(resumed=2, repeated=True), "resumed"),
            (ReceiveResult(), "parked"),
            (ReceiveResult(repeated=True), "repeated"),
        ],
    )
    def test_say_what_became_of_a_callback(
        self, site: Site, desk: HandDesk, counted: Counted, receipt: ReceiveResult, outcome: str
    ) -> None:
        desk.receipt = receipt
        site.deliver(desk.token)
        assert counted.get(timeout=30) == ("seedream.callback.deliveries", {"outcome": outcome})

    def test_say_that_a_delivery_was_not_recorded_since_nothing_has_ended(
        self, site: Site, desk: HandDesk, counted: Counted
    ) -> None:
        desk.receipt = ReceiveResult()
        assert site.deliver(desk.token, changed(state="processing")) == ACCEPTED
        assert counted.get(timeout=30) == ("seedream.callback.deliveries", {"outcome": "unfinished"})

    def test_that_fail_cost_no_callback(
        self, site: Site, desk: HandDesk, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def incr(*args: Any, **options: Any) -> None:
            raise OSError("no such host")

        monkeypatch.setattr(metrics.Stats, "incr", incr)
        assert site.deliver(desk.token) == ACCEPTED
        assert site.deliver(new_token()) == REFUSAL


# --- a task that is not ready ------------------------------------------------------------------------


class TestATaskThatIsNotReady:
    def test_is_tried_again_until_it_is_resumed(self, site: Site, desk: HandDesk) -> None:
        desk.receipt = ReceiveResult(again_at=time.time())
        desk.resumes.extend([ReceiveResult(again_at=time.time()), ReceiveResult(resumed=1)])
        site.deliver(desk.token)
        assert desk.resumed.wait(30)

    def test_is_tried_again_after_trouble(self, site: Site, desk: HandDesk) -> None:
        desk.receipt = ReceiveResult(again_at=time.time())
        desk.resumes.extend([ConnectionError("busy"), ReceiveResult(resumed=1)])
        site.deliver(desk.token)
        assert desk.resumed.wait(30)

    def test_is_given_up_when_it_has_ended(self, open_site: OpenSite, desk: HandDesk) -> None:
        site = open_site(later=1)
        desk.receipt = ReceiveResult(again_at=time.time())
        desk.resumes.append(Refused(Reason.ENDED))
        site.deliver(ended := desk.token)
        assert desk.resumed.wait(30)
        # There is a place for another one then.
        desk.token = new_token()
        desk.resumed.clear()
        desk.resumes.append(ReceiveResult())
        while not desk.resumed.is_set():
            assert site.deliver(desk.token) == ACCEPTED
        assert desk.attempts == [ended, desk.token]

    def test_waits_once_however_often_it_is_delivered(self, site: Site, desk: HandDesk) -> None:
        desk.receipt = ReceiveResult(again_at=time.time() + 0.3)
        desk.resumes.append(ReceiveResult())
        for _ in range(5):
            assert site.deliver(desk.token) == ACCEPTED
        assert desk.resumed.wait(30)
        site.deliver(new_token())
        assert desk.attempts == [desk.token]

    def test_is_left_to_polling_where_too_many_wait_and_the_log_says_so(
        self, open_site: OpenSite, desk: HandDesk, caplog: pytest.LogCaptureFixture
    ) -> None:
        site = open_site(later=0)
        desk.receipt = ReceiveResult(again_at=time.time())
        desk.resumes.append(ReceiveResult())
        for _ in range(3):
            assert site.deliver(desk.token) == ACCEPTED
        assert not desk.resumed.wait(0.3)
        (record,) = [one for one in caplog.records if one.levelno == logging.WARNING]
        assert "left to polling" in record.getMessage()

    async def test_is_tried_when_its_time_has_come_however_late_that_is(self, clock: Clock) -> None:
        assert await clock.follow(clock.start + 900, [clock.start + 960, None]) == [900, 60]

    async def test_is_tried_again_less_and_less_often_for_a_minute(self, clock: Clock) -> None:
        pauses = await clock.follow(clock.start, [clock.start] * 100)
        assert pauses == sorted(pauses)
        assert pauses[0] < 0.1
        assert sum(pauses) == LONGEST_SECONDS

    async def test_is_tried_for_as_long_when_it_begins_to_wait_only_then(self, clock: Clock) -> None:
        pauses = await clock.follow(clock.start + 900, [clock.start] * 100)
        assert 900 + 50 < sum(pauses) < 900 + LONGEST_SECONDS

    async def test_holds_its_place_for_an_hour_at_most_whatever_it_has_stored(self, clock: Clock) -> None:
        assert await clock.follow(float("inf"), [None]) == [3600]


class Clock:
    """Time that passes only where somebody sleeps.

    :ivar start: epoch seconds.
    """

    def __init__(self) -> None:
        self.start = self._now = 1_000_000.0
        self._pauses: list[float] = []

    def time(self) -> float:
        """Epoch seconds."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self._pauses.append(seconds)
        self._now += seconds

    async def follow(self, at: float, later: list[float | None]) -> list[float]:
        """How long a delivery waits before each attempt.

        :param at: epoch seconds of the first.
        :param later: what the attempts answer, in their order.
        """
        answers = iter(later)

        async def resume(token: CallbackToken) -> ReceiveResult:
            return ReceiveResult(again_at=next(answers))

        resumes = ResumeRetries(resume, 1)
        assert resumes.plan(new_token(), at)
        (task,) = resumes._waiting.values()
        await task
        return self._pauses


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(retries, "time", clock)
    # In this module only: a server runs beside, which sleeps too.
    loop = SimpleNamespace(sleep=clock.sleep, create_task=asyncio.create_task)
    monkeypatch.setattr(retries, "asyncio", loop)
    return clock


class TestWithAirflowsOwnDatabase:
    def test_a_waiting_task_is_resumed_and_every_repeat_accepted(self, server: Server, world: World) -> None:
        site = Site(server, create_app())
        token = world.generating(not_before=0.0)
        assert site.deliver(token) == ACCEPTED
        assert world.state() == "scheduled"
        assert site.deliver(token) == ACCEPTED
        assert site.deliver(world.token()) == REFUSAL

    def test_a_task_that_has_just_begun_to_wait_is_resumed_a_little_later(
        self, server: Server, world: World
    ) -> None:
        site = Site(server, create_app())
        token = world.generating(not_before=time.time() + 0.5)
        assert site.deliver(token) == ACCEPTED
        assert world.note(token)
        assert eventually(lambda: world.state() == "scheduled")


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether something that no event tells of comes true within half a minute."""
    return any(holds() or time.sleep(0.05) for _ in range(600))
