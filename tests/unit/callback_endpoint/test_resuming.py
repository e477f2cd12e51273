"""Which task instances a callback resumes, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import pytest
from airflow.utils.state import TaskInstanceState
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from airflow_provider_seedream.callback_endpoint.deliveries import receive
from airflow_provider_seedream.callback_endpoint.resuming import SOON, Candidate, Plan, Wait
from airflow_provider_seedream.callbacks.delivery import (
    DeliveryRecord,
    ResumeEvent,
)
from airflow_provider_seedream.purchases.journal_store import KEY
from tests.unit.callback_endpoint.callback_world import (
    ABOUT_TO_DEFER,
    DEADLINE,
    ENDED,
    ENDED_BY_ITSELF,
    FINISHED,
    NOTHING,
    NOW,
    PARKED,
    State,
    World,
    bought,
    trigger_kwargs,
)

DEFERRED = Candidate("draw", -1, TaskInstanceState.DEFERRED, Wait(frozenset(["task_1"]), NOW, DEADLINE))
RECORD = DeliveryRecord(digest="d", seedream_task_id="task_1", state="success", delivered_at=NOW)


class TestWhatATriggerTells:
    def test_is_read_as_the_trigger_of_this_release_writes_it(self) -> None:
        wait = Wait.from_kwargs(trigger_kwargs("task_1", "task_2", not_before=NOW + 8, deadline=DEADLINE))
        assert wait == Wait(frozenset(["task_1", "task_2"]), NOW + 8, DEADLINE)

    def test_may_lack_a_deadline(self) -> None:
        assert Wait.from_kwargs({"seedream_task_ids": ["task_1"], "not_before": 7}).deadline is None

    @pytest.mark.parametrize(
        "kwargs",
        [
            None,
            {},
            {"seedream_task_ids": ["task_1"]},
            {"not_before": NOW},
            {"seedream_task_ids": 7, "not_before": NOW},
            {"seedream_task_ids": ["task_1"], "not_before": "soon"},
            {"seedream_task_ids": ["task_1"], "not_before": NOW, "deadline": "late"},
        ],
        ids=repr,
    )
    def test_that_this_release_does_not_know_is_an_error(self, kwargs: Any) -> None:
        with pytest.raises((LookupError, TypeError, ValueError, AttributeError)):
            Wait.from_kwargs(kwargs)


class TestACandidate:
    def test_that_is_deferred_is_ready_at_the_end_of_its_dwell(self) -> None:
        assert DEFERRED.find_resume_time("task_1", NOW - 8) == NOW
        assert DEFERRED.find_resume_time("task_1", NOW + 8) == NOW

    def test_that_waits_for_another_purchase_is_never_ready(self) -> None:
        assert DEFERRED.find_resume_time("task_2", NOW) is None

    @pytest.mark.parametrize("state", ABOUT_TO_DEFER)
    def test_that_is_about_to_defer_is_tried_again_soon(self, state: TaskInstanceState) -> None:
        assert replace(DEFERRED, task_state=state, wait=None).find_resume_time("task_1", NOW) == NOW + SOON

    @pytest.mark.parametrize("state", [*PARKED, *ENDED, *ENDED_BY_ITSELF])
    def test_that_is_not_on_our_trigger_is_never_ready(self, state: State) -> None:
        assert replace(DEFERRED, task_state=state, wait=None).find_resume_time("task_1", NOW) is None

    def test_is_told_of_its_wait(self) -> None:
        assert DEFERRED.make_event(NOW + 1) == ResumeEvent(
            delivered_at=NOW + 1, deadline=DEADLINE, seedream_task_ids=("task_1",)
        )
        assert replace(DEFERRED, wait=None).make_event(NOW + 1) == ResumeEvent(delivered_at=NOW + 1)


class TestThePlan:
    def test_resumes_who_is_ready_and_comes_again_for_the_next(self) -> None:
        early, late = (
            Candidate(name, -1, "deferred", Wait(frozenset(["task_1"]), NOW + dwell))
            for name, dwell in (("early", 5), ("late", 9))
        )
        assert Plan.of([DEFERRED, late, early], RECORD, "task_1", NOW) == Plan((DEFERRED,), NOW + 5)
        assert Plan.of([DEFERRED, late, early], RECORD, "task_1", NOW + 5) == Plan((DEFERRED, early), NOW + 9)
        assert Plan.of([late], RECORD, "task_1", NOW + 9) == Plan((late,), None)

    def test_resumes_nobody_twice_but_another_map_index(self) -> None:
        resumed = RECORD.with_resumed("draw", -1)
        mapped = replace(DEFERRED, map_index=3)
        assert Plan.of([DEFERRED, mapped], resumed, "task_1", NOW) == Plan((mapped,), None)

    def test_is_empty_where_nobody_waits(self) -> None:
        assert Plan.of([], RECORD, "task_1", NOW) == Plan((), None)

    @given(
        not_before=st.floats(allow_nan=True),
        now=st.floats(min_value=0, max_value=4e9),
        state=st.sampled_from([None, *TaskInstanceState]),
        seedream_task_id=st.sampled_from(["task_1", "task_2"]),
    )
    def test_never_resumes_but_a_deferred_task_of_this_purchase_after_its_dwell(
        self, not_before: float, now: float, state: State, seedream_task_id: str
    ) -> None:
        record = DeliveryRecord(digest="d", seedream_task_id="task_1", state="success", delivered_at=now)
        wait = Wait(frozenset(["task_1"]), not_before) if state == "deferred" else None
        plan = Plan.of([Candidate("t", -1, state, wait)], record, seedream_task_id, now)
        if plan.ready:
            assert state == "deferred"
            assert seedream_task_id == "task_1"
            assert not_before <= now
        if plan.again_at is not None:
            assert plan.again_at > now


class TestADeferredTask:
    def test_on_a_trigger_of_somebody_else_is_left_alone(self, world: World) -> None:
        token = world.token()
        world.task(
            waits_for=trigger_kwargs(), classpath="other.Trigger", kept={KEY: bought(("task_1", token))}
        )
        assert receive(token, FINISHED, NOW) == NOTHING
        assert world.state() == "deferred"

    @pytest.mark.parametrize(
        "kwargs", [{}, {"seedream_task_ids": ["task_1"], "not_before": "soon"}, {"a": 1}]
    )
    def test_whose_trigger_cannot_be_read_is_left_alone(self, world: World, kwargs: dict[str, Any]) -> None:
        token = world.token()
        world.task(waits_for=kwargs, kept={KEY: bought(("task_1", token))})
        assert receive(token, FINISHED, NOW) == NOTHING
        assert world.state() == "deferred"
        assert world.record(token) is not None

    def test_whose_trigger_was_encrypted_with_a_lost_key_is_left_alone(self, world: World) -> None:
        from airflow.models.trigger import Trigger
        from airflow.utils.session import create_session

        token = world.generating()
        with create_session(scoped=False) as session:
            changed = {Trigger.encrypted_kwargs: "gAAAA"}
            session.execute(update(Trigger).where(Trigger.id == world.read_task().trigger_id).values(changed))
        assert receive(token, FINISHED, NOW) == NOTHING
        assert world.state() == "deferred"

    def test_that_waits_for_another_purchase_is_left_alone(self, world: World) -> None:
        token = world.token()
        world.task(waits_for=trigger_kwargs("task_2"), kept={KEY: bought(("task_1", token))})
        assert receive(token, FINISHED, NOW) == NOTHING
        assert world.state() == "deferred"


class TestATriggersOwnEvent:
    """The sparse polls go on while a callback is awaited."""

    VERDICTS: ClassVar = {"verdicts": [{"task_id": "task_1"}]}

    def fire(self, trigger_id: int) -> None:
        """What the triggerer does with an event."""
        from airflow.models.trigger import Trigger
        from airflow.triggers.base import TriggerEvent

        Trigger.submit_event(trigger_id, TriggerEvent(self.VERDICTS))

    def test_after_the_callback_resumes_nobody(self, world: World) -> None:
        token = world.generating()
        trigger_id = world.read_task().trigger_id
        receive(token, FINISHED, NOW)
        world.change(state="running")
        self.fire(trigger_id)
        assert world.state() == "running"
        assert ResumeEvent.from_event(world.event()) is not None

    def test_before_the_callback_is_the_one_that_counts(self, world: World) -> None:
        token = world.generating()
        self.fire(world.read_task().trigger_id)
        assert receive(token, FINISHED, NOW).resumed == 0
        assert world.event() == self.VERDICTS
