"""Which callbacks count: the rules alone, without a database."""

from __future__ import annotations

from dataclasses import replace

import pytest
from airflow.utils.state import State, TaskInstanceState

from airflow_provider_seedream.callback_endpoint.standing import PurchaseState, Reason
from airflow_provider_seedream.callbacks.delivery import Delivery, DeliveryRecord

TRUE = Delivery("task_1", "success")
OTHER = Delivery("task_2", "success")
RECORD = DeliveryRecord(digest="d", seedream_task_id="task_1", state="success", delivered_at=1_800_000_000.0)

WAITING = PurchaseState(seedream_task_id="task_1", task_state=TaskInstanceState.DEFERRED)
UNANSWERED = replace(WAITING, seedream_task_id=None, task_state=TaskInstanceState.RUNNING)
HANDED_ON = replace(WAITING, task_state=TaskInstanceState.SUCCESS)
FAILED = replace(WAITING, task_state=TaskInstanceState.FAILED)
CLEARED = replace(WAITING, cleared=True)
GONE = replace(WAITING, exists=False, task_state=None)
LOST = replace(FAILED, seedream_task_id=None)

GOES_ON = {
    "waiting": WAITING,
    "waiting after its run was over": replace(WAITING, run_is_over=True),
    "unanswered": UNANSWERED,
    "without a state": replace(WAITING, task_state=None),
    "handed on": HANDED_ON,
}
HAS_ENDED = {
    "handed on in a run that is over": replace(HANDED_ON, run_is_over=True),
    "failed": FAILED,
    "cleared": CLEARED,
    "cleared while unanswered": replace(UNANSWERED, cleared=True),
    "gone": GONE,
    "gone while unanswered": replace(GONE, seedream_task_id=None),
}


class TestADeliveryCounts:
    @pytest.mark.parametrize("state", GOES_ON.values(), ids=GOES_ON)
    def test_while_somebody_can_wait_for_it(self, state: PurchaseState) -> None:
        assert state.find_reason_to_refuse() is None
        assert state.find_reason_to_refuse(TRUE) is None

    @pytest.mark.parametrize("state", HAS_ENDED.values(), ids=HAS_ENDED)
    def test_not_after_its_task_has_ended(self, state: PurchaseState) -> None:
        assert state.find_reason_to_refuse() is Reason.ENDED
        assert state.find_reason_to_refuse(TRUE) is Reason.ENDED

    @pytest.mark.parametrize("state", HAS_ENDED.values(), ids=HAS_ENDED)
    def test_for_ever_once_it_is_recorded(self, state: PurchaseState) -> None:
        assert replace(state, record=RECORD).find_reason_to_refuse(TRUE) is None

    @pytest.mark.parametrize("task_state", sorted(State.finished - {TaskInstanceState.SUCCESS}))
    def test_after_an_end_without_knowing_what_was_bought(self, task_state: TaskInstanceState) -> None:
        lost = replace(LOST, task_state=task_state, run_is_over=True)
        assert lost.is_lost
        assert lost.find_reason_to_refuse(OTHER) is None

    def test_not_for_another_purchase(self) -> None:
        assert WAITING.find_reason_to_refuse(OTHER) is Reason.OTHER_TASK
        assert replace(FAILED, record=RECORD).find_reason_to_refuse(OTHER) is Reason.OTHER_TASK

    def test_for_any_task_id_while_the_answer_is_not_recorded(self) -> None:
        assert UNANSWERED.find_reason_to_refuse(OTHER) is None


class TestAPurchaseIsLost:
    @pytest.mark.parametrize(
        "state",
        [WAITING, UNANSWERED, FAILED, replace(LOST, cleared=True), replace(LOST, exists=False)],
        ids=["waiting", "unanswered", "failed with its task id", "cleared", "gone"],
    )
    def test_only_if_its_task_ended_before_it_knew(self, state: PurchaseState) -> None:
        assert not state.is_lost
        assert LOST.is_lost


class TestADeliveryIsNews:
    @pytest.mark.parametrize("state", [*GOES_ON.values(), LOST])
    def test_if_none_is_recorded(self, state: PurchaseState) -> None:
        assert state.is_news(TRUE)

    def test_not_when_it_is_repeated_even_with_another_end(self) -> None:
        assert not replace(WAITING, record=RECORD).is_news(TRUE)
        assert not replace(WAITING, record=RECORD).is_news(Delivery("task_1", "failed"))

    def test_if_the_record_names_another_task(self) -> None:
        forged = replace(RECORD, seedream_task_id="task_of_a_stranger")
        assert replace(UNANSWERED, record=forged).is_news(TRUE)
        assert replace(LOST, record=forged).is_news(TRUE)

    @pytest.mark.parametrize("state", [CLEARED, GONE], ids=["cleared", "gone"])
    def test_not_to_a_task_that_has_nothing_to_do_with_it_any_more(self, state: PurchaseState) -> None:
        assert not replace(state, record=RECORD).is_news(OTHER)
