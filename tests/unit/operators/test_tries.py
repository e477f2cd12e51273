"""What a retry, a clear and a lost answer do to the money, across the tries of one Airflow task."""

from __future__ import annotations

import re
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout

from airflow_provider_seedream.errors import (
    AmbiguousSubmitError,
    DeadlineError,
    DownloadError,
    RecordError,
    RefusedError,
    SeedreamError,
    TaskFailedError,
)
from airflow_provider_seedream.hooks.seedream import SeedreamHook
from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator
from airflow_provider_seedream.purchases import lost_answer
from airflow_provider_seedream.purchases.buying import Buyer
from airflow_provider_seedream.purchases.journal_store import KEY
from airflow_provider_seedream.worker import generate as generate_module
from tests.support.airflow_tries import worker_dies
from tests.support.apixo import Apixo
from tests.support.purchases import (
    AnyTask,
    assert_one_purchase,
    bought,
    generate,
    no_pauses,
    submit,
    task_id_of,
    wait_until_finished,
)

pytestmark = pytest.mark.usefixtures("quick")


class TestARetryCarriesOnWithWhatWasBought:
    def test_after_the_worker_died_right_after_the_record(self, any_task: AnyTask, connected: Apixo) -> None:
        task = any_task()
        with worker_dies(Buyer, "push"):
            task.run()
        assert_one_purchase(connected, task.run())

    def test_after_the_worker_died_while_the_task_was_in_progress(self, connected: Apixo) -> None:
        task = generate(prompt="x [[seconds:60]]")
        task.run_until_deferral()
        result = task.run()
        assert bought(connected) == [task_id_of(result)]

    def test_after_success_whatever_made_airflow_retry(self, any_task: AnyTask, connected: Apixo) -> None:
        task = any_task()
        first = task.run()
        assert task_id_of(task.run()) == task_id_of(first)
        assert len(bought(connected)) == 1

    def test_a_finished_task_is_delivered_without_deferring_again(self, connected: Apixo) -> None:
        task = generate()
        task.run()
        deferrals = len(task.deferrals)
        task.run()
        assert len(task.deferrals) == deferrals == 1

    def test_after_a_deadline(self, any_task: AnyTask, connected: Apixo) -> None:
        task = generate(prompt="x [[seconds:200]]", generation_timeout=0.2)
        with pytest.raises(DeadlineError, match="Retry: carries on with what was bought"):
            task.run()
        assert task_id_of(task.run(generation_timeout=60)) == bought(connected)[0]
        assert len(bought(connected)) == 1

    def test_after_a_download_that_failed(self, connected: Apixo, tmp_path: Path) -> None:
        task = generate(destination=tmp_path.as_uri())
        connected.fault("/results", times=1, status=404, body="gone")
        with pytest.raises((DownloadError, AirflowFailException)):
            task.run()
        result = task.run()
        assert [Path(image["path"].removeprefix("file://")).exists() for image in result["images"]] == [True]
        assert len(bought(connected)) == 1

    def test_after_execution_timeout_hit_the_saving(self, connected: Apixo, tmp_path: Path) -> None:
        task = generate(destination=tmp_path.as_uri())
        with (
            mock.patch.object(generate_module, "save", side_effect=AirflowTaskTimeout("too slow")),
            pytest.raises(SeedreamError, match="AirflowTaskTimeout: too slow.*Retry: carries on"),
        ):
            task.run()
        task.run()
        assert len(bought(connected)) == 1

    def test_after_the_state_store_failed_once_the_money_was_spent(self, connected: Apixo) -> None:
        """The first try can still finish the job; what was not recorded is a case for the next test class."""
        task = generate()
        real = task.store.set
        refusals = iter([None, ConnectionError("api-server gone")])

        def flaky(key: str, value: Any) -> None:
            if error := next(refusals, None):
                raise error
            real(key, value)

        with mock.patch.object(task.store, "set", flaky), mock.patch("time.sleep"):
            task.run()
        assert task_id_of(task.run()) == bought(connected)[0]
        assert len(bought(connected)) == 1

    def test_the_submission_is_in_xcom_again(self, any_task: AnyTask) -> None:
        task = any_task()
        first = task.run()
        task.run()
        record = task.xcom.get("submission")
        assert record["seedream_task_id"] == task_id_of(first)
        assert record["request"]["prompt"] == "a fox"


class TestALostTrigger:
    @pytest.mark.parametrize("state_store", [True, False])
    def test_is_answered_with_one_last_look(
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


class TestATaskThatFailedIsBoughtAnew:
    def test_when_a_retry_may_help(
        self, any_task: AnyTask, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task = any_task(prompt="x [[fail:Timeout]]")
        with worker_dies(Buyer, "push"):
            task.run()
        wait_until_finished(connected)
        with pytest.raises(TaskFailedError) if any_task is not submit else worker_dies(Buyer, "push"):
            task.run()
        assert len(bought(connected)) == 2
        assert "It is submitted anew" in capsys.readouterr().out

    def test_not_when_no_retry_can_help(self, any_task: AnyTask, connected: Apixo) -> None:
        task = any_task(prompt="x [[fail:SensitiveContentDetected]]")
        with worker_dies(Buyer, "push"):
            task.run()
        wait_until_finished(connected)
        with pytest.raises(AirflowFailException, match="SensitiveContentDetected.*nothing.*Retry: none"):
            task.run()
        assert len(bought(connected)) == 1

    def test_when_apixo_does_not_know_it_any_more(
        self, any_task: AnyTask, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task = any_task()
        task.run()
        connected.fault("/statusTask", times=3, status=404)
        with (
            mock.patch("airflow_provider_seedream.purchases.earlier_tries.UNKNOWN_GRACE_SECONDS", -1.0),
            no_pauses(),
        ):
            result = task.run()
        assert bought(connected)[1] == task_id_of(result)
        assert "It is submitted anew" in capsys.readouterr().out

    def test_not_when_one_answer_says_so_and_the_next_does_not(
        self, any_task: AnyTask, connected: Apixo
    ) -> None:
        task = any_task()
        task.run()
        connected.fault("/statusTask", times=2, status=404)
        with (
            mock.patch("airflow_provider_seedream.purchases.earlier_tries.UNKNOWN_GRACE_SECONDS", -1.0),
            no_pauses(),
        ):
            assert_one_purchase(connected, task.run())

    def test_not_when_it_is_too_young_to_be_known(self, connected: Apixo) -> None:
        task = submit()
        task.run()
        connected.fault("/statusTask", status=404)
        assert_one_purchase(connected, task.run())

    def test_not_when_its_status_cannot_be_read(self, connected: Apixo) -> None:
        task = submit()
        task.run()
        connected.fault("/statusTask", status=401)
        assert_one_purchase(connected, task.run())


class TestARetriedFailure:
    def test_of_the_generation_submits_anew(self, connected: Apixo) -> None:
        task = generate(prompt="x [[fail:Timeout]]")
        for _ in range(2):
            with pytest.raises(TaskFailedError, match="Charged: nothing.*Retry: submits anew"):
                task.run()
        assert len(bought(connected)) == 2

    def test_codes_can_be_made_retryable(self, connected: Apixo) -> None:
        task = generate(prompt="x [[fail:PromptInvalid]]", retryable_fail_codes=["prompt_invalid"])
        with pytest.raises(TaskFailedError, match="Retry: submits anew"):
            task.run()

    def test_codes_can_be_made_final(self) -> None:
        with pytest.raises(AirflowFailException, match="Timeout.*Retry: none"):
            generate(prompt="x [[fail:Timeout]]", retryable_fail_codes=[]).run()

    def test_of_the_submission_buys_nothing_twice(self, any_task: AnyTask, connected: Apixo) -> None:
        task = any_task()
        connected.fault("/generateTask", status=429, headers={"Retry-After": "90"})
        with pytest.raises(RefusedError, match="Charged: nothing by this try. Retry: submits anew"):
            task.run()
        task.run()
        assert len(bought(connected)) == 1


class TestAClearBuysAnew:
    def test_of_a_finished_task(
        self, any_task: AnyTask, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task = any_task()
        first = task_id_of(task.run())
        task.clear()
        second = task_id_of(task.run())
        assert bought(connected) == [first, second]
        log = capsys.readouterr().out
        assert "The task was cleared, so what it bought before does not count" in log
        assert log.count(first) > 0

    def test_and_the_retry_after_a_clear_does_not(self, any_task: AnyTask, connected: Apixo) -> None:
        task = any_task()
        task.run()
        task.clear()
        second = task_id_of(task.run())
        assert task_id_of(task.run()) == second
        assert len(bought(connected)) == 2

    def test_also_after_a_lost_answer(self, any_task: AnyTask, connected: Apixo) -> None:
        task = any_task()
        with worker_dies(SeedreamHook, "submit", after=True):
            task.run()
        task.clear()
        assert task_id_of(task.run()) == bought(connected)[1]


class TestAnotherRequestIsNotCarriedOn:
    def test_when_a_mapped_list_was_reordered(
        self, any_task: AnyTask, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task = any_task()
        fox = task_id_of(task.run(prompt="a fox"))
        owl = task_id_of(task.run(prompt="an owl"))
        assert bought(connected) == [fox, owl]
        assert "about another request" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "change",
        [{"max_images": 2}, {"resolution": "4K"}, {"aspect_ratio": "1:1"}, {"provider": "official"}],
        ids=lambda change: next(iter(change)),
    )
    def test_when_anything_that_is_bought_differs(self, connected: Apixo, change: dict[str, Any]) -> None:
        task = submit()
        assert task.run() != task.run(**change)


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

        def looked(*_: Any) -> bool:
            task.store.set(KEY, after)
            return True

        with (
            mock.patch.object(lost_answer, "may_be_on_its_way", looked),
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


class TestTheRecord:
    def test_that_cannot_be_read_is_not_no_record(self, any_task: AnyTask, connected: Apixo) -> None:
        task = any_task()
        task.run()
        task.store.fails = ConnectionError("api-server gone")
        with pytest.raises(RecordError, match="api-server gone.*Retry: reads the record again"):
            task.run()
        task.store.fails = None
        task.run()
        assert len(bought(connected)) == 1

    @pytest.mark.parametrize("record", ["nonsense", {}, {"schema": 2, "max_tries": 2}, [1], {"schema": 1}])
    def test_of_an_unknown_shape_ends_the_task(
        self, any_task: AnyTask, connected: Apixo, record: Any
    ) -> None:
        task = any_task()
        task.store.set(KEY, record)
        with pytest.raises(AirflowFailException, match="cannot be read.*use durable=False once, to buy anew"):
            task.run()
        assert bought(connected) == []

    def test_of_a_newer_release_gives_way_to_a_clear(self, any_task: AnyTask, connected: Apixo) -> None:
        task = any_task()
        task.store.set(KEY, {"schema": 2, "max_tries": 2})
        task.try_number = 1
        task.clear()
        assert_one_purchase(connected, task.run())

    def test_nothing_is_bought_where_the_intent_cannot_be_recorded(
        self, any_task: AnyTask, connected: Apixo
    ) -> None:
        task = any_task()
        with (
            mock.patch.object(task.store, "set", side_effect=ConnectionError("disk full")),
            pytest.raises(RecordError, match="does not keep the record"),
        ):
            task.run()
        assert connected.requests("/generateTask") == []

    def test_the_intent_comes_before_the_post_and_the_task_id_after(
        self, any_task: AnyTask, connected: Apixo
    ) -> None:
        task = any_task()
        task.run()
        before, after = task.store.writes
        assert (before["intent"]["charge_usd"], before["purchases"]) == ("0.035", [])
        assert before["max_tries"] == after["max_tries"] == 2
        assert after["intent"] is None
        assert after["purchases"][0]["seedream_task_id"] == bought(connected)[0]

    def test_holds_no_key(self, any_task: AnyTask, connected: Apixo) -> None:
        task = any_task()
        task.run()
        assert connected.key not in str(task.store.writes)


class TestWithoutARecordThatLasts:
    @pytest.fixture(params=["airflow before 3.3", "durable=False"])
    def unprotected(self, request: pytest.FixtureRequest) -> dict[str, Any]:
        return {"durable": False} if request.param == "durable=False" else {"state_store": False}

    def test_it_works_all_the_same(self, connected: Apixo, unprotected: dict[str, Any]) -> None:
        assert bought(connected) == []
        result = generate(**unprotected).run()
        assert bought(connected) == [task_id_of(result)]

    def test_what_was_paid_for_is_not_bought_again(
        self, connected: Apixo, unprotected: dict[str, Any], tmp_path: Path
    ) -> None:
        task = generate(**unprotected, generation_timeout=0.2, prompt="x [[seconds:60]]")
        with pytest.raises(AirflowFailException) as failure:
            task.run()
        (paid,) = bought(connected)
        assert "Retry: none, it would buy again" in str(failure.value)
        assert f"seedream_task_id='{paid}' finish the job at no cost" in str(failure.value)

    def test_one_line_says_what_is_not_protected(
        self, connected: Apixo, capsys: pytest.CaptureFixture[str]
    ) -> None:
        generate(state_store=False).run()
        log = capsys.readouterr().out
        assert log.count("has no task state store") == 1
        generate(durable=False, state_store=False).run()
        assert "has no task state store" not in capsys.readouterr().out


class TestExecutionTimeout:
    def test_bounds_the_wait_while_deferred(self, connected: Apixo) -> None:
        """Airflow 3.1-3.3 do not enforce it there."""
        task = generate(prompt="x [[seconds:900]]", execution_timeout=timedelta(seconds=30))
        _, deferral = task.run_until_deferral()
        assert deferral.trigger.deadline == pytest.approx(task._started.timestamp() + 27, abs=1)

    def test_a_shorter_generation_timeout_stays(self, connected: Apixo) -> None:
        task = generate(
            prompt="x [[seconds:900]]", execution_timeout=timedelta(hours=1), generation_timeout=40
        )
        _, deferral = task.run_until_deferral()
        assert deferral.trigger.deadline == pytest.approx(task._started.timestamp() + 40, abs=5)


class TestWhenTheWorkerIsToldToStop:
    def test_the_log_says_what_goes_on(self, connected: Apixo, capsys: pytest.CaptureFixture[str]) -> None:
        operator, _ = generate(prompt="x [[seconds:900]]").run_until_deferral()
        operator.on_kill()
        assert f"Task {bought(connected)[0]} cannot be cancelled: APIXO goes on" in capsys.readouterr().out

    def test_before_anything_was_bought_there_is_nothing_to_say(self) -> None:
        SeedreamGenerateOperator(task_id="generate", prompt="a fox").on_kill()
