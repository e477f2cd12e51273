"""What a callback does in Airflow's metadata database: every order of events, and every state of its task."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from airflow.utils.state import DagRunState, TaskInstanceState
from sqlalchemy import func, select, text
from sqlalchemy.exc import OperationalError

from airflow_provider_seedream.callback_endpoint import deliveries
from airflow_provider_seedream.callback_endpoint.deliveries import check, receive, resume
from airflow_provider_seedream.callback_endpoint.resuming import SOON, TRIGGER
from airflow_provider_seedream.callback_endpoint.standing import Reason, ReceiveResult
from airflow_provider_seedream.callbacks.delivery import (
    Delivery,
    DeliveryRecord,
    ResumeEvent,
    make_delivery_key,
)
from airflow_provider_seedream.callbacks.token import CallbackToken
from airflow_provider_seedream.purchases.journal_store import KEY
from tests.unit.callback_endpoint.callback_world import (
    ABOUT_TO_DEFER,
    ENDED,
    ENDED_BY_ITSELF,
    FINISHED,
    FORGED,
    NOTHING,
    NOW,
    PARKED,
    RESUMED,
    State,
    World,
    _of,
    at_once,
    bought,
    reason,
    statements,
    tables_of,
    trigger_kwargs,
)


class TestADeferredTask:
    def test_is_resumed_and_told_when_the_callback_came_and_how_long_it_may_wait(self, world: World) -> None:
        token = world.generating()
        check(token)
        assert receive(token, FINISHED, NOW) == ReceiveResult(resumed=1)
        ti = world.read_task()
        assert (ti.state, ti.trigger_id, ti.next_method) == ("scheduled", None, "execute_complete")
        resumed = ResumeEvent.from_event(world.event())
        assert resumed == RESUMED

    def test_is_told_which_tasks_its_wait_was_about(self, world: World) -> None:
        token = world.generating(task_ids=("task_2", "task_1"))
        receive(token, FINISHED, NOW)
        resumed = ResumeEvent.from_event(world.event())
        assert resumed is not None
        assert resumed.seedream_task_ids == ("task_1", "task_2")

    def test_is_resumed_when_the_vendor_says_that_it_failed(self, world: World) -> None:
        token = world.generating()
        assert receive(token, Delivery("task_1", "failed"), NOW).resumed == 1

    def test_is_left_alone_by_news_of_progress(self, world: World) -> None:
        token = world.generating()
        assert receive(token, Delivery("task_1", "processing"), NOW) == NOTHING
        assert world.state() == "deferred"
        assert world.record(token) is None

    def test_is_resumed_within_its_dwell_by_nobody_and_right_after_it(self, world: World) -> None:
        token = world.generating(not_before=NOW + 8)
        assert receive(token, FINISHED, NOW) == ReceiveResult(again_at=NOW + 8)
        assert resume(token, NOW + 7.999) == ReceiveResult(again_at=NOW + 8)
        assert world.state() == "deferred"
        assert resume(token, NOW + 8) == ReceiveResult(resumed=1)
        assert ResumeEvent.from_event(world.event()) == RESUMED

    def test_past_its_deadline_is_resumed_all_the_same(self, world: World) -> None:
        token = world.generating(deadline=NOW - 100)
        assert receive(token, FINISHED, NOW).resumed == 1


class TestTheDeliveryRecord:
    def test_lies_where_the_task_and_its_sensors_read_it(self, world: World) -> None:
        token = world.generating(TaskInstanceState.RUNNING)
        receive(token, FINISHED, NOW)
        record = DeliveryRecord(
            digest=token.digest, seedream_task_id="task_1", state="success", delivered_at=NOW
        )
        assert world.record(token) == record
        assert world.xcom(token) == record.to_json()

    def test_is_that_of_the_first_delivery(self, world: World) -> None:
        token = world.generating(TaskInstanceState.RUNNING)
        receive(token, FINISHED, NOW)
        result = receive(token, Delivery("task_1", "failed"), NOW + 30)
        assert result == ReceiveResult(repeated=True, again_at=NOW + 30 + SOON)
        record = world.record(token)
        assert record is not None
        assert (record.delivered_at, record.state) == (NOW, "success")
        assert world.xcom(token)["delivered_at"] == NOW

    def test_keeps_no_secret(self, world: World) -> None:
        token = world.generating()
        receive(token, FINISHED, NOW)
        assert token.nonce not in str(world.xcom(token)) + str(world.record(token)) + str(world.event())

    def test_may_be_cleaned_up_after_a_month(self, world: World) -> None:
        from airflow.models.task_state_store import TaskStateStoreModel
        from airflow.utils.session import create_session

        token = world.generating()
        receive(token, FINISHED, NOW)
        with create_session(scoped=False) as session:
            query = select(TaskStateStoreModel.expires_at).where(
                TaskStateStoreModel.key == make_delivery_key(token.digest)
            )
            assert session.scalar(query).timestamp() == NOW + 30 * 24 * 3600

    def test_is_not_written_when_the_task_cannot_be_told(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from airflow.models.xcom import XComModel

        def broken(*_: Any, **__: Any) -> None:
            raise ConnectionError("the database is gone")

        token = world.generating()
        monkeypatch.setattr(XComModel, "set", broken)
        with pytest.raises(ConnectionError):
            receive(token, FINISHED, NOW)
        assert world.record(token) is None
        assert world.state() == "deferred"

    def test_stays_when_only_resuming_fails_so_the_next_delivery_resumes(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: Any, **__: Any) -> None:
            raise ConnectionError("the database is gone")

        token = world.generating()
        with monkeypatch.context() as patch:
            patch.setattr("airflow_provider_seedream.callback_endpoint.resuming.handle_event_submit", broken)
            with pytest.raises(ConnectionError):
                receive(token, FINISHED, NOW)
        assert world.record(token) is not None
        assert world.state() == "deferred"
        assert receive(token, FINISHED, NOW + 30) == ReceiveResult(resumed=1, repeated=True)
        assert ResumeEvent.from_event(world.event()) == RESUMED


class TestATaskThatIsNotDeferred:
    @pytest.mark.parametrize("state", ABOUT_TO_DEFER)
    def test_is_tried_again_soon_if_it_is_about_to_defer(
        self, world: World, state: TaskInstanceState
    ) -> None:
        token = world.generating(state)
        assert receive(token, FINISHED, NOW) == ReceiveResult(again_at=NOW + SOON)
        assert world.state() == state
        assert world.record(token) is not None

    @pytest.mark.parametrize("state", PARKED)
    def test_finds_the_delivery_record_by_itself_in_its_next_try(self, world: World, state: State) -> None:
        token = world.token()
        world.task(state=state, kept={KEY: bought(("task_1", token))})
        assert receive(token, FINISHED, NOW) == NOTHING
        assert world.state() == state
        assert world.record(token) is not None

    @pytest.mark.parametrize("state", ENDED)
    def test_awaits_no_callback_any_more_when_it_has_ended(
        self, world: World, state: TaskInstanceState
    ) -> None:
        token = world.generating(state)
        assert reason(check, token) == Reason.ENDED
        assert reason(receive, token, FINISHED, NOW) == Reason.ENDED
        assert reason(resume, token, NOW) == Reason.ENDED
        assert world.record(token) is None

    @pytest.mark.parametrize("state", ENDED)
    def test_that_has_ended_accepts_the_repeats_of_what_it_was_told(
        self, world: World, state: TaskInstanceState
    ) -> None:
        token = world.generating(TaskInstanceState.RUNNING)
        receive(token, FINISHED, NOW)
        world.change(state=state)
        check(token)
        assert receive(token, FINISHED, NOW + 30) == ReceiveResult(repeated=True)
        assert resume(token, NOW + 30) == NOTHING
        assert world.state() == state

    def test_has_a_promise_here_for_each_state_that_airflow_knows(self) -> None:
        known = {*PARKED, *ABOUT_TO_DEFER, *ENDED, *ENDED_BY_ITSELF}
        assert known == {None, *TaskInstanceState}

    def test_that_has_succeeded_is_recorded_while_its_run_goes_on(self, world: World) -> None:
        token = world.submitted()
        assert receive(token, FINISHED, NOW) == NOTHING
        assert world.record(token) is not None

    @pytest.mark.parametrize("state", [DagRunState.SUCCESS, DagRunState.FAILED])
    def test_that_has_succeeded_awaits_no_callback_after_its_run(
        self, airflow_database: None, state: DagRunState
    ) -> None:
        over = World(state)
        assert reason(check, over.submitted()) == Reason.ENDED

    def test_of_a_run_that_was_queued_again_awaits_its_callback(self, airflow_database: None) -> None:
        check(World(DagRunState.QUEUED).submitted())

    def test_that_was_marked_failed_while_it_waited_stays_failed(self, world: World) -> None:
        token = world.generating(not_before=NOW + 8)
        receive(token, FINISHED, NOW)
        world.change(state="failed", trigger_id=None)
        assert resume(token, NOW + 10) == NOTHING
        assert world.state() == "failed"

    def test_that_was_cleared_has_nothing_to_do_with_what_it_bought_before(self, world: World) -> None:
        token = world.generating()
        world.change(max_tries=3)
        assert reason(check, token) == Reason.ENDED
        assert reason(receive, token, FINISHED, NOW) == Reason.ENDED
        assert world.state() == "deferred"

    def test_that_was_cleared_after_the_delivery_is_not_resumed_by_it(self, world: World) -> None:
        token = world.generating(not_before=NOW + 8)
        receive(token, FINISHED, NOW)
        world.change(max_tries=3)
        assert receive(token, FINISHED, NOW + 30) == ReceiveResult(repeated=True)
        assert world.state() == "deferred"

    def test_whose_dag_was_deleted_is_unknown(self, world: World) -> None:
        token = world.generating()
        world.delete()
        assert reason(check, token) == Reason.TOKEN
        assert reason(receive, token, FINISHED, NOW) == Reason.TOKEN

    def test_that_alone_is_gone_has_ended(self, world: World) -> None:
        token = world.token()
        world.keep(KEY, bought(("task_1", token)))
        assert reason(check, token) == Reason.ENDED


class TestATaskIsResumedOnce:
    def test_when_the_delivery_is_repeated(self, world: World) -> None:
        token = world.generating()
        receive(token, FINISHED, NOW)
        assert receive(token, FINISHED, NOW + 30) == ReceiveResult(repeated=True)
        assert resume(token, NOW + 31) == NOTHING

    def test_when_it_has_deferred_again_because_it_had_not_ended(self, world: World) -> None:
        token = world.generating()
        receive(token, FINISHED, NOW)
        with world.rows() as (rows, run):
            rows.defer(run, "generate", classpath=TRIGGER, kwargs=trigger_kwargs(not_before=NOW + 50))
        assert receive(token, FINISHED, NOW + 60) == ReceiveResult(repeated=True)
        assert world.state() == "deferred"

    def test_when_it_is_retried(self, world: World) -> None:
        token = world.generating()
        receive(token, FINISHED, NOW)
        world.change(state="running", try_number=2)
        assert receive(token, FINISHED, NOW + 30) == ReceiveResult(repeated=True)

    def test_when_the_same_delivery_comes_many_times_at_once(self, world: World) -> None:
        for map_index in range(10):
            token = world.generating(map_index=map_index)
            results = at_once([lambda token=token: receive(token, FINISHED, NOW)] * 4)
            assert sorted(result.resumed for result in results) == [0, 0, 0, 1]
            assert sorted(result.repeated for result in results) == [False, True, True, True]
            record = world.record(token)
            assert record is not None
            assert record.resumed == (("generate", map_index),)


class TestAToken:
    def test_with_another_nonce_is_refused(self, world: World) -> None:
        world.generating()
        assert reason(check, world.token()) == Reason.TOKEN

    @pytest.mark.parametrize(
        "other",
        [{"dag_id": "another"}, {"run_id": "r2"}, {"task_id": "another"}, {"map_index": 0}],
    )
    def test_of_one_task_is_worth_nothing_for_another(self, world: World, other: dict[str, Any]) -> None:
        token = world.generating()
        neighbour = replace(token.task, **other)
        forged = CallbackToken(neighbour, token.nonce)
        for address in ("another", 0), ("generate", 0), ("another", -1):
            world.task(*address, waits_for=trigger_kwargs(), kept={KEY: bought(("task_1", world.token()))})
        assert reason(check, forged) == Reason.TOKEN
        assert reason(receive, forged, FINISHED, NOW) == Reason.TOKEN
        assert reason(resume, forged, NOW) == Reason.TOKEN
        assert world.state() == "deferred"

    def test_of_one_run_does_not_reach_the_same_task_of_another(self, world: World) -> None:
        token = world.generating()
        other = World(dag_id=world.dag_id, run_id="r2")
        other.generating()
        receive(token, FINISHED, NOW)
        assert (world.state(), other.state()) == ("scheduled", "deferred")

    def test_that_is_made_up_costs_one_query(self, world: World) -> None:
        token = world.generating()
        with statements() as of_a_stranger:
            assert reason(check, world.token()) == Reason.TOKEN
        with statements() as of_apixo:
            check(token)
        # The limits of a transaction ask no table.
        assert [tables for one in of_a_stranger if (tables := tables_of(one))] == [{"task_state_store"}]
        assert {"task_state_store", "task_instance"} <= set().union(*map(tables_of, of_apixo))

    @pytest.mark.parametrize("record", [{}, [], 1, "x", {"schema": 2}, {"schema": 1, "purchases": [None]}])
    def test_of_a_task_whose_journal_cannot_be_read_is_refused(self, world: World, record: Any) -> None:
        token = world.generating()
        world.keep(KEY, record)
        assert reason(check, token) == Reason.TOKEN

    def test_of_a_task_without_a_journal_is_refused(self, world: World) -> None:
        world.task(waits_for=trigger_kwargs())
        assert reason(check, world.token()) == Reason.TOKEN

    def test_does_not_reach_another_purchase(self, world: World) -> None:
        token = world.generating()
        assert reason(receive, token, Delivery("task_2", "success"), NOW) == Reason.OTHER_TASK
        assert world.record(token) is None
        assert world.state() == "deferred"

    def test_that_nothing_was_delivered_for_resumes_nobody(self, world: World) -> None:
        assert resume(world.generating(), NOW) == NOTHING
        assert world.state() == "deferred"

    def test_checked_alone_changes_nothing(self, world: World) -> None:
        token = world.generating()
        check(token)
        assert world.state() == "deferred"
        assert world.record(token) is None


class TestATopUp:
    def test_is_delivered_with_its_own_token(self, world: World) -> None:
        first, second = world.token(), world.token()
        kept = {KEY: bought(("task_1", first), ("task_2", second))}
        world.task(waits_for=trigger_kwargs("task_2"), kept=kept)
        assert reason(receive, second, FINISHED, NOW) == Reason.OTHER_TASK
        assert receive(first, FINISHED, NOW) == NOTHING
        assert receive(second, Delivery("task_2", "success"), NOW + 1) == ReceiveResult(resumed=1)
        assert ResumeEvent.from_event(world.event()) == replace(
            RESUMED, delivered_at=NOW + 1, seedream_task_ids=("task_2",)
        )

    def test_resumes_the_task_that_its_first_purchase_has_resumed(self, world: World) -> None:
        first, second = world.token(), world.token()
        kept = {KEY: bought(("task_1", first), ("task_2", second))}
        world.task(waits_for=trigger_kwargs("task_1"), kept=kept)
        assert receive(first, FINISHED, NOW).resumed == 1
        with world.rows() as (rows, run):
            rows.defer(run, "generate", classpath=TRIGGER, kwargs=trigger_kwargs("task_2"))
        assert receive(second, Delivery("task_2", "success"), NOW + 30).resumed == 1

    def test_leaves_the_newest_delivery_record_to_other_tasks(self, world: World) -> None:
        first, second = world.token(), world.token()
        world.task(state=TaskInstanceState.RUNNING, kept={KEY: bought(("task_1", first), ("task_2", second))})
        receive(first, FINISHED, NOW)
        receive(second, Delivery("task_2", "success"), NOW + 1)
        assert world.xcom(second)["seedream_task_id"] == "task_2"


class TestASubmissionWithoutAnAnswer:
    """A worker between the POST and its record, or killed there."""

    def test_is_recorded_with_the_task_id_that_the_callback_names(self, world: World) -> None:
        token = world.token()
        world.task(state=TaskInstanceState.RUNNING, kept={KEY: bought(intent=token)})
        check(token)
        assert receive(token, Delivery("task_9", "success"), NOW) == ReceiveResult(again_at=NOW + SOON)
        record = world.record(token)
        assert record is not None
        assert record.seedream_task_id == "task_9"

    def test_is_resumed_when_it_was_recorded_and_has_deferred_meanwhile(self, world: World) -> None:
        token = world.token()
        world.task(state=TaskInstanceState.RUNNING, kept={KEY: bought(intent=token)})
        receive(token, FINISHED, NOW)
        world.keep(KEY, bought(("task_1", token)))
        with world.rows() as (rows, run):
            rows.defer(run, "generate", classpath=TRIGGER, kwargs=trigger_kwargs())
        assert resume(token, NOW + 2) == ReceiveResult(resumed=1)

    def test_is_resumed_although_the_answer_could_not_be_recorded(self, world: World) -> None:
        token = world.token()
        world.task(waits_for=trigger_kwargs("task_9"), kept={KEY: bought(intent=token)})
        assert receive(token, Delivery("task_9", "success"), NOW) == ReceiveResult(resumed=1)

    def test_that_was_forged_about_still_hears_the_truth(self, world: World) -> None:
        token = world.token()
        world.task(state=TaskInstanceState.RUNNING, kept={KEY: bought(intent=token)})
        receive(token, FORGED, NOW)
        result = receive(token, FINISHED, NOW + 2)
        assert result == ReceiveResult(again_at=NOW + 2 + SOON)
        record = DeliveryRecord(
            digest=token.digest, seedream_task_id="task_1", state="success", delivered_at=NOW + 2
        )
        assert world.record(token) == record
        assert world.xcom(token) == record.to_json()

    def test_that_was_forged_about_hears_the_truth_after_it_was_recorded(self, world: World) -> None:
        token = world.token()
        world.task(state=TaskInstanceState.RUNNING, kept={KEY: bought(intent=token)})
        receive(token, FORGED, NOW)
        world.keep(KEY, bought(("task_1", token)))
        with world.rows() as (rows, run):
            rows.defer(run, "generate", classpath=TRIGGER, kwargs=trigger_kwargs())
        assert reason(receive, token, FORGED, NOW) == Reason.OTHER_TASK
        assert receive(token, FINISHED, NOW + 2) == ReceiveResult(resumed=1)
        assert receive(token, FINISHED, NOW + 3) == ReceiveResult(repeated=True)
        record = world.record(token)
        assert record is not None
        assert record.seedream_task_id == "task_1"

    def test_is_resumed_again_by_the_truth_after_a_forgery_has_resumed_it(self, world: World) -> None:
        token = world.token()
        ids = (FORGED.seedream_task_id, "task_1")
        world.task(waits_for=trigger_kwargs(*ids), kept={KEY: bought(intent=token)})
        assert receive(token, FORGED, NOW).resumed == 1
        with world.rows() as (rows, run):
            rows.defer(run, "generate", classpath=TRIGGER, kwargs=trigger_kwargs(*ids))
        assert receive(token, FINISHED, NOW + 2) == ReceiveResult(resumed=1)

    def test_hears_the_same_delivery_once(self, world: World) -> None:
        token = world.token()
        world.task(state=TaskInstanceState.RUNNING, kept={KEY: bought(intent=token)})
        receive(token, FINISHED, NOW)
        assert receive(token, FINISHED, NOW + 30).repeated
        record = world.record(token)
        assert record is not None
        assert record.delivered_at == NOW


class TestATaskThatEndedBeforeItKnewWhatItBought:
    """The usual end of a lost answer, since Airflow's default is not to retry."""

    @pytest.fixture
    def lines(self, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
        caplog.set_level(logging.INFO, logger="airflow_provider_seedream.callback_endpoint.deliveries")
        return lambda: [record.getMessage() for record in caplog.records]

    def lost(self, world: World, state: State = TaskInstanceState.FAILED) -> CallbackToken:
        token = world.token()
        world.task(state=state, kept={KEY: bought(intent=token)})
        return token

    @pytest.mark.parametrize("state", ENDED)
    def test_is_recorded_and_resumes_nobody(self, world: World, state: TaskInstanceState) -> None:
        token = self.lost(world, state)
        check(token)
        assert resume(token, NOW) == NOTHING
        assert receive(token, FINISHED, NOW) == NOTHING
        assert world.state() == state
        record = world.record(token)
        assert record is not None
        assert record.seedream_task_id == "task_1"

    def test_is_recorded_after_its_run_too(self, airflow_database: None) -> None:
        token = self.lost(World(DagRunState.FAILED))
        assert receive(token, FINISHED, NOW) == NOTHING

    def test_and_what_it_paid_for_is_said_once_with_what_finishes_the_job(
        self, world: World, lines: Callable[[], list[str]]
    ) -> None:
        token = self.lost(world)
        receive(token, FINISHED, NOW)
        receive(token, FINISHED, NOW + 30)
        (line,) = lines()
        assert f"dag '{world.dag_id}', run 'r1', task 'generate', map index -1; APIXO task 'task_1'" in line
        tools = "SeedreamTaskSensor and SeedreamDownloadOperator with seedream_task_id='task_1'"
        assert line.endswith(f"{tools} finish the job at no cost.")
        assert token.nonce not in line

    @pytest.mark.parametrize("state", [*PARKED, *ABOUT_TO_DEFER])
    def test_is_not_said_of_one_that_goes_on(
        self, world: World, state: State, lines: Callable[[], list[str]]
    ) -> None:
        receive(self.lost(world, state), FINISHED, NOW)
        assert lines() == []

    def test_is_named_again_by_a_delivery_that_names_another_task(
        self, world: World, lines: Callable[[], list[str]]
    ) -> None:
        token = self.lost(world)
        receive(token, FORGED, NOW)
        receive(token, FINISHED, NOW + 2)
        assert ["task_1" in line for line in lines()] == [False, True]

    def test_is_not_sent_after_a_job_that_failed(self, world: World, lines: Callable[[], list[str]]) -> None:
        token = self.lost(world)
        assert receive(token, Delivery("task_1", "failed"), NOW) == NOTHING
        assert world.record(token) is not None
        assert lines() == []

    def test_is_nobodys_concern_after_it_was_cleared(
        self, world: World, lines: Callable[[], list[str]]
    ) -> None:
        token = self.lost(world)
        world.change(max_tries=3)
        assert reason(check, token) == Reason.ENDED
        assert reason(receive, token, FINISHED, NOW) == Reason.ENDED
        assert world.record(token) is None
        assert lines() == []

    def test_keeps_the_delivery_record_that_it_had_when_it_was_cleared(self, world: World) -> None:
        token = self.lost(world)
        receive(token, FINISHED, NOW)
        world.change(max_tries=3)
        assert receive(token, FORGED, NOW + 2) == ReceiveResult(repeated=True)
        record = world.record(token)
        assert record is not None
        assert record.seedream_task_id == "task_1"

    def test_is_unknown_when_its_rows_are_gone(self, world: World) -> None:
        token = world.token()
        world.keep(KEY, bought(intent=token))
        assert reason(receive, token, FINISHED, NOW) == Reason.ENDED


class TestMappedTasks:
    def test_only_the_one_that_has_bought_is_resumed(self, world: World) -> None:
        tokens = [world.generating(map_index=index) for index in range(3)]
        assert receive(tokens[1], FINISHED, NOW).resumed == 1
        assert [world.state(map_index=index) for index in range(3)] == ["deferred", "scheduled", "deferred"]
        assert [world.record(token) is not None for token in tokens] == [False, True, False]
        assert [world.xcom(token) is not None for token in tokens] == [False, True, False]

    def test_a_sensor_is_found_whatever_its_map_index(self, world: World) -> None:
        token = world.submitted(map_index=2)
        world.sensor("wait", token, map_index=7)
        world.sensor("wait", map_index=2)
        assert receive(token, FINISHED, NOW).resumed == 1
        assert (world.state("wait", 7), world.state("wait", 2)) == ("scheduled", "deferred")


class TestSensors:
    def test_one_that_waits_for_the_purchase_of_another_task_is_resumed(self, world: World) -> None:
        token = world.submitted()
        world.sensor("wait", token)
        assert receive(token, FINISHED, NOW) == ReceiveResult(resumed=1)
        assert ResumeEvent.from_event(world.event("wait")) == RESUMED
        assert world.state("submit") == "success"

    def test_one_is_ready_and_one_dwells(self, world: World) -> None:
        token = world.submitted()
        world.sensor("ready", token)
        world.sensor("dwelling", token, not_before=NOW + 9)
        assert receive(token, FINISHED, NOW) == ReceiveResult(resumed=1, again_at=NOW + 9)
        assert (world.state("ready"), world.state("dwelling")) == ("scheduled", "deferred")
        assert resume(token, NOW + 9) == ReceiveResult(resumed=1)
        assert world.state("dwelling") == "scheduled"
        assert resume(token, NOW + 10) == NOTHING

    @pytest.mark.parametrize("state", ABOUT_TO_DEFER)
    def test_one_that_is_about_to_defer_is_tried_again_soon(
        self, world: World, state: TaskInstanceState
    ) -> None:
        token = world.submitted()
        world.sensor("wait", token, state=state)
        assert receive(token, FINISHED, NOW) == ReceiveResult(again_at=NOW + SOON)
        assert world.state("wait") == state

    @pytest.mark.parametrize("state", [*ENDED, TaskInstanceState.SUCCESS, TaskInstanceState.UP_FOR_RETRY])
    def test_one_that_does_not_wait_any_more_is_left_alone(
        self, world: World, state: TaskInstanceState
    ) -> None:
        token = world.submitted()
        world.sensor("wait", token, state=state)
        assert receive(token, FINISHED, NOW) == NOTHING
        assert world.state("wait") == state

    def test_one_that_has_not_said_that_it_waits_is_left_alone(self, world: World) -> None:
        token = world.submitted()
        world.sensor("wait", world.token())
        assert receive(token, FINISHED, NOW) == NOTHING
        assert world.state("wait") == "deferred"

    def test_one_of_another_run_is_left_alone(self, world: World) -> None:
        token = world.submitted()
        other = World(dag_id=world.dag_id, run_id="r2")
        other.sensor("wait", token)
        assert receive(token, FINISHED, NOW) == NOTHING
        assert other.state("wait") == "deferred"

    def test_one_that_waits_for_many_is_resumed_by_each_of_them_once(self, world: World) -> None:
        first, second = world.submitted(0, "task_1"), world.submitted(1, "task_2")
        world.sensor("wait", first, second, task_ids=("task_1", "task_2"))
        assert receive(first, FINISHED, NOW).resumed == 1
        with world.rows() as (rows, run):
            rows.defer(run, "wait", classpath=TRIGGER, kwargs=trigger_kwargs("task_1", "task_2"))
        assert receive(first, FINISHED, NOW).resumed == 0
        assert receive(second, Delivery("task_2", "success"), NOW).resumed == 1

    def test_the_same_ones_are_resumed_by_many_callbacks_at_once_without_blocking_each_other(
        self, world: World
    ) -> None:
        ids = tuple(f"task_{index}" for index in range(6))
        tokens = [world.submitted(index, task_id) for index, task_id in enumerate(ids)]
        for name in ("z", "a", "m"):
            world.sensor(name, *tokens, task_ids=ids)
        calls = [
            lambda token=token, task_id=task_id: receive(token, Delivery(task_id, "success"), NOW)
            for token, task_id in zip(tokens, ids, strict=True)
        ]
        assert sum(result.resumed for result in at_once(calls)) == 3
        assert {world.state(name) for name in "zam"} == {"scheduled"}


class TestABusyDatabase:
    @pytest.mark.long
    def test_ends_with_an_error_instead_of_keeping_the_vendor_waiting(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        token = world.generating()
        with create_session(scoped=False) as session:
            dialect = session.get_bind().dialect.name
            if dialect == "sqlite":
                session.execute(text("BEGIN IMMEDIATE"))
            session.execute(
                select(TaskInstance)
                .where(*_of(TaskInstance, world, "generate", -1))
                .with_for_update(of=TaskInstance)
            )
            check(token)
            with pytest.raises(OperationalError):
                receive(token, FINISHED, NOW)
        if dialect == "postgresql":
            self.hangs(monkeypatch, token)
        assert world.state() == "deferred"
        assert receive(token, FINISHED, NOW + 30) == ReceiveResult(resumed=1)

    def hangs(self, monkeypatch: pytest.MonkeyPatch, token: CallbackToken) -> None:
        """A statement that waits for no lock has its limit, too."""
        with monkeypatch.context() as patch:
            patch.setattr(deliveries, "_select_task", lambda _: select(func.pg_sleep(60)))
            patch.setattr(deliveries, "_lock", lambda query: query)
            for call in check, partial(resume, now=NOW), partial(receive, delivery=FINISHED, now=NOW):
                with pytest.raises(OperationalError, match="statement timeout"):
                    call(token)
