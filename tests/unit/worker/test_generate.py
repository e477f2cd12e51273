"""Generate in a worker: the wait, what resumes it, and what came of it."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_seedream.callbacks.delivery import DeliveryRecord, make_delivery_key
from airflow_provider_seedream.operators.seedream import (
    SeedreamGenerateOperator,
)
from airflow_provider_seedream.purchases.journal_store import KEY
from tests.support.airflow_tries import TaskTries, deferral
from tests.support.api_server import ApiServer, make_resume_event
from tests.support.apixo import Apixo
from tests.support.callbacks import LONG, generate_with_callback, leave_delivery
from tests.support.purchases import (
    assert_one_purchase,
    bought,
    charged,
    generate,
    wait_until_finished,
)

pytestmark = pytest.mark.usefixtures("quick")


class TestALostTrigger:
    @pytest.mark.parametrize("state_store", [True, False])
    def test_is_answered_with_one_last_poll(
        self, connected: Apixo, tmp_path: Path, state_store: bool
    ) -> None:
        task = generate(destination=tmp_path.as_uri(), state_store=state_store)
        operator, _ = task.run_until_deferral()
        wait_until_finished(connected)
        result = task.resume_without_trigger(operator)
        assert_one_purchase(connected, result)
        assert len(list(tmp_path.glob("*.png"))) == 1

    def test_that_the_previous_release_started_is_carried_on(self, connected: Apixo, tmp_path: Path) -> None:
        """It pushed the submission, and knew no journal."""
        task = generate(destination=tmp_path.as_uri())
        operator, _ = task.run_until_deferral()
        task.store.texts.clear()
        wait_until_finished(connected)
        assert_one_purchase(connected, task.resume_without_trigger(operator))


class TestPartialResults:
    def test_are_accepted_by_default(self, connected: Apixo) -> None:
        result = generate(prompt="x [[deliver:2]]", max_images=4).run()
        assert (result["delivered"], result["top_up_task_ids"]) == (2, [])
        assert charged(connected) == Decimal("0.07")

    def test_fewer_than_min_images_fail_with_what_came_saved(self, connected: Apixo, tmp_path: Path) -> None:
        task = generate(prompt="x [[deliver:2]]", max_images=4, min_images=3, destination=tmp_path.as_uri())
        with pytest.raises(AirflowFailException, match=r"2 image\(s\) were.*min_images=3.*manifest"):
            task.run()
        assert len(list(tmp_path.glob("*.png"))) == 2
        manifest = json.loads(next(tmp_path.glob("*.json")).read_text())
        assert (manifest["requested"], manifest["delivered"], manifest["cost_usd"]) == (4, 2, 0.07)

    def test_a_retry_finds_the_same_images_and_buys_nothing(self, connected: Apixo) -> None:
        task = generate(prompt="x [[deliver:2]]", max_images=4, min_images=3)
        for _ in range(2):
            with pytest.raises(AirflowFailException, match="min_images=3"):
                task.run()
        assert len(bought(connected)) == 1

    @pytest.mark.parametrize("value", [0, 3, True, "1", 1.5])
    def test_min_images_that_cannot_be_met_is_refused_when_the_dag_is_parsed(self, value: Any) -> None:
        with pytest.raises(ValueError, match="min_images"):
            SeedreamGenerateOperator(task_id="generate", prompt="x", max_images=2, min_images=value)


class TestTheWaitForACallback:
    def test_polls_are_few(self, endpoint: ApiServer) -> None:
        _, outcome = generate_with_callback(prompt=LONG).run_until_deferral()
        asked = deferral(outcome)
        assert (asked["first_poll"], asked["interval_low"], asked["interval_high"]) == (20, 60, 60)
        assert asked["awaits_callback"]

    def test_their_pace_can_be_chosen(self, endpoint: ApiServer) -> None:
        _, outcome = generate_with_callback(
            prompt=LONG, poll_interval=300, first_poll=90
        ).run_until_deferral()
        asked = deferral(outcome)
        assert (asked["first_poll"], asked["interval_high"]) == (90, 300)

    def test_a_callback_before_the_deferral_is_found(self, endpoint: ApiServer, connected: Apixo) -> None:
        tries = generate_with_callback(prompt="a fox [[seconds:0]]")
        endpoint.stores.append(tries.store)
        # The callback comes while the worker still waits for the answer to its submission.
        connected.fault("/generateTask", delay=1)
        result = tries.run()
        assert not tries.deferrals
        assert result["delivered"] == 1
        assert connected.tasks()[0]["polls"] == 1

    def test_a_lost_callback_is_made_up_for_by_polling(self, endpoint: ApiServer, connected: Apixo) -> None:
        tries = generate_with_callback(prompt="a fox [[callback:lost]]", first_poll=0.0, poll_interval=0.05)
        assert tries.run()["delivered"] == 1
        assert not endpoint.heard


class TestResumedByACallback:
    def resumed(self, endpoint: ApiServer, tries: TaskTries, **event: Any) -> Any:
        operator, _ = tries.run_until_deferral()
        endpoint.stores.append(tries.store)
        leave_delivery(tries, endpoint)
        return tries.resume(operator, make_resume_event(**event))

    def test_by_a_callback_it_polls_once_and_ends(self, endpoint: ApiServer, connected: Apixo) -> None:
        tries = generate_with_callback()
        result = self.resumed(endpoint, tries)
        assert (result["state"], result["delivered"], len(tries.deferrals)) == ("success", 1, 1)
        assert connected.tasks()[0]["polls"] == 1

    def test_its_log_says_so(self, endpoint: ApiServer, capfd: pytest.CaptureFixture[str]) -> None:
        self.resumed(endpoint, generate_with_callback())
        assert "Resumed by a callback of APIXO" in capfd.readouterr().out

    @pytest.mark.parametrize("shape", ["", "[[callback:code200]]"])
    def test_a_failure_is_a_failure_in_both_shapes(self, endpoint: ApiServer, shape: str) -> None:
        tries = generate_with_callback(prompt=f"a fox [[fail:PromptInvalid]] {shape}")
        with pytest.raises(AirflowFailException, match="PromptInvalid"):
            self.resumed(endpoint, tries)

    @pytest.mark.callback_order(
        "A body is forged, with the true token: the task is still in progress",
        "One poll; the wait goes on at its slow pace, with its old deadline",
    )
    def test_a_forged_word_costs_one_poll_and_ends_nothing(
        self, endpoint: ApiServer, connected: Apixo
    ) -> None:
        tries = generate_with_callback(prompt=LONG)
        operator, _ = tries.run_until_deferral()
        (bought,) = tries.store.get(KEY)["purchases"]
        forged = DeliveryRecord(
            digest=bought["callback_digest"],
            seedream_task_id=bought["seedream_task_id"],
            state="success",
            delivered_at=time.time(),
        )
        tries.store.set(make_delivery_key(forged.digest), forged.to_json())
        deadline = time.time() + 7
        outcome = tries.resume_until_deferral(operator, make_resume_event(deadline))
        again = deferral(outcome)
        assert connected.tasks()[0]["polls"] == 1
        assert again["deadline"] == deadline, "a callback must not make the wait longer"
        assert (again["interval_high"], again["awaits_callback"]) == (60, True)
        assert again["created_at"] + again["first_poll"] > time.time() + 50, "nothing polls again soon"

    def test_a_poll_that_fails_leaves_the_wait_to_the_triggerer(
        self, endpoint: ApiServer, connected: Apixo
    ) -> None:
        tries = generate_with_callback()
        operator, _ = tries.run_until_deferral()
        leave_delivery(tries, endpoint)
        connected.fault("/statusTask", status=403)
        again = deferral(tries.resume_until_deferral(operator, make_resume_event()))
        assert again["created_at"] + again["first_poll"] < time.time() + 25, "it polls soon"

    def test_what_no_record_tells_is_known_from_what_the_wait_was_about(
        self, endpoint: ApiServer, connected: Apixo
    ) -> None:
        few = {"prompt": "a fox [[deliver:1]]", "max_images": 2, "on_partial": "top_up", "min_images": 2}
        tries = generate_with_callback(**few)
        operator, _ = tries.run_until_deferral()
        leave_delivery(tries, endpoint)
        tries.store.refuses_after = len(tries.store.writes) + 1  # the intent of the top-up, and no more
        with mock.patch("time.sleep"):
            tries.resume_until_deferral(operator, make_resume_event())
        main, top_up = (task["taskId"] for task in connected.tasks())
        tries.store.refuses_after = None
        endpoint.wait_for(2)
        result = tries.resume(operator, make_resume_event(seedream_task_ids=(main, top_up)))
        assert (result["delivered"], len(connected.tasks())) == (2, 2)

    @pytest.mark.callback_order(
        "The deadline has passed, and the triggerer has not noticed yet",
        "The task is resumed, and what has finished is kept",
    )
    def test_after_the_deadline_what_has_finished_is_kept(self, endpoint: ApiServer) -> None:
        result = self.resumed(endpoint, generate_with_callback(), deadline=time.time() - 60)
        assert result["delivered"] == 1
