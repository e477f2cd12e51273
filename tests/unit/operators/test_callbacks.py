"""Callback mode on the worker: what is sent and recorded, and how a task that was called goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, redact
from airflow.sdk import BaseOperator

from airflow_provider_seedream import parameters
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.callbacks.delivery import DeliveryRecord, delivery_key
from airflow_provider_seedream.errors import AmbiguousSubmitError, InvalidRequestError, PollFailedError
from airflow_provider_seedream.hooks.seedream import SeedreamHook
from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator, SeedreamSubmitOperator
from airflow_provider_seedream.purchases import lost_answer
from airflow_provider_seedream.purchases.journal_store import KEY, JournalStore
from airflow_provider_seedream.retry_policy import SeedreamRetryPolicy
from tests.support.airflow_tries import TaskTries, deferral, worker_dies
from tests.support.api_server import ApiServer, api_server, resumption
from tests.support.apixo import Apixo

pytestmark = pytest.mark.usefixtures("quick")

LONG = "a fox [[seconds:100000]]"
"""Is not finished before the test."""


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Iterator[ApiServer]:
    """Where APIXO reaches Airflow."""
    with api_server() as server:
        monkeypatch.setenv("AIRFLOW__SEEDREAM__CALLBACK_BASE_URL", f"{server.base_url}/airflow/")
        yield server


def generate(**fixed: Any) -> TaskTries:
    def make(**changes: Any) -> SeedreamGenerateOperator:
        return SeedreamGenerateOperator(
            **{"task_id": "generate", "prompt": "a fox", "request_type": "callback", **fixed, **changes}
        )

    return TaskTries(make)


def leave_note(tries: TaskTries, called: ApiServer, number: int = 1) -> None:
    """What the api-server does with a callback, when it comes."""
    heard = called.wait_for(number)
    tries.store.set(delivery_key(heard.token.digest), heard.note.to_json())


def lose_the_answer(apixo: Apixo) -> None:
    """The submission is accepted, and its answer is lost."""
    apixo.fault("/generateTask", drop="after")


class TestWhatIsSent:
    def test_a_callback_to_airflow_with_a_token_that_names_the_task(self, called: ApiServer) -> None:
        generate().run_until_deferral()
        heard = called.wait_for()
        task = heard.token.task
        assert heard.path.startswith("/airflow/seedream/callback/")
        assert (task.dag_id, task.run_id, task.task_id, task.map_index) == ("d", "r", "generate", -1)

    def test_the_digest_is_recorded_before_the_submission(self, called: ApiServer, connected: Apixo) -> None:
        tries = generate()
        tries.run_until_deferral()
        before, after = (write for write in tries.store.writes if "intent" in write)
        assert before["intent"]["callback_digest"] == called.wait_for().token.digest
        assert after["purchases"][0]["callback_digest"] == called.wait_for().token.digest

    def test_the_secret_is_nowhere_in_airflow(
        self, called: ApiServer, capfd: pytest.CaptureFixture[str]
    ) -> None:
        tries = generate()
        operator, _ = tries.run_until_deferral()
        nonce = called.wait_for().token.nonce
        rendered = {name: getattr(operator, name) for name in operator.template_fields}
        everything = [tries.store.texts, tries.xcom.texts, rendered, vars(operator), capfd.readouterr()]
        assert "APIXO accepted" in repr(everything)
        assert nonce not in repr(everything)
        assert nonce not in redact(f"APIXO does not like callback_url .../{nonce}"), "an answer may quote it"

    def test_each_try_and_each_top_up_has_its_own(self, called: ApiServer) -> None:
        few = {"prompt": "a fox [[deliver:1]]", "max_images": 2, "on_partial": "top_up"}
        tries = generate(**few, first_poll=0.0, poll_interval=0.05)
        operator, _ = tries.run_until_deferral()
        called.stores.append(tries.store)
        first = called.wait_for()
        tries.store.set(delivery_key(first.token.digest), first.note.to_json())
        tries.resume(operator, resumption())
        second = called.wait_for(2)
        assert first.token.nonce != second.token.nonce
        assert len(tries.store.get(KEY)["purchases"]) == 2

    def test_the_fingerprint_is_that_of_the_same_request_without(self, called: ApiServer) -> None:
        told, looking = generate(), generate(request_type="async")
        told.run_until_deferral()
        looking.run_until_deferral()
        assert told.store.get(KEY)["fingerprint"] == looking.store.get(KEY)["fingerprint"]


class TestTheWait:
    def test_looks_are_few(self, called: ApiServer) -> None:
        _, outcome = generate(prompt=LONG).run_until_deferral()
        asked = deferral(outcome)
        assert (asked["first_poll"], asked["interval_low"], asked["interval_high"]) == (20, 60, 60)
        assert asked["awaits_callback"]

    def test_their_pace_can_be_chosen(self, called: ApiServer) -> None:
        _, outcome = generate(prompt=LONG, poll_interval=300, first_poll=90).run_until_deferral()
        asked = deferral(outcome)
        assert (asked["first_poll"], asked["interval_high"]) == (90, 300)

    def test_a_callback_before_the_deferral_is_found(self, called: ApiServer, connected: Apixo) -> None:
        tries = generate(prompt="a fox [[seconds:0]]")
        called.stores.append(tries.store)
        # The callback comes while the worker still waits for the answer to its submission.
        connected.fault("/generateTask", delay=1)
        result = tries.run()
        assert not tries.deferrals
        assert result["delivered"] == 1
        assert connected.tasks()[0]["polls"] == 1

    def test_a_lost_callback_is_made_up_for_by_looking(self, called: ApiServer, connected: Apixo) -> None:
        tries = generate(prompt="a fox [[callback:lost]]", first_poll=0.0, poll_interval=0.05)
        assert tries.run()["delivered"] == 1
        assert not called.heard


class TestResumed:
    def resumed(self, called: ApiServer, tries: TaskTries, **event: Any) -> Any:
        operator, _ = tries.run_until_deferral()
        called.stores.append(tries.store)
        leave_note(tries, called)
        return tries.resume(operator, resumption(**event))

    def test_by_a_callback_it_looks_once_and_ends(self, called: ApiServer, connected: Apixo) -> None:
        tries = generate()
        result = self.resumed(called, tries)
        assert (result["state"], result["delivered"], len(tries.deferrals)) == ("success", 1, 1)
        assert connected.tasks()[0]["polls"] == 1

    def test_its_log_says_so(self, called: ApiServer, capfd: pytest.CaptureFixture[str]) -> None:
        self.resumed(called, generate())
        assert "Resumed by a callback of APIXO" in capfd.readouterr().out

    @pytest.mark.parametrize("shape", ["", "[[callback:code200]]"])
    def test_a_failure_is_a_failure_in_both_shapes(self, called: ApiServer, shape: str) -> None:
        tries = generate(prompt=f"a fox [[fail:PromptInvalid]] {shape}")
        with pytest.raises(AirflowFailException, match="PromptInvalid"):
            self.resumed(called, tries)

    @pytest.mark.callback_order(
        "A body is forged, with the true token: the task is still in progress",
        "One look; the wait goes on at its slow pace, with its old deadline",
    )
    def test_a_forged_word_costs_one_look_and_ends_nothing(self, called: ApiServer, connected: Apixo) -> None:
        tries = generate(prompt=LONG)
        operator, _ = tries.run_until_deferral()
        (bought,) = tries.store.get(KEY)["purchases"]
        forged = DeliveryRecord(
            digest=bought["callback_digest"],
            seedream_task_id=bought["seedream_task_id"],
            state="success",
            delivered_at=time.time(),
        )
        tries.store.set(delivery_key(forged.digest), forged.to_json())
        deadline = time.time() + 7
        outcome = tries.resume_until_deferral(operator, resumption(deadline))
        again = deferral(outcome)
        assert connected.tasks()[0]["polls"] == 1
        assert again["deadline"] == deadline, "a callback must not make the wait longer"
        assert (again["interval_high"], again["awaits_callback"]) == (60, True)
        assert again["created_at"] + again["first_poll"] > time.time() + 50, "nothing looks again soon"

    def test_a_look_that_fails_leaves_the_wait_to_the_triggerer(
        self, called: ApiServer, connected: Apixo
    ) -> None:
        tries = generate()
        operator, _ = tries.run_until_deferral()
        leave_note(tries, called)
        connected.fault("/statusTask", status=403)
        again = deferral(tries.resume_until_deferral(operator, resumption()))
        assert again["created_at"] + again["first_poll"] < time.time() + 25, "it looks soon"

    def test_what_no_record_tells_is_known_from_what_the_wait_was_about(
        self, called: ApiServer, connected: Apixo
    ) -> None:
        few = {"prompt": "a fox [[deliver:1]]", "max_images": 2, "on_partial": "top_up", "min_images": 2}
        tries = generate(**few)
        operator, _ = tries.run_until_deferral()
        leave_note(tries, called)
        tries.store.refuses_after = len(tries.store.writes) + 1  # the intent of the top-up, and no more
        tries.resume_until_deferral(operator, resumption())
        main, top_up = (task["taskId"] for task in connected.tasks())
        tries.store.refuses_after = None
        called.wait_for(2)
        result = tries.resume(operator, resumption(seedream_task_ids=(main, top_up)))
        assert (result["delivered"], len(connected.tasks())) == (2, 2)

    @pytest.mark.callback_order(
        "The deadline has passed, and the triggerer has not noticed yet",
        "The task is resumed, and what has finished is kept",
    )
    def test_after_the_deadline_what_has_finished_is_kept(self, called: ApiServer) -> None:
        result = self.resumed(called, generate(), deadline=time.time() - 60)
        assert result["delivered"] == 1


class TestALostAnswer:
    @pytest.mark.callback_order(
        "The worker is killed between the submission of a top-up and the record of its answer",
        "The retry learns its taskId from the callback, and buys nothing",
    )
    @pytest.mark.parametrize("on_ambiguous_submit", ["fail", "resubmit"])
    def test_to_a_top_up_is_made_up_for_as_well(
        self, called: ApiServer, connected: Apixo, on_ambiguous_submit: str
    ) -> None:
        few = {"prompt": "a fox [[deliver:1]]", "max_images": 2, "on_partial": "top_up"}
        tries = generate(**few, on_ambiguous_submit=on_ambiguous_submit)
        operator, _ = tries.run_until_deferral()
        leave_note(tries, called)
        with worker_dies(JournalStore, "record_purchases"):
            tries.resume_until_deferral(operator, resumption())
        leave_note(tries, called, 2)
        result = tries.run()
        assert (result["delivered"], len(connected.tasks())) == (2, 2)

    @pytest.mark.callback_order(
        "A callback has told a lost answer, and APIXO cannot be asked whether that is true",
        "Nothing is bought; a later retry asks again",
    )
    @pytest.mark.parametrize("on_ambiguous_submit", ["fail", "resubmit"])
    def test_is_not_given_up_while_apixo_cannot_be_asked(
        self,
        called: ApiServer,
        connected: Apixo,
        monkeypatch: pytest.MonkeyPatch,
        on_ambiguous_submit: str,
    ) -> None:
        monkeypatch.setattr("airflow_provider_seedream.purchases.lost_answer.CALLBACK_SECONDS", 0.0)
        tries = generate(on_ambiguous_submit=on_ambiguous_submit)
        with worker_dies(JournalStore, "record_purchases"):
            tries.run()
        leave_note(tries, called)
        connected.fault("/statusTask", times=4, status=503, headers={"Retry-After": "0"})
        with pytest.raises(PollFailedError, match="asks again for the task that a callback has named"):
            tries.run()
        assert tries.run()["seedream_task_id"] == connected.tasks()[0]["taskId"]
        assert len(connected.tasks()) == 1

    def test_is_not_waited_for_when_the_callback_has_told_it(
        self, called: ApiServer, connected: Apixo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lost_answer, "may_be_on_its_way", lambda *_: pytest.fail("it waits"))
        tries = generate()
        with worker_dies(JournalStore, "record_purchases"):
            tries.run()
        leave_note(tries, called)
        assert tries.run()["delivered"] == 1

    def test_is_asked_for_again_when_a_callback_can_have_come(self) -> None:
        error = AmbiguousSubmitError("the connection broke")
        error.callback_may_tell = error.retry_helps = True
        decision = SeedreamRetryPolicy().evaluate(error, try_number=3, max_tries=5)
        assert decision.retry_delay == timedelta(seconds=180)

    @pytest.mark.callback_order(
        "The answer to the submission is lost; the callback comes before the task's retry",
        "The try ends and buys nothing; the retry learns the taskId from the callback",
    )
    def test_is_made_up_for_by_the_callback_in_the_next_try(
        self, called: ApiServer, connected: Apixo
    ) -> None:
        tries = generate()
        lose_the_answer(connected)
        with pytest.raises(AmbiguousSubmitError, match="carries on if a callback has told the taskId"):
            tries.run()
        leave_note(tries, called)
        result = tries.run()
        assert [task["taskId"] for task in connected.tasks()] == [result["seedream_task_id"]]

    @pytest.mark.callback_order(
        "The callback comes while the worker waits for the answer to the submission, which is lost then",
        "The worker takes the taskId from the callback, and goes on",
    )
    def test_is_no_loss_where_the_callback_was_quicker(self, called: ApiServer, connected: Apixo) -> None:
        tries = generate(prompt="a fox [[seconds:0]]")
        called.stores.append(tries.store)
        connected.fault("/generateTask", drop="after", delay=1)
        assert tries.run()["seedream_task_id"] == connected.tasks()[0]["taskId"]
        assert (tries.try_number, len(connected.tasks())) == (1, 1)

    def test_of_submit_too(self, called: ApiServer, connected: Apixo) -> None:
        tries = TaskTries(
            lambda: SeedreamSubmitOperator(task_id="submit", prompt="a fox", request_type="callback")
        )
        lose_the_answer(connected)
        with pytest.raises(AmbiguousSubmitError):
            tries.run()
        leave_note(tries, called)
        assert tries.run() == connected.tasks()[0]["taskId"]

    def test_stays_lost_where_the_callback_names_a_task_that_is_not_ours(
        self, called: ApiServer, connected: Apixo
    ) -> None:
        tries = generate(prompt="a fox [[callback:lost]]")
        lose_the_answer(connected)
        with pytest.raises(AmbiguousSubmitError):
            tries.run()
        digest = tries.store.get(KEY)["intent"]["callback_digest"]
        forged = DeliveryRecord(
            digest=digest, seedream_task_id="task_of_another", state="success", delivered_at=1.0
        )
        tries.store.set(delivery_key(digest), forged.to_json())
        with pytest.raises(AmbiguousSubmitError):
            tries.run()
        assert len(connected.tasks()) == 1

    def test_stays_lost_where_the_callback_names_an_older_task(
        self, called: ApiServer, connected: Apixo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        older = SeedreamHook().submit(GenerateRequest(prompt="another fox"))
        tries = generate(prompt="a fox [[callback:lost]]")
        lose_the_answer(connected)
        # As if the other one had been bought an hour before.
        monkeypatch.setattr("airflow_provider_seedream.purchases.lost_answer.CLOCKS_APART", -3600.0)
        with pytest.raises(AmbiguousSubmitError):
            tries.run()
        digest = tries.store.get(KEY)["intent"]["callback_digest"]
        forged = DeliveryRecord(
            digest=digest, seedream_task_id=older, state="success", delivered_at=time.time()
        )
        tries.store.set(delivery_key(digest), forged.to_json())
        with pytest.raises(AmbiguousSubmitError):
            tries.run()

    def test_is_given_up_when_no_callback_can_come_any_more(
        self, called: ApiServer, connected: Apixo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_seedream.purchases.lost_answer.CALLBACK_SECONDS", 0.0)
        lose_the_answer(connected)
        with pytest.raises(AirflowFailException, match="might pay twice"):
            generate(prompt="a fox [[callback:lost]]").run()


class TestOwnEndpoint:
    def test_gets_the_result_while_the_task_looks_as_usual(self, called: ApiServer, connected: Apixo) -> None:
        mine = f"{called.base_url}/mine?for=fox"
        tries = generate(callback_url=mine, first_poll=0.0, poll_interval=0.05)
        assert tries.run()["delivered"] == 1
        heard = called.wait_for()
        assert heard.path == "/mine?for=fox"
        assert json.loads(heard.body)["data"]["taskId"] == connected.tasks()[0]["taskId"]
        assert not deferral(tries.deferrals[0])["awaits_callback"]

    def test_needs_no_waiting_task(self, called: ApiServer, connected: Apixo) -> None:
        tries = generate(callback_url=f"{called.base_url}/mine", wait_for_completion=False)
        bought = tries.run()
        assert bought == tries.xcom.get("submission")
        assert not tries.deferrals
        assert called.wait_for()

    def test_gets_a_top_up_as_well(self, called: ApiServer) -> None:
        options = {"max_images": 2, "on_partial": "top_up", "first_poll": 0.0, "poll_interval": 0.05}
        generate(prompt="a fox [[deliver:1]]", callback_url=f"{called.base_url}/mine", **options).run()
        assert called.wait_for(2).path == "/mine"

    def test_needs_neither_airflow_3_3_nor_a_record(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(parameters, "AIRFLOW_V_3_3_PLUS", False)
        operator({"callback_url": "https://mine.example.com/hook", "durable": False})


def operator(
    options: dict[str, Any], make: Callable[..., BaseOperator] = SeedreamGenerateOperator
) -> BaseOperator:
    return make(**{"task_id": "generate", "prompt": "a fox", "request_type": "callback", **options})


class TestRefusedWhenTheDagIsParsed:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"durable": False}, "durable.*Leave durable=True"),
            ({"deferrable": False}, "deferrable.*request_type='async'"),
            ({"request_type": "push"}, "request_type.*async, callback"),
            ({"request_type": "async", "callback_url": "https://mine.example.com"}, "callback_url"),
            ({"callback_url": "http://mine.example.com"}, "callback_url.*https"),
            ({"wait_for_completion": False}, "wait_for_completion.*callback_url"),
            (
                {
                    "wait_for_completion": False,
                    "callback_url": "https://mine.example.com",
                    "destination": "file:///tmp/images",
                },
                "destination.*wait_for_completion=True",
            ),
            (
                {
                    "wait_for_completion": False,
                    "callback_url": "https://mine.example.com",
                    "on_partial": "top_up",
                },
                "on_partial.*wait_for_completion=True",
            ),
        ],
    )
    def test_with_field_and_remedy(self, options: dict[str, Any], words: str) -> None:
        with pytest.raises(InvalidRequestError, match=words):
            operator(options)

    @pytest.mark.parametrize("make", [SeedreamGenerateOperator, SeedreamSubmitOperator])
    def test_before_airflow_3_3(
        self, make: Callable[..., BaseOperator], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(parameters, "AIRFLOW_V_3_3_PLUS", False)
        with pytest.raises(InvalidRequestError, match=r"request_type.*Airflow 3\.3.*task state store"):
            operator({}, make)

    @pytest.mark.parametrize(
        ("setting", "value", "make"),
        [
            ("WORKERS__STATE_STORE_BACKEND", "mine.Backend", SeedreamGenerateOperator),
            ("STATE_STORE__CLEAR_ON_SUCCESS", "True", SeedreamSubmitOperator),
        ],
    )
    def test_where_the_api_server_would_not_find_the_record(
        self, setting: str, value: str, make: Callable[..., BaseOperator], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(f"AIRFLOW__{setting}", value)
        with pytest.raises(InvalidRequestError, match=setting.partition("__")[2].lower()):
            operator({}, make)

    def test_generate_needs_its_record_no_longer_than_it_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__STATE_STORE__CLEAR_ON_SUCCESS", "True")
        operator({})


class TestRefusedBeforeAnythingIsBought:
    def test_where_the_api_server_has_no_public_address(
        self, connected: Apixo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW__SEEDREAM__CALLBACK_BASE_URL", "http://airflow.example.com")
        with pytest.raises(AirflowFailException, match=r"\[seedream\] callback_base_url.*https"):
            generate().run()
        assert not connected.tasks()

    def test_where_a_template_of_ones_own_url_renders_to_nothing(self, connected: Apixo) -> None:
        def make() -> SeedreamGenerateOperator:
            operator = SeedreamGenerateOperator(
                task_id="generate",
                prompt="a fox",
                request_type="callback",
                callback_url="{{ var.value.hook }}",
            )
            operator.callback_url = ""
            return operator

        with pytest.raises(AirflowFailException, match="callback_url"):
            TaskTries(make).run()
        assert not connected.tasks()


class TestAnOlderWorker:
    def test_looks_as_usual_where_nothing_tells_a_callback_from_a_forged_one(
        self, called: ApiServer, connected: Apixo
    ) -> None:
        tries = TaskTries(
            lambda: SeedreamGenerateOperator(task_id="generate", prompt=LONG, request_type="callback"),
            state_store=False,
        )
        _, outcome = tries.run_until_deferral()
        assert not deferral(outcome)["awaits_callback"]
        assert SeedreamHook().get_status(connected.tasks()[0]["taskId"]).state != "failed"
