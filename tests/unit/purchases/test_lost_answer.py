"""A submission whose answer was lost is never silently repeated, and found where something tells it."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from unittest import mock

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout

from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.callbacks.delivery import DeliveryRecord, make_delivery_key
from airflow_provider_seedream.errors import (
    AmbiguousSubmitError,
    PollFailedError,
    SeedreamError,
)
from airflow_provider_seedream.hooks.seedream import SeedreamHook
from airflow_provider_seedream.operators.seedream import SeedreamSubmitOperator
from airflow_provider_seedream.purchases import lost_answer
from airflow_provider_seedream.purchases.journal import Intent
from airflow_provider_seedream.purchases.journal_store import KEY, JournalStore
from airflow_provider_seedream.purchases.lost_answer import may_be_on_its_way
from airflow_provider_seedream.retry_policy import SeedreamRetryPolicy
from tests.support.airflow_tries import TaskTries, worker_dies
from tests.support.api_server import ApiServer, make_resume_event
from tests.support.apixo import Apixo
from tests.support.callbacks import (
    generate_with_callback,
    leave_delivery,
    lose_the_answer,
)
from tests.support.purchases import (
    AnyTask,
    assert_one_purchase,
    bought,
    submit,
    task_id_of,
)

pytestmark = pytest.mark.usefixtures("quick")


class TestALostAnswer:
    """Between the submission and its record lies the one case that nobody can decide for the user."""

    @pytest.mark.parametrize("after", [True, False], ids=["accepted", "never sent"])
    def test_of_an_earlier_try_ends_the_task_and_tells_the_balance(
        self, any_task: AnyTask, connected: Apixo, after: bool
    ) -> None:
        task = any_task(max_images=2)
        with worker_dies(SeedreamHook, "submit", after=after):
            task.run()
        with pytest.raises(AirflowFailException) as failure:
            task.run()
        message = str(failure.value)
        assert "may have accepted and charged" in message
        spent = "0.07" if after else "0"
        balances = re.search(r"Balance before: (\S+) USD; after: (\S+) USD", message)
        assert balances
        assert Decimal(balances[1]) - Decimal(balances[2]) == Decimal(spent)
        assert "Charged: perhaps 0.070 USD" in message
        assert len(bought(connected)) == after

    def test_of_this_try_ends_the_task(self, any_task: AnyTask, connected: Apixo) -> None:
        connected.fault("/generateTask", drop="after")
        with pytest.raises(AirflowFailException, match="may have accepted.*Balance before.*Retry: none"):
            any_task().run()
        assert len(connected.requests("/generateTask")) == 1

    def test_that_another_worker_still_waits_for_is_waited_for(
        self, any_task: AnyTask, connected: Apixo
    ) -> None:
        """Airflow takes a worker for dead that it has not heard of, and starts the next try."""
        task = any_task()
        task.run()
        before, after = task.store.writes
        task.store.set(KEY, before)

        def record_it(*_: Any) -> bool:
            task.store.set(KEY, after)
            return True

        with (
            mock.patch.object(lost_answer, "may_be_on_its_way", record_it),
            mock.patch("airflow_provider_seedream.purchases.lost_answer.ANSWER_PAUSE", 0.0),
        ):
            assert_one_purchase(connected, task.run())

    def test_a_gateways_page_is_one(self, any_task: AnyTask, connected: Apixo) -> None:
        connected.fault("/generateTask", status=502, body="<html>Bad Gateway</html>")
        with pytest.raises(AirflowFailException, match="may have accepted and charged"):
            any_task().run()
        assert len(connected.requests("/generateTask")) == 1

    def test_of_a_post_that_execution_timeout_cut_short(self, any_task: AnyTask, connected: Apixo) -> None:
        task = any_task()
        with (
            mock.patch.object(SeedreamHook, "submit", side_effect=AirflowTaskTimeout("too slow")),
            pytest.raises(SeedreamError, match="perhaps 0.035 USD.*does what on_ambiguous_submit says"),
        ):
            task.run()
        with pytest.raises(AirflowFailException, match="may have accepted"):
            task.run()

    def test_is_not_left_to_a_retry_that_knows_nothing(self, any_task: AnyTask) -> None:
        with (
            mock.patch.object(SeedreamHook, "submit", side_effect=AirflowTaskTimeout("too slow")),
            pytest.raises(AirflowFailException, match="Retry: none, it would buy again"),
        ):
            any_task(state_store=False).run()

    def test_is_bought_again_where_the_user_asked_for_that(self, any_task: AnyTask, connected: Apixo) -> None:
        connected.fault("/generateTask", drop="after")
        result = any_task(on_ambiguous_submit="resubmit").run()
        assert bought(connected)[1] == task_id_of(result)
        assert len(bought(connected)) == 2

    def test_of_an_earlier_try_too(self, any_task: AnyTask, connected: Apixo) -> None:
        task = any_task(on_ambiguous_submit="resubmit")
        with worker_dies(SeedreamHook, "submit", after=True):
            task.run()
        assert task_id_of(task.run()) == bought(connected)[1]

    def test_a_second_one_is_left_to_airflows_retries(self, any_task: AnyTask, connected: Apixo) -> None:
        task = any_task(on_ambiguous_submit="resubmit")
        connected.fault("/generateTask", times=2, drop="before")
        with pytest.raises(AmbiguousSubmitError, match="Retry: submits again"):
            task.run()
        task.run()
        assert len(bought(connected)) == 1

    def test_a_balance_that_cannot_be_read_is_no_reason_to_hide_the_rest(self, connected: Apixo) -> None:
        connected.fault("/apikeys", times=3, status=500)
        connected.fault("/generateTask", drop="after")
        with pytest.raises(AirflowFailException, match="Balance before: not known; after: not known"):
            submit().run()


class TestACallbackTellsALostAnswer:
    @pytest.mark.callback_order(
        "The worker is killed between the submission of a top-up and the record of its answer",
        "The retry learns its taskId from the callback, and buys nothing",
    )
    @pytest.mark.parametrize("on_ambiguous_submit", ["fail", "resubmit"])
    def test_to_a_top_up_is_made_up_for_as_well(
        self, endpoint: ApiServer, connected: Apixo, on_ambiguous_submit: str
    ) -> None:
        few = {"prompt": "a fox [[deliver:1]]", "max_images": 2, "on_partial": "top_up"}
        tries = generate_with_callback(**few, on_ambiguous_submit=on_ambiguous_submit)
        operator, _ = tries.run_until_deferral()
        leave_delivery(tries, endpoint)
        with worker_dies(JournalStore, "record_purchases"):
            tries.resume_until_deferral(operator, make_resume_event())
        leave_delivery(tries, endpoint, 2)
        result = tries.run()
        assert (result["delivered"], len(connected.tasks())) == (2, 2)

    @pytest.mark.callback_order(
        "A callback has told a lost answer, and APIXO cannot be asked whether that is true",
        "Nothing is bought; a later retry asks again",
    )
    @pytest.mark.parametrize("on_ambiguous_submit", ["fail", "resubmit"])
    def test_is_not_given_up_while_apixo_cannot_be_asked(
        self,
        endpoint: ApiServer,
        connected: Apixo,
        monkeypatch: pytest.MonkeyPatch,
        on_ambiguous_submit: str,
    ) -> None:
        monkeypatch.setattr("airflow_provider_seedream.purchases.lost_answer.CALLBACK_SECONDS", 0.0)
        tries = generate_with_callback(on_ambiguous_submit=on_ambiguous_submit)
        with worker_dies(JournalStore, "record_purchases"):
            tries.run()
        leave_delivery(tries, endpoint)
        connected.fault("/statusTask", times=4, status=503, headers={"Retry-After": "0"})
        with pytest.raises(PollFailedError, match="polls the task that a callback has named"):
            tries.run()
        assert tries.run()["seedream_task_id"] == connected.tasks()[0]["taskId"]
        assert len(connected.tasks()) == 1

    def test_is_not_waited_for_when_the_callback_has_told_it(
        self, endpoint: ApiServer, connected: Apixo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lost_answer, "may_be_on_its_way", lambda *_: pytest.fail("it waits"))
        tries = generate_with_callback()
        with worker_dies(JournalStore, "record_purchases"):
            tries.run()
        leave_delivery(tries, endpoint)
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
        self, endpoint: ApiServer, connected: Apixo
    ) -> None:
        tries = generate_with_callback()
        lose_the_answer(connected)
        with pytest.raises(AmbiguousSubmitError, match="carries on if a callback has told the taskId"):
            tries.run()
        leave_delivery(tries, endpoint)
        result = tries.run()
        assert [task["taskId"] for task in connected.tasks()] == [result["seedream_task_id"]]

    @pytest.mark.callback_order(
        "The callback comes while the worker waits for the answer to the submission, which is lost then",
        "The worker takes the taskId from the callback, and goes on",
    )
    def test_is_no_loss_where_the_callback_was_quicker(self, endpoint: ApiServer, connected: Apixo) -> None:
        tries = generate_with_callback(prompt="a fox [[seconds:0]]")
        endpoint.stores.append(tries.store)
        connected.fault("/generateTask", drop="after", delay=1)
        assert tries.run()["seedream_task_id"] == connected.tasks()[0]["taskId"]
        assert (tries.try_number, len(connected.tasks())) == (1, 1)

    def test_of_submit_too(self, endpoint: ApiServer, connected: Apixo) -> None:
        tries = TaskTries(
            lambda: SeedreamSubmitOperator(task_id="submit", prompt="a fox", request_type="callback")
        )
        lose_the_answer(connected)
        with pytest.raises(AmbiguousSubmitError):
            tries.run()
        leave_delivery(tries, endpoint)
        assert tries.run() == connected.tasks()[0]["taskId"]

    def test_stays_lost_where_the_callback_names_a_task_that_is_not_ours(
        self, endpoint: ApiServer, connected: Apixo
    ) -> None:
        tries = generate_with_callback(prompt="a fox [[callback:lost]]")
        lose_the_answer(connected)
        with pytest.raises(AmbiguousSubmitError):
            tries.run()
        digest = tries.store.get(KEY)["intent"]["callback_digest"]
        forged = DeliveryRecord(
            digest=digest, seedream_task_id="task_of_another", state="success", delivered_at=1.0
        )
        tries.store.set(make_delivery_key(digest), forged.to_json())
        with pytest.raises(AmbiguousSubmitError):
            tries.run()
        assert len(connected.tasks()) == 1

    def test_stays_lost_where_the_callback_names_an_older_task(
        self, endpoint: ApiServer, connected: Apixo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        older = SeedreamHook().submit(GenerateRequest(prompt="another fox"))
        tries = generate_with_callback(prompt="a fox [[callback:lost]]")
        lose_the_answer(connected)
        # As if the other one had been bought an hour before.
        monkeypatch.setattr("airflow_provider_seedream.purchases.lost_answer.CLOCKS_APART", -3600.0)
        with pytest.raises(AmbiguousSubmitError):
            tries.run()
        digest = tries.store.get(KEY)["intent"]["callback_digest"]
        forged = DeliveryRecord(
            digest=digest, seedream_task_id=older, state="success", delivered_at=time.time()
        )
        tries.store.set(make_delivery_key(digest), forged.to_json())
        with pytest.raises(AmbiguousSubmitError):
            tries.run()

    def test_is_given_up_when_no_callback_can_come_any_more(
        self, endpoint: ApiServer, connected: Apixo, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("airflow_provider_seedream.purchases.lost_answer.CALLBACK_SECONDS", 0.0)
        lose_the_answer(connected)
        with pytest.raises(AirflowFailException, match="might pay twice"):
            generate_with_callback(prompt="a fox [[callback:lost]]").run()


class TestHowLongItIsHopedFor:
    INTENT = Intent(fingerprint="f", at=1000.0, charge=Decimal("0.035"))

    @pytest.mark.parametrize(
        ("digest", "now", "may"), [("d1", 1001, True), ("d1", 1900, False), (None, 1001, False)]
    )
    def test_a_callback_may_tell_it_for_a_quarter_of_an_hour(
        self, digest: str | None, now: float, may: bool
    ) -> None:
        assert lost_answer.may_be_told_later(replace(self.INTENT, callback_digest=digest), now) is may

    def test_without_a_submission_there_is_nothing_to_tell(self) -> None:
        assert not lost_answer.may_be_told_later(None, 1000.0)

    @pytest.mark.parametrize(("now", "may"), [(1059, True), (1060, False)])
    def test_another_worker_may_record_it_until_its_request_times_out(self, now: float, may: bool) -> None:
        assert may_be_on_its_way(self.INTENT, 60.0, now) is may
