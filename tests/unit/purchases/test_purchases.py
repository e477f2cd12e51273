"""Whatever tells of a purchase is enough to go on with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_seedream.errors import (
    RecordError,
)
from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator
from tests.support.apixo import Apixo
from tests.support.purchases import (
    assert_one_purchase,
    bought,
    generate,
    wait_until_finished,
)

WITH_AND_WITHOUT_STORE = pytest.mark.parametrize("state_store", [True, False], ids=["3.3", "before 3.3"])


pytestmark = pytest.mark.usefixtures("quick")


class TestWhenTheWorkerIsToldToStop:
    def test_the_log_says_what_goes_on(self, connected: Apixo, capsys: pytest.CaptureFixture[str]) -> None:
        operator, _ = generate(prompt="x [[seconds:900]]").run_until_deferral()
        operator.on_kill()
        assert f"Task {bought(connected)[0]} cannot be cancelled: APIXO goes on" in capsys.readouterr().out

    def test_before_anything_was_bought_there_is_nothing_to_say(self) -> None:
        SeedreamGenerateOperator(task_id="generate", prompt="a fox").on_kill()


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
    def test_an_event_of_another_release_is_polled_again(
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
