"""The trigger: only looks, ends with one event, survives being stored, restarted and run twice."""

from __future__ import annotations

import asyncio
import json
import time
from functools import partial
from typing import Any

import pytest
from airflow.triggers.base import TriggerEvent

from airflow_provider_seedream.apixo.exchange import Luck
from airflow_provider_seedream.apixo.pace import Outcome
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.apixo.verdict import Verdict
from airflow_provider_seedream.hooks.seedream import SeedreamHook
from airflow_provider_seedream.triggers.seedream import SeedreamTaskTrigger
from tests.unit.conftest import Apixo, Connect


async def submit(prompt: str = "a fox", count: int = 1) -> list[str]:
    return [await SeedreamHook().submit_async(GenerateRequest(prompt=prompt)) for _ in range(count)]


def trigger(task_ids: list[str], **arguments: Any) -> SeedreamTaskTrigger:
    quick = {"first_look": 0.0, "interval_low": 0.01, "interval_high": 0.03, "deadline": time.time() + 60}
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
        assert len(verdict.success().urls) == 1

    async def test_for_many_tasks(self, connected: Apixo) -> None:
        task_ids = await submit(count=5)
        assert [verdict.task_id for verdict in await verdicts(trigger(task_ids))] == task_ids

    async def test_never_within_the_first_seconds_of_a_deferral(self, connected: Apixo) -> None:
        not_before = time.time() + 1.5
        await events(trigger(await submit(), not_before=not_before))
        assert time.time() >= not_before


class TestOnlyLooks:
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
    async def test_a_deadline_that_has_passed_gets_one_last_look(self, connected: Apixo) -> None:
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

    async def test_a_hundred_errors_in_a_row_end_in_one_event(
        self, connected: Apixo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        shortest = partial(Luck, uniform=lambda low, high: low)
        monkeypatch.setattr("airflow_provider_seedream.hooks.seedream.Luck", shortest)
        task_ids = await submit()
        connected.fault("/statusTask", times=100, status=500, body="oops")
        (verdict,) = await verdicts(trigger(task_ids))
        assert verdict.outcome is Outcome.ERROR
        assert verdict.looks == 10
        with pytest.raises(Exception, match="The task itself is not affected"):
            verdict.success()

    async def test_a_deleted_connection_is_one_event(
        self, connected: Apixo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_seedream.triggers.seedream.backoff", lambda *args, **kw: 0.01)
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
        monkeypatch.setattr("airflow_provider_seedream.triggers.seedream.backoff", lambda *args, **kw: 0.01)
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
        assert (verdict.outcome, verdict.looks) == (Outcome.ERROR, 1)

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


class TestArguments:
    def test_survive_being_stored_as_plain_json(self) -> None:
        original = trigger(["t1", "t2"], created_at=1767965610.5, not_before=7.5)
        path, arguments = original.serialize()
        assert path == "airflow_provider_seedream.triggers.seedream.SeedreamTaskTrigger"
        again = SeedreamTaskTrigger(**json.loads(json.dumps(arguments)))
        assert again.serialize() == original.serialize()

    def test_hold_no_key(self, connected: Apixo) -> None:
        assert connected.key not in json.dumps(trigger(["t1"]).serialize())
