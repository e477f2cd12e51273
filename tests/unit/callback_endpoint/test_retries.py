"""When a task that is not ready for its callback is tried again."""

from __future__ import annotations

import asyncio
import logging
import time
from types import SimpleNamespace

import pytest

from airflow_provider_seedream.callback_endpoint import retries
from airflow_provider_seedream.callback_endpoint.retries import LONGEST_SECONDS, ResumeRetries
from airflow_provider_seedream.callback_endpoint.standing import Reason, ReceiveResult, RefusedDelivery
from airflow_provider_seedream.callbacks.token import CallbackToken
from tests.unit.callback_endpoint.callback_site import (
    ACCEPTED,
    FakeDeliveries,
    OpenSite,
    Site,
    new_token,
)


class TestATaskThatIsNotReady:
    def test_is_tried_again_until_it_is_resumed(self, site: Site, deliveries: FakeDeliveries) -> None:
        deliveries.result = ReceiveResult(again_at=time.time())
        deliveries.resumes.extend([ReceiveResult(again_at=time.time()), ReceiveResult(resumed=1)])
        site.deliver(deliveries.token)
        assert deliveries.resumed.wait(30)

    def test_is_tried_again_after_trouble(self, site: Site, deliveries: FakeDeliveries) -> None:
        deliveries.result = ReceiveResult(again_at=time.time())
        deliveries.resumes.extend([ConnectionError("busy"), ReceiveResult(resumed=1)])
        site.deliver(deliveries.token)
        assert deliveries.resumed.wait(30)

    def test_is_given_up_when_it_has_ended(self, open_site: OpenSite, deliveries: FakeDeliveries) -> None:
        site = open_site(retries=1)
        deliveries.result = ReceiveResult(again_at=time.time())
        deliveries.resumes.append(RefusedDelivery(Reason.ENDED))
        site.deliver(ended := deliveries.token)
        assert deliveries.resumed.wait(30)
        # There is a place for another one then.
        deliveries.token = new_token()
        deliveries.resumed.clear()
        deliveries.resumes.append(ReceiveResult())
        while not deliveries.resumed.is_set():
            assert site.deliver(deliveries.token) == ACCEPTED
        assert deliveries.attempts == [ended, deliveries.token]

    def test_waits_once_however_often_it_is_delivered(self, site: Site, deliveries: FakeDeliveries) -> None:
        deliveries.result = ReceiveResult(again_at=time.time() + 0.3)
        deliveries.resumes.append(ReceiveResult())
        for _ in range(5):
            assert site.deliver(deliveries.token) == ACCEPTED
        assert deliveries.resumed.wait(30)
        site.deliver(new_token())
        assert deliveries.attempts == [deliveries.token]

    def test_is_left_to_polling_where_too_many_wait_and_the_log_says_so(
        self, open_site: OpenSite, deliveries: FakeDeliveries, caplog: pytest.LogCaptureFixture
    ) -> None:
        site = open_site(retries=0)
        deliveries.result = ReceiveResult(again_at=time.time())
        deliveries.resumes.append(ReceiveResult())
        for _ in range(3):
            assert site.deliver(deliveries.token) == ACCEPTED
        assert not deliveries.resumed.wait(0.3)
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

    async def follow(self, at: float, answers: list[float | None]) -> list[float]:
        """How long a delivery waits before each attempt.

        :param at: epoch seconds of the first.
        :param answers: what the attempts answer, in their order.
        """
        given = iter(answers)

        async def resume(token: CallbackToken) -> ReceiveResult:
            return ReceiveResult(again_at=next(given))

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
