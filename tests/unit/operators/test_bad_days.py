"""Whatever fails around a purchase, it is neither made twice nor forgotten."""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_seedream.apixo.causes import http_cause
from airflow_provider_seedream.errors import (
    AmbiguousSubmitError,
    BalanceError,
    BudgetError,
    ConnectionConfigError,
    DeadlineError,
    InterruptedJobError,
    InvalidRequestError,
    Problem,
    RecordError,
    RefusedError,
    SeedreamError,
    TooFewImagesError,
    UnreadableAnswerError,
)
from airflow_provider_seedream.hooks.seedream import SeedreamHook
from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator
from tests.support.airflow_tries import TaskTries
from tests.support.apixo import Apixo, Connect
from tests.support.purchases import (
    AnyTask,
    assert_one_purchase,
    bought,
    generate,
    no_pauses,
    submit,
    wait_until_finished,
)

pytestmark = pytest.mark.usefixtures("quick")

WITH_AND_WITHOUT_STORE = pytest.mark.parametrize("state_store", [True, False], ids=["3.3", "before 3.3"])


@contextmanager
def nothing_is_kept_after(task: TaskTries, writes: int) -> Iterator[None]:
    """The state store takes so many writes and then fails."""
    task.store.refuses_after = writes
    with mock.patch("time.sleep"):
        yield
    task.store.refuses_after = None


class TestAResumeThatIsToldLittle:
    """Between the purchase and the resume anything may have happened to the records."""

    @WITH_AND_WITHOUT_STORE
    @pytest.mark.parametrize(
        "event",
        [
            None,
            {},
            {"verdicts": []},
            {"verdicts": [None, {"task_id": 7}, {"task_id": "T", "outcome": "later", "deadline": 1}]},
            {"verdicts": [{"task_id": "T", "kind": "new", "outcome": "finished", "deadline": 1}]},
        ],
    )
    def test_an_event_of_another_release_is_looked_into_again(
        self, connected: Apixo, state_store: bool, event: Any
    ) -> None:
        task = generate(state_store=state_store)
        operator, _ = task.run_until_deferral()
        wait_until_finished(connected)
        event = json.loads(json.dumps(event).replace('"T"', f'"{bought(connected)[0]}"'))
        assert_one_purchase(connected, task.resume(operator, event))

    @WITH_AND_WITHOUT_STORE
    def test_records_that_cannot_be_read_leave_the_event(
        self, connected: Apixo, tmp_path: Path, state_store: bool
    ) -> None:
        task = generate(state_store=state_store, destination=tmp_path.as_uri())
        operator, _ = task.run_until_deferral()
        wait_until_finished(connected)
        task.store.fails = task.xcom.fails = ConnectionError("api-server gone")
        event = {"verdicts": [{"task_id": bought(connected)[0]}]}
        assert_one_purchase(connected, task.resume(operator, event))
        assert len(list(tmp_path.glob("*.png"))) == 1

    def test_nothing_at_all_is_left_to_a_retry_that_can_read_the_record(self, connected: Apixo) -> None:
        task = generate()
        operator, _ = task.run_until_deferral()
        task.store.fails = task.xcom.fails = ConnectionError("api-server gone")
        with pytest.raises(RecordError, match="Retry: reads the record again"):
            task.resume_without_trigger(operator)
        task.store.fails = None
        assert_one_purchase(connected, task.run())

    def test_nothing_at_all_ends_the_task_where_a_retry_would_buy(self, connected: Apixo) -> None:
        task = generate(state_store=False)
        operator, _ = task.run_until_deferral()
        task.xcom.texts.clear()
        with pytest.raises(AirflowFailException, match="in its log only.*Retry: none, it would buy again"):
            task.resume_without_trigger(operator)


class TestARecordThatCouldNotBeKept:
    @pytest.mark.parametrize("deferrable", [True, False])
    def test_does_not_keep_this_try_from_finishing(self, connected: Apixo, deferrable: bool) -> None:
        task = generate(deferrable=deferrable)
        with nothing_is_kept_after(task, 1):
            assert_one_purchase(connected, task.run())

    def test_is_made_good_when_the_task_resumes(self, connected: Apixo) -> None:
        task = generate()
        with nothing_is_kept_after(task, 1):
            operator, _ = task.run_until_deferral()
        wait_until_finished(connected)
        task.resume(operator, {"verdicts": []})
        assert_one_purchase(connected, task.run())

    @pytest.mark.parametrize("policy", ["fail", "resubmit"])
    def test_is_not_promised_to_a_retry(self, connected: Apixo, policy: str) -> None:
        task = generate(
            prompt="x [[seconds:60]]", deferrable=False, generation_timeout=0.2, on_ambiguous_submit=policy
        )
        with (
            nothing_is_kept_after(task, 1),
            pytest.raises(AirflowFailException, match="Retry: none, it would buy again.*at no cost"),
        ):
            task.run()

    @pytest.mark.parametrize("policy", ["fail", "resubmit"])
    def test_of_a_top_up_is_found_in_the_event(self, connected: Apixo, tmp_path: Path, policy: str) -> None:
        task = generate(
            prompt="x [[deliver:2]]",
            max_images=3,
            on_partial="top_up",
            destination=tmp_path.as_uri(),
            on_ambiguous_submit=policy,
        )
        with nothing_is_kept_after(task, 3):
            result = task.run()
        assert (result["delivered"], result["cost_usd"]) == (3, 0.105)
        assert len(bought(connected)) == 2

    def test_an_intent_that_could_not_be_kept_charged_nothing(
        self, any_task: AnyTask, connected: Apixo
    ) -> None:
        task = any_task()
        with nothing_is_kept_after(task, 0), pytest.raises(RecordError, match="Charged: nothing by this try"):
            task.run()


class TestWhileSomethingIsPaidFor:
    """A retry that cannot even begin must still name what is paid for."""

    def paid(self, **arguments: Any) -> TaskTries:
        task = generate(prompt="x [[seconds:60]]", **arguments)
        task.run_until_deferral()
        return task

    def test_a_connection_that_cannot_be_read_may_pass(
        self, connected: Apixo, monkeypatch: pytest.MonkeyPatch, connect: Connect
    ) -> None:
        task = self.paid()
        monkeypatch.delenv("AIRFLOW_CONN_SEEDREAM_DEFAULT")
        with pytest.raises(ConnectionConfigError, match="Retry: carries on") as failure:
            task.run()
        assert bought(connected)[0] in str(failure.value)
        connect(host=connected.base_url)
        assert_one_purchase(connected, task.run())

    @pytest.mark.parametrize("changes", [{"prompt": "{{ x }}"}, {"max_cost": "{{ x }}"}])
    def test_a_template_that_renders_to_nothing_names_it(
        self, connected: Apixo, changes: dict[str, Any]
    ) -> None:
        task = self.paid()
        made = task._make

        def make(**_: Any) -> Any:
            operator = made(**changes)
            for name in changes:
                setattr(operator, name, "")
            return operator

        task._make = make
        if "prompt" in changes:
            with pytest.raises(AirflowFailException, match=bought(connected)[0]):
                task.run()
        else:
            # Nothing is bought, so no limit is needed.
            assert_one_purchase(connected, task.run())

    def test_a_task_that_is_not_known_for_a_while_is_left_to_the_retry(self, connected: Apixo) -> None:
        task = generate(deferrable=False)
        connected.fault("/statusTask", times=2, status=404)
        with (
            mock.patch("airflow_provider_seedream.apixo.watch.MAX_FAILED_POLLS", 2),
            mock.patch("airflow_provider_seedream.apixo.backoff.backoff", return_value=0.01),
            pytest.raises(SeedreamError, match="Gave up watching.*Retry: carries on"),
        ):
            task.run()
        assert_one_purchase(connected, task.run())


class TestWhatIsSpentStaysSpent:
    def test_also_when_every_try_asks_for_something_else(self, connected: Apixo) -> None:
        task = generate(max_cost=0.05)
        task.run(prompt="at noon")
        with pytest.raises(AirflowFailException, match="max_cost=0.05 USD.*0.035 USD of them"):
            task.run(prompt="at one")
        assert len(bought(connected)) == 1

    def test_also_when_apixo_does_not_know_it_any_more(self, connected: Apixo) -> None:
        task = submit(max_cost=0.05)
        task.run()
        connected.fault("/statusTask", times=3, status=404)
        with (
            mock.patch("airflow_provider_seedream.purchases.earlier_tries.UNKNOWN_GRACE_SECONDS", -1.0),
            no_pauses(),
            pytest.raises(AirflowFailException, match="max_cost=0.05"),
        ):
            task.run()
        assert len(bought(connected)) == 1

    def test_a_clear_begins_anew(self, connected: Apixo) -> None:
        task = submit(max_cost=0.05)
        task.run()
        task.clear()
        task.run()
        assert len(bought(connected)) == 2


class TestChangesBetweenTries:
    def test_of_the_connections_routing_carry_on(
        self, any_task: AnyTask, connected: Apixo, connect: Connect
    ) -> None:
        task = any_task()
        task.run()
        connect(host=connected.base_url, extra={"provider": "official"})
        assert_one_purchase(connected, task.run())

    def test_of_the_number_of_retries_do_not_hide_a_clear(self, connected: Apixo) -> None:
        task = submit()
        task.run()
        task.clear(retries=0)
        task.run()
        assert len(bought(connected)) == 2


class TestTopUps:
    def top_up(self, tmp_path: Path, **arguments: Any) -> TaskTries:
        fixed = {"prompt": "x [[deliver:2]]", "max_images": 3, "on_partial": "top_up"}
        return generate(**fixed, destination=tmp_path.as_uri(), **arguments)

    @pytest.mark.parametrize("extra", [{}, {"provider": "value"}])
    def test_go_the_way_of_the_first_submission(
        self, connected: Apixo, tmp_path: Path, connect: Connect, extra: dict[str, str]
    ) -> None:
        connect(host=connected.base_url, extra=extra)
        with mock.patch.object(
            SeedreamHook, "submit", autospec=True, side_effect=SeedreamHook.submit
        ) as post:
            self.top_up(tmp_path, provider="official").run()
        assert [call.args[1].provider for call in post.call_args_list] == ["official", "official"]

    def test_refused_for_now_are_left_to_the_retry(self, connected: Apixo, tmp_path: Path) -> None:
        task = self.top_up(tmp_path, min_images=3)
        connected.fault("/generateTask", every=2, status=429, headers={"Retry-After": "90"})
        with pytest.raises(TooFewImagesError, match="min_images=3.*could not be bought.*Retry: carries on"):
            task.run()
        assert task.run()["delivered"] == 3
        assert len(bought(connected)) == 2

    def test_are_not_bought_without_time_to_wait_for_them(
        self, connected: Apixo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        task = self.top_up(tmp_path, execution_timeout=timedelta(minutes=10))
        operator, deferral = task.run_until_deferral()
        wait_until_finished(connected)
        task._started -= timedelta(minutes=10)
        result = task.resume(operator, {"verdicts": [{"task_id": deferral.trigger.seedream_task_ids[0]}]})
        assert (result["delivered"], len(bought(connected))) == (2, 1)
        assert "too little for a top-up" in capsys.readouterr().out


class TestARefusalThatNamesATask:
    def test_is_waited_for_and_not_bought_again(self, any_task: AnyTask, connected: Apixo) -> None:
        task_id = submit(prompt="another").run()
        connected.fault("/generateTask", status=500, body={"code": 500, "data": {"taskId": task_id}})
        result = any_task(on_ambiguous_submit="resubmit").run()
        assert_one_purchase(connected, result)


class TestReuseNeedsADestination:
    @pytest.mark.parametrize("if_exists", ["reuse", "fail"])
    def test_and_says_so_when_the_dag_is_parsed(self, if_exists: str) -> None:
        with pytest.raises(ValueError, match=f"if_exists='{if_exists}'"):
            SeedreamGenerateOperator(task_id="generate", prompt="x", if_exists=if_exists)


@pytest.mark.parametrize(
    "error",
    [
        AmbiguousSubmitError("lost"),
        BudgetError(1, 2, 0),  # type: ignore[arg-type]
        BalanceError(1, 2),  # type: ignore[arg-type]
        DeadlineError("late"),
        InterruptedJobError("a bug"),
        InvalidRequestError([Problem("prompt", "x", "is wrong", "Correct it.")]),
        RefusedError(429, "slow down", http_cause(429), 3.0),
        TooFewImagesError(1, 2, None),
        UnreadableAnswerError("no JSON", "t"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_survives_a_process_pool(error: SeedreamError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.retryable) == (type(error), str(error), error.retryable)
    assert vars(again) == vars(error)
