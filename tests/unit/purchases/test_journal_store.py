"""The record of purchases comes before the money and outlasts the try, or the log says that it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_seedream.errors import (
    RecordError,
)
from airflow_provider_seedream.purchases.journal_store import KEY
from tests.support.apixo import Apixo
from tests.support.purchases import (
    AnyTask,
    assert_one_purchase,
    bought,
    generate,
    nothing_is_kept_after,
    task_id_of,
    wait_until_finished,
)

pytestmark = pytest.mark.usefixtures("quick")


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
        task = generate(**unprotected, generation_timeout=0.2, prompt="x [[seconds:9000]]")
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
            prompt="x [[seconds:9000]]", deferrable=False, generation_timeout=0.2, on_ambiguous_submit=policy
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
