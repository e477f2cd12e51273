"""The trigger: only polls, ends with one event, survives being stored, restarted and run twice."""

from __future__ import annotations

import asyncio
import json
import re
import time
from functools import partial
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import conf
from airflow.triggers.base import TriggerEvent

from airflow_provider_seedream.apixo.exchange import Timing
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.apixo.verdict import Verdict
from airflow_provider_seedream.apixo.watch import Outcome
from airflow_provider_seedream.hooks.seedream import SeedreamHook
from airflow_provider_seedream.triggers.seedream import LAST_POLL_SECONDS, SeedreamTaskTrigger
from tests.support.apixo import Apixo, Connect


async def submit(prompt: str = "a fox", count: int = 1) -> list[str]:
    return [await SeedreamHook().submit_async(GenerateRequest(prompt=prompt)) for _ in range(count)]


@pytest.fixture
def shortest_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dice that always choose the shortest pause."""
    shortest = partial(Timing, uniform=lambda low, high: low)
    monkeypatch.setattr("airflow_provider_seedream.hooks.seedream.Timing", shortest)


def trigger(task_ids: list[str], **arguments: Any) -> SeedreamTaskTrigger:
    quick = {"first_poll": 0.0, "interval_low": 0.01, "interval_high": 0.03, "deadline": time.time() + 60}
    return SeedreamTaskTrigger(seedream_task_ids=task_ids, **{**quick, **arguments})


async def events(one: SeedreamTaskTrigger) -> list[TriggerEvent]:
    return [event async for event in one.run()]


async def verdicts(one: SeedreamTaskTrigger) -> list[Verdict]:
    (event,) = await events(one)
    payload = json.loads(json.dumps(event.payload))
    return [Verdict.from_json(value) for value in payload["verdicts"]]


class TestOneEvent:
    async def test_with_the_final_status(self, connected: Apixo) -> None:
        task_ids = await submit()
        (verdict,) = await verdicts(trigger(task_ids))
        assert verdict.outcome is Outcome.FINISHED
        assert len(verdict.require_success().urls) == 1

    async def test_for_many_tasks(self, connected: Apixo) -> None:
        task_ids = await submit(count=5)
        assert [verdict.task_id for verdict in await verdicts(trigger(task_ids))] == task_ids

    @pytest.mark.parametrize(
        "sudden",
        [
            {"first_poll": 0.0},
            {"deadline": 0.0},
            {"seedream_conn_id": "nobody"},
        ],
        ids=["finished", "past its deadline", "without a connection"],
    )
    async def test_never_within_the_first_seconds_of_a_deferral(
        self, connected: Apixo, monkeypatch: pytest.MonkeyPatch, sudden: dict[str, Any]
    ) -> None:
        monkeypatch.setattr(
            "airflow_provider_seedream.triggers.seedream.compute_backoff", lambda *args, **kw: 0.01
        )
        task_ids = await submit()
        not_before = time.time() + 0.7
        await events(trigger(task_ids, not_before=not_before, **sudden))
        assert time.time() >= not_before


class TestOnlyPolls:
    async def test_two_at_once_buy_nothing_and_agree(self, connected: Apixo) -> None:
        task_ids = await submit()
        first, second = await asyncio.gather(verdicts(trigger(task_ids)), verdicts(trigger(task_ids)))
        assert first[0].status == second[0].status
        assert len(connected.tasks()) == 1
        assert {request["method"] for request in connected.requests("/statusTask")} == {"GET"}

    async def test_the_event_loop_is_never_blocked(self, connected: Apixo) -> None:
        """A blocking call would stop this ticker for as long as the answer is delayed."""
        connected.fault("/statusTask", times=3, delay=0.5)
        ticks = 0

        async def ticker() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.01)
                ticks += 1

        task_ids = await submit()
        ticking = asyncio.create_task(ticker())
        ticks_before = ticks
        await events(trigger(task_ids))
        ticking.cancel()
        assert ticks - ticks_before > 20


class TestBadDays:
    async def test_a_deadline_that_has_passed_gets_one_last_poll(self, connected: Apixo) -> None:
        task_ids = await submit("x [[seconds:90000]]")
        (verdict,) = await verdicts(trigger(task_ids, deadline=time.time() - 100))
        assert verdict.outcome is Outcome.TIMEOUT
        assert connected.tasks()[0]["polls"] == 1

    async def test_a_task_that_finished_while_the_triggerer_was_down_is_delivered(
        self, connected: Apixo
    ) -> None:
        task_ids = await submit()
        await events(trigger(task_ids))
        (verdict,) = await verdicts(trigger(task_ids, deadline=time.time() - 100))
        assert verdict.outcome is Outcome.FINISHED

    @pytest.mark.parametrize(
        ("fault", "polls"),
        [
            ({"status": 500, "body": "oops"}, 10),
            ({"status": 503}, 10),
            ({"drop": "before"}, 10),
            ({"truncate": 20}, 10),
            ({"status": 404}, 10),
            ({"status": 200, "body": "<html>login</html>"}, 10),
            ({"status": 200, "body": {"code": 200, "message": "ok", "data": {}}}, 3),
        ],
        ids=["500", "503", "no answer", "half an answer", "404", "foreign page", "empty answer"],
    )
    async def test_a_hundred_errors_in_a_row_end_in_one_event(
        self, connected: Apixo, shortest_pauses: None, fault: dict[str, Any], polls: int
    ) -> None:
        task_ids = await submit()
        connected.fault("/statusTask", times=100, **fault)
        (verdict,) = await verdicts(trigger(task_ids))
        assert verdict.outcome is Outcome.ERROR
        assert verdict.polls == polls
        with pytest.raises(Exception, match=rf"{task_ids[0]}.*The task itself is not affected"):
            verdict.require_success()

    @pytest.mark.parametrize("headers", [{}, {"Retry-After": "0"}], ids=["silent", "Retry-After 0"])
    async def test_being_throttled_for_good_lasts_until_the_deadline_and_is_no_hot_loop(
        self, connected: Apixo, shortest_pauses: None, headers: dict[str, str]
    ) -> None:
        task_ids = await submit()
        connected.fault("/statusTask", times=100, status=429, headers=headers)
        (verdict,) = await verdicts(trigger(task_ids, deadline=time.time() + 1))
        assert verdict.outcome is Outcome.TIMEOUT
        assert 2 <= verdict.polls <= 12

    async def test_a_deleted_connection_is_one_event(
        self, connected: Apixo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "airflow_provider_seedream.triggers.seedream.compute_backoff", lambda *args, **kw: 0.01
        )
        (verdict,) = await verdicts(trigger(["t1"], seedream_conn_id="nobody"))
        assert verdict.outcome is Outcome.ERROR
        assert "nobody" in str(verdict.problem)

    async def test_a_connection_that_cannot_be_read_for_a_moment_is_read_again(
        self, connected: Apixo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lookups: list[str] = []

        async def busy_at_first(conn_id: str, hook: SeedreamHook) -> Any:
            lookups.append(conn_id)
            if len(lookups) < 3:
                raise RuntimeError("database is locked")
            return hook.get_connection(conn_id)

        task_ids = await submit()
        monkeypatch.setattr(
            "airflow_provider_seedream.triggers.seedream.compute_backoff", lambda *args, **kw: 0.01
        )
        monkeypatch.setattr("airflow.providers.common.compat.connection.get_async_connection", busy_at_first)
        (verdict,) = await verdicts(trigger(task_ids))
        assert (verdict.outcome, len(lookups)) == (Outcome.FINISHED, 3)

    async def test_a_stray_refusal_of_a_gateway_is_survived(self, connected: Apixo) -> None:
        task_ids = await submit()
        connected.fault("/statusTask", status=403, body="<html>WAF</html>")
        (verdict,) = await verdicts(trigger(task_ids))
        assert verdict.outcome is Outcome.FINISHED

    async def test_a_key_that_was_revoked_is_one_event(self, connected: Apixo, connect: Connect) -> None:
        connect(host=connected.base_url, password="invalid")
        (verdict,) = await verdicts(trigger(["t1"]))
        assert (verdict.outcome, verdict.polls) == (Outcome.ERROR, 1)

    async def test_being_cancelled_leaves_nothing_behind(self, connected: Apixo) -> None:
        running = asyncio.create_task(events(trigger(await submit("x [[seconds:90000]]"))))
        while not connected.tasks()[0]["polls"]:  # noqa: ASYNC110 - the event is in the sandbox's ledger
            await asyncio.sleep(0.01)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        polls = connected.tasks()[0]["polls"]
        await asyncio.sleep(0.1)
        assert connected.tasks()[0]["polls"] == polls


class TestEndedFromOutside:
    """Airflow calls ``on_kill`` when a deferred task is marked or cleared, or resumed by another way."""

    async def end_from_outside(
        self, one: SeedreamTaskTrigger, capsys: pytest.CaptureFixture[str]
    ) -> list[str]:
        capsys.readouterr()
        await one.on_kill()
        return re.findall(
            r"The wait was ended from outside\. (.*) \[airflow_provider", capsys.readouterr().out
        )

    async def test_says_that_it_cannot_be_cancelled_and_will_be_billed(
        self, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task_ids = await submit("x [[seconds:90000]] [[state:processing_r2]]")
        await events(trigger(task_ids, deadline=time.time() + 0.2))
        (words,) = await self.end_from_outside(trigger(task_ids), capsys)
        assert f"Task {task_ids[0]} is in state p" in words
        assert "cannot be cancelled: it will still be billed when it delivers" in words
        assert f"seedream_task_id='{task_ids[0]}'" in words

    async def test_claims_nothing_about_a_task_that_has_delivered(
        self, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task_ids = await submit()
        await events(trigger(task_ids))
        (words,) = await self.end_from_outside(trigger(task_ids), capsys)
        assert f"Task {task_ids[0]} has delivered 1 image(s), which are billed" in words
        assert "cancelled" not in words

    async def test_says_that_a_failed_task_is_refunded(
        self, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task_ids = await submit("x [[fail:PromptInvalid]]")
        await events(trigger(task_ids))
        (words,) = await self.end_from_outside(trigger(task_ids), capsys)
        assert words.endswith(f"Task {task_ids[0]} has failed; APIXO refunds its pre-charge.")

    async def test_polls_each_task_once_and_buys_nothing(
        self, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task_ids = await submit("x [[seconds:90000]]", count=5)
        words = await self.end_from_outside(trigger(task_ids), capsys)
        assert [task_id for task_id, line in zip(task_ids, words, strict=True) if task_id in line] == task_ids
        assert [task["polls"] for task in connected.tasks()] == [1] * 5

    @pytest.mark.parametrize(
        "fault",
        [{"status": 500, "body": "oops"}, {"drop": "before"}, {"status": 429}, {"delay": 30.0}],
        ids=["500", "no answer", "throttled", "hanging"],
    )
    async def test_names_the_task_even_when_it_cannot_poll(
        self,
        connected: Apixo,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        fault: dict[str, Any],
    ) -> None:
        monkeypatch.setattr("airflow_provider_seedream.triggers.seedream.LAST_POLL_SECONDS", 1)
        task_ids = await submit("x [[seconds:90000]]")
        connected.fault("/statusTask", times=100, **fault)
        (words,) = await self.end_from_outside(trigger(task_ids), capsys)
        assert f"Task {task_ids[0]} is in a state that could not be read" in words
        assert "will still be billed" in words

    async def test_names_the_task_even_without_a_connection(
        self, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (words,) = await self.end_from_outside(trigger(["t1"], seedream_conn_id="nobody"), capsys)
        assert "Task t1 is in a state that could not be read" in words
        assert "nobody" in words

    async def test_where_it_may_have_been_a_callback_the_poll_is_left_to_the_worker(
        self, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task_ids = await submit(count=2)
        await trigger(task_ids, awaits_callback=True).on_kill()
        said = capsys.readouterr().out
        assert all(f"task {task_id} goes on at APIXO: it cannot be cancelled" in said for task_id in task_ids)
        assert "warning" not in said
        assert [task["polls"] for task in connected.tasks()] == [0, 0]

    def test_ends_before_airflow_cuts_it_off(self) -> None:
        assert conf.getint("triggerer", "on_kill_timeout", fallback=30) > LAST_POLL_SECONDS


ARGUMENTS_OF_0_1_0 = """{
    "seedream_task_ids": ["task_12345678"],
    "deadline": 1767966510.25,
    "first_poll": 20.0,
    "interval_low": 3.0,
    "interval_high": 5.0,
    "created_at": 1767965610.5,
    "not_before": 1767965616.5,
    "model": "seedream-4-5",
    "seedream_conn_id": "seedream_default"
}"""
"""What release 0.1.0 stored in the metadata database; it must be understood for ever."""


class TestArguments:
    def test_of_an_earlier_release_are_understood(self) -> None:
        stored = json.loads(ARGUMENTS_OF_0_1_0)
        arguments = SeedreamTaskTrigger(**stored).serialize()[1]
        assert {name: arguments[name] for name in stored} == stored

    async def test_of_a_later_release_are_ignored_and_said_so(
        self, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (verdict,) = await verdicts(trigger(await submit(), callback_nonce="x", another=[1]))
        assert verdict.outcome is Outcome.FINISHED
        assert "Ignoring what only a later release knows: another, callback_nonce" in capsys.readouterr().out

    def test_survive_being_stored_as_plain_json(self) -> None:
        original = trigger(["t1", "t2"], created_at=1767965610.5, not_before=7.5)
        path, arguments = original.serialize()
        assert path == "airflow_provider_seedream.triggers.seedream.SeedreamTaskTrigger"
        again = SeedreamTaskTrigger(**json.loads(json.dumps(arguments)))
        assert again.serialize() == original.serialize()

    def test_hold_no_key(self, connected: Apixo) -> None:
        assert connected.key not in json.dumps(trigger(["t1"]).serialize())
