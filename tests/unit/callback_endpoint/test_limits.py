"""How much work strangers can make for the api-server."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from functools import partial

import pytest

from airflow_provider_seedream.callback_endpoint.limits import (
    Busy,
    Capacity,
    DatabaseThreads,
    TokenBucket,
)
from airflow_provider_seedream.callback_endpoint.standing import ReceiveResult
from tests.unit.callback_endpoint.callback_site import (
    ACCEPTED,
    BODY,
    LATER,
    REFUSAL,
    FakeDeliveries,
    OpenSite,
    Site,
    answer_of,
    changed,
    eventually,
    new_token,
    post,
)


class TestADatabaseThatHangs:
    def test_ends_the_wait_but_gives_no_thread_back(
        self, open_site: OpenSite, deliveries: FakeDeliveries
    ) -> None:
        site = open_site(threads=1, waiting=0, database_seconds=0.1)
        deliveries.open.clear()
        assert site.deliver(deliveries.token).startswith(LATER)
        assert site.deliver(deliveries.token).startswith(LATER)
        assert deliveries.checks == 0
        deliveries.open.set()
        while site.deliver(deliveries.token).startswith(LATER):
            pass
        assert deliveries.most_at_once == 1

    async def test_gathers_no_work_behind_it(self) -> None:
        asked, gate = [], threading.Event()
        threads = DatabaseThreads(threads=2, waiting=10, seconds=0.05)

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

    def test_keeps_no_process_from_exiting(self) -> None:
        code = (
            "import asyncio, threading\n"
            "from airflow_provider_seedream.callback_endpoint.limits import Busy, DatabaseThreads\n"
            "try: asyncio.run(DatabaseThreads(1, 1, 0.1).run(threading.Event().wait))\n"
            "except Busy: print('busy')"
        )
        ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)
        assert ended.stdout == b"busy\n"


class TestDatabaseThreads:
    async def test_that_the_system_refuses_cost_one_call(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def start(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        threads = DatabaseThreads(threads=1, waiting=1, seconds=30)
        with monkeypatch.context() as without:
            without.setattr(threading.Thread, "start", start)
            with pytest.raises(RuntimeError):
                await threads.run(partial(int, "7"))
        assert await threads.run(partial(int, "7")) == 7

    async def test_give_the_turn_to_the_next_when_work_fails(self) -> None:
        threads = DatabaseThreads(threads=1, waiting=1, seconds=30)
        failing, following = threads.run(partial(int, "x")), threads.run(partial(int, "7"))
        results = await asyncio.gather(failing, following, return_exceptions=True)
        assert isinstance(results[0], ValueError)
        assert results[1] == 7


class Work:
    """Hangs until a gate opens."""

    def __init__(self, gate: threading.Event) -> None:
        self._gate = gate

    def __call__(self) -> None:
        self._gate.wait(60)


class TestCapacity:
    def test_refuses_one_more_at_once_and_takes_it_when_a_place_is_free(self) -> None:
        capacity = Capacity(2)
        with capacity.hold(), suppress(ValueError), capacity.hold():
            with pytest.raises(Busy), capacity.hold():
                pass
            raise ValueError
        with capacity.hold(), capacity.hold():
            pass


class TestTheTokenBucket:
    def test_lets_a_burst_through_and_then_so_many_a_second(self) -> None:
        now = 100.0
        rate = TokenBucket(2.0, 3, lambda: now)
        assert passed(rate, 10) == 3
        now = 101.0
        assert passed(rate, 10) == 2
        now = 1000.0
        assert passed(rate, 10) == 3


def passed(rate: TokenBucket, requests: int) -> int:
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


class TestAFlood:
    def test_waits_in_a_short_line_and_is_sent_away_beyond(
        self, open_site: OpenSite, deliveries: FakeDeliveries
    ) -> None:
        site = open_site(threads=2, waiting=3)
        deliveries.open.clear()
        with ThreadPoolExecutor(20) as strangers:
            answers = as_completed([strangers.submit(site.deliver, new_token()) for _ in range(20)], 30)
            for _ in range(15):
                assert next(answers).result().startswith(LATER)
            deliveries.open.set()
            assert [answer.result() for answer in answers] == [REFUSAL] * 5
        assert deliveries.most_at_once == 2
        assert deliveries.checks == 5

    def test_of_true_callbacks_is_a_batch_that_ends_at_one_moment(
        self, open_site: OpenSite, deliveries: FakeDeliveries
    ) -> None:
        site = open_site(per_second=0, burst=1)
        deliveries.seconds = 0.003
        with ThreadPoolExecutor(200) as vendor:
            answers = list(vendor.map(site.deliver, [deliveries.token] * 200))
        assert answers == [ACCEPTED] * 200

    def test_of_true_callbacks_may_send_all_their_bodies_a_little_later(
        self, site: Site, deliveries: FakeDeliveries
    ) -> None:
        callback = post(deliveries.token.to_text())
        with ExitStack() as stack:
            vendor = [stack.enter_context(site.connect()) for _ in range(200)]
            for connection in vendor:
                connection.sendall(callback[: -len(BODY)])
            assert eventually(lambda: deliveries.checks == 200)
            for connection in vendor:
                connection.sendall(BODY)
            assert [answer_of(connection) for connection in vendor] == [ACCEPTED] * 200

    def test_of_tasks_that_are_tried_again_takes_no_room_from_callbacks(
        self, open_site: OpenSite, deliveries: FakeDeliveries
    ) -> None:
        site = open_site(threads=1, waiting=0, retry_threads=1)
        deliveries.result = ReceiveResult(again_at=time.time())
        deliveries.resumable.clear()
        deliveries.resumes.append(ReceiveResult())
        site.deliver(deliveries.token)
        assert deliveries.resuming.wait(30)
        assert site.deliver(deliveries.token) == ACCEPTED
        deliveries.resumable.set()
        assert deliveries.resumed.wait(30)

    @pytest.mark.parametrize(
        ("body", "result", "answer"),
        [
            (BODY, ReceiveResult(repeated=True), ACCEPTED),
            (changed(state="processing"), ReceiveResult(), ACCEPTED),
            (b"junk", ReceiveResult(), REFUSAL),
        ],
        ids=["repeated", "unfinished", "no callback"],
    )
    def test_with_a_true_token_is_held_back_as_well(
        self,
        open_site: OpenSite,
        deliveries: FakeDeliveries,
        body: bytes,
        result: ReceiveResult,
        answer: bytes,
    ) -> None:
        site = open_site(per_second=0, burst=3)
        deliveries.result = result
        answers = [site.deliver(deliveries.token, body) for _ in range(5)]
        assert answers[:3] == [answer] * 3
        assert all(answer.startswith(LATER) for answer in answers[3:])

    def test_of_readable_tokens_reaches_the_database_at_a_rate(
        self, open_site: OpenSite, deliveries: FakeDeliveries
    ) -> None:
        site = open_site(per_second=0, burst=3)
        answers = [site.deliver(new_token()) for _ in range(5)]
        assert answers[:3] == [REFUSAL] * 3
        assert all(answer.startswith(LATER) for answer in answers[3:])
        assert deliveries.checks == 3

    def test_of_junk_keeps_nobody_out(self, open_site: OpenSite, deliveries: FakeDeliveries) -> None:
        site = open_site(per_second=0, burst=1)
        for _ in range(20):
            assert site.send(post("junk")) == REFUSAL
        assert site.deliver(deliveries.token) == ACCEPTED
