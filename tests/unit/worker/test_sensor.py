"""The sensor in a worker: callbacks, lost triggers, and how it concludes."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_provider_seedream.apixo.records import Submission
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.callbacks.delivery import DELIVERY_XCOM_KEY, DeliveryRecord, make_waiter_key
from airflow_provider_seedream.errors import DeadlineError
from airflow_provider_seedream.hooks.seedream import SeedreamHook
from airflow_provider_seedream.operators.seedream import SeedreamSubmitOperator
from airflow_provider_seedream.sensors.seedream import SeedreamTaskSensor
from airflow_provider_seedream.worker import submissions
from tests.support.airflow_tries import TaskTries, deferral
from tests.support.api_server import make_resume_event
from tests.support.apixo import Apixo
from tests.support.purchases import buy_finished


def begun(seconds_ago: float) -> Any:
    """The context of a try that began so long ago."""
    return {"ti": SimpleNamespace(start_date=datetime.now(tz=UTC) - timedelta(seconds=seconds_ago))}


pytestmark = pytest.mark.usefixtures("quick")


LONG = "a fox [[seconds:100000]]"


DIGEST = "d1" * 32


def buy(prompt: str, *, seconds_ago: float = 0.0, callback: str | None = DIGEST) -> Submission:
    """What a submit operator has recorded."""
    return Submission(
        seedream_task_id=SeedreamHook().submit(GenerateRequest(prompt=prompt)),
        price_per_image=SeedreamHook().account.price_per_image,
        submitted_at=time.time() - seconds_ago,
        requested=1,
        callback_digest=callback,
    )


def note_for(bought: Submission, digest: str = DIGEST) -> dict[str, Any]:
    """What the api-server leaves on the submitting task."""
    note = DeliveryRecord(
        digest=digest, seedream_task_id=bought.seedream_task_id, state="success", delivered_at=time.time()
    )
    return note.to_json()


def sensor(bought: Submission, note: dict[str, Any] | None = None, **options: Any) -> TaskTries:
    """A sensor behind a submit operator, which has pushed its submission and perhaps found a note."""

    def make(**changes: Any) -> SeedreamTaskSensor:
        tries.xcom.set("submission", bought.to_json())
        if note:
            tries.xcom.set(DELIVERY_XCOM_KEY, note)
        with DAG("d", schedule=None):
            submit = SeedreamSubmitOperator(task_id="submit", prompt="a fox")
            task_id = bought.seedream_task_id
            wait = SeedreamTaskSensor(
                task_id="wait", seedream_task_id=task_id, **{"deferrable": True, **options, **changes}
            )
            submit >> wait
        return wait

    tries = TaskTries(make)
    return tries


class TestWaitingForACallback:
    def test_it_says_for_what_it_waits_and_polls_rarely(self) -> None:
        tries = sensor(buy(LONG))
        asked = deferral(tries.run_until_deferral()[1])
        assert tries.store.get(make_waiter_key(DIGEST))
        assert (asked["first_poll"], asked["interval_high"], asked["awaits_callback"]) == (20, 60, True)

    def test_its_pace_can_be_chosen(self) -> None:
        asked = deferral(sensor(buy(LONG), poke_interval=200).run_until_deferral()[1])
        assert (asked["interval_low"], asked["awaits_callback"]) == (200, True)

    def test_a_late_start_polls_once_and_then_rarely(self, connected: Apixo) -> None:
        began = time.time()
        asked = deferral(sensor(buy(LONG, seconds_ago=30)).run_until_deferral()[1])
        assert connected.tasks()[0]["polls"] == 1
        assert asked["created_at"] + asked["first_poll"] >= began + 60, (
            "the triggerer does not poll again at once"
        )

    def test_a_callback_before_its_start_is_found(self, connected: Apixo) -> None:
        bought = buy("a fox [[seconds:0]]")
        tries = sensor(bought, note_for(bought))
        assert tries.run()["delivered"] == 1
        assert (tries.deferrals, connected.tasks()[0]["polls"]) == ([], 1)

    def test_a_note_of_another_purchase_is_none_of_its_own(self, connected: Apixo) -> None:
        bought = buy(LONG)
        tries = sensor(bought, note_for(bought, digest="e2" * 32))
        assert deferral(tries.run_until_deferral()[1])["awaits_callback"]
        assert connected.tasks()[0]["polls"] == 0

    def test_where_it_cannot_say_so_it_polls_as_usual(self) -> None:
        tries = sensor(buy(LONG))
        tries.store.refuses_after = 0
        asked = deferral(tries.run_until_deferral()[1])
        assert (asked["interval_high"], asked["awaits_callback"]) == (5, False)

    def test_a_note_that_cannot_be_read_does_not_matter(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unreadable(*_: Any) -> Any:
            raise ValueError("no text of this XCom backend")

        monkeypatch.setattr(submissions, "find_delivery", unreadable)
        tries = sensor(buy(LONG))
        assert deferral(tries.run_until_deferral()[1])["awaits_callback"]

    def test_without_callback_nothing_is_written(self) -> None:
        tries = sensor(buy(LONG, callback=None))
        assert not deferral(tries.run_until_deferral()[1])["awaits_callback"]
        assert not tries.store.texts

    def test_one_that_cannot_be_resumed_polls_as_usual(self) -> None:
        tries = sensor(buy("a fox"), deferrable=False, first_poll=0.0, poke_interval=0.05)
        assert tries.run()["delivered"] == 1
        assert not tries.store.texts


class TestResumedByACallback:
    def test_by_a_callback_it_polls_once_and_ends(self, connected: Apixo) -> None:
        tries = sensor(buy("a fox [[seconds:0]]"))
        operator, _ = tries.run_until_deferral()
        assert tries.resume(operator, make_resume_event())["delivered"] == 1
        assert connected.tasks()[0]["polls"] == 1

    def test_a_forged_word_costs_one_poll_and_ends_nothing(self, connected: Apixo) -> None:
        tries = sensor(buy(LONG))
        operator, _ = tries.run_until_deferral()
        deadline = time.time() + 7
        outcome = tries.resume_until_deferral(operator, make_resume_event(deadline))
        again = deferral(outcome)
        assert connected.tasks()[0]["polls"] == 1
        assert (again["deadline"], again["interval_high"], again["awaits_callback"]) == (deadline, 60, True)
        assert again["created_at"] + again["first_poll"] >= deadline - 1, "nothing polls again soon"


class TestLostTriggers:
    """Airflow resumes a task with ``__fail__`` when its deferral timed out or its trigger was lost."""

    def test_one_last_poll_delivers_what_is_finished(self, airflow_database: None, connected: Apixo) -> None:
        task_id = buy_finished()
        sensor = SeedreamTaskSensor(task_id="wait", seedream_task_id=task_id, deferrable=True)
        result = sensor.resume_execution("__fail__", {"error": "Trigger timeout"}, begun(seconds_ago=3600))
        assert result["delivered"] == 1

    def test_and_tells_what_is_not(self, airflow_database: None, connected: Apixo) -> None:
        task_id = SeedreamHook().submit(GenerateRequest(prompt="x [[seconds:90000]]"))
        sensor = SeedreamTaskSensor(task_id="wait", seedream_task_id=task_id, deferrable=True)
        with pytest.raises(DeadlineError, match=task_id):
            sensor.resume_execution("__fail__", {"error": "Trigger timeout"}, begun(seconds_ago=3600))

    def test_and_waits_on_while_there_is_time(self, airflow_database: None, connected: Apixo) -> None:
        task_id = SeedreamHook().submit(GenerateRequest(prompt="a fox"))
        sensor = SeedreamTaskSensor(task_id="wait", seedream_task_id=task_id, first_poll=0, poke_interval=0.1)
        result = sensor.resume_execution("__fail__", {"error": "Trigger failure"}, begun(seconds_ago=1))
        assert result["delivered"] == 1

    @pytest.mark.parametrize("event", [None, {}, {"verdicts": [{"task_id": "t", "outcome": "new"}]}])
    def test_an_event_of_another_release_is_polled_again(
        self, airflow_database: None, connected: Apixo, event: Any
    ) -> None:
        sensor = SeedreamTaskSensor(task_id="wait", seedream_task_id=buy_finished(), first_poll=0)
        assert sensor.execute_complete(begun(seconds_ago=1), event)["delivered"] == 1
