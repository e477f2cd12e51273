"""One DAG run in Airflow's metadata database, and what callbacks do to it."""

from __future__ import annotations

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from airflow.utils.state import TaskInstanceState
from sqlalchemy import Engine, delete, event, select, update

from airflow_provider_seedream.apixo.records import Submission
from airflow_provider_seedream.callback_endpoint.resuming import TRIGGER
from airflow_provider_seedream.callback_endpoint.standing import Reason, ReceiveResult, RefusedDelivery
from airflow_provider_seedream.callbacks.delivery import (
    DELIVERY_XCOM_KEY,
    Delivery,
    DeliveryRecord,
    ResumeEvent,
    make_delivery_key,
    make_waiter_key,
)
from airflow_provider_seedream.callbacks.token import CallbackToken
from airflow_provider_seedream.purchases.journal import Intent, Journal
from airflow_provider_seedream.purchases.journal_store import KEY
from airflow_provider_seedream.triggers.seedream import SeedreamTaskTrigger
from airflow_provider_seedream.urls import TaskAddress
from tests.support.metadata_rows import MetadataRows

NOW = 1_800_000_000.0

DEADLINE = NOW + 900

FINISHED = Delivery("task_1", "success")

FORGED = Delivery("task_of_a_stranger", "success")

NOTHING = ReceiveResult()

RESUMED = ResumeEvent(delivered_at=NOW, deadline=DEADLINE, seedream_task_ids=("task_1",))

State = TaskInstanceState | None

PARKED = [
    None,
    TaskInstanceState.UP_FOR_RETRY,
    TaskInstanceState.UP_FOR_RESCHEDULE,
    TaskInstanceState.RESTARTING,
    # Known from Airflow 3.3 on.
    *(state for state in TaskInstanceState if state == "awaiting_input"),
]

ABOUT_TO_DEFER = [TaskInstanceState.SCHEDULED, TaskInstanceState.QUEUED, TaskInstanceState.RUNNING]

ENDED = [
    TaskInstanceState.FAILED,
    TaskInstanceState.SKIPPED,
    TaskInstanceState.UPSTREAM_FAILED,
    TaskInstanceState.REMOVED,
]

ENDED_BY_ITSELF = [TaskInstanceState.DEFERRED, TaskInstanceState.SUCCESS]


def trigger_kwargs(
    *task_ids: str, not_before: float = NOW - 60, deadline: float = DEADLINE
) -> dict[str, Any]:
    trigger = SeedreamTaskTrigger(
        seedream_task_ids=task_ids or ["task_1"],
        deadline=deadline,
        first_poll=20.0,
        interval_low=60.0,
        interval_high=60.0,
        not_before=not_before,
    )
    classpath, kwargs = trigger.serialize()
    assert classpath == TRIGGER
    return kwargs


def bought(*purchases: tuple[str, CallbackToken], intent: CallbackToken | None = None) -> dict[str, Any]:
    """A task's journal of purchases."""
    journal = Journal(
        max_tries=0,
        fingerprint="f",
        purchases=tuple(
            Submission(
                seedream_task_id=task_id, price_per_image=Decimal("0.035"), callback_digest=token.digest
            )
            for task_id, token in purchases
        ),
        intent=Intent(fingerprint="f", at=NOW, charge=Decimal("0.035"), callback_digest=intent.digest)
        if intent
        else None,
    )
    return journal.to_json()


class World:
    """One DAG run in the metadata database, as workers, scheduler and users leave it.

    :param run_state: of the DAG run.
    """

    def __init__(self, run_state: str = "running", dag_id: str | None = None, run_id: str = "r1") -> None:
        self.dag_id, self.run_id = dag_id or f"callback-{uuid.uuid4().hex}", run_id
        with self.rows() as (rows, _):
            rows.run(self.dag_id, self.run_id, run_state)

    @contextmanager
    def rows(self) -> Iterator[tuple[MetadataRows, Any]]:
        """To add rows; the second is the DAG run."""
        from airflow.utils.session import create_session

        with create_session(scoped=False) as session:
            rows = MetadataRows(session)
            yield rows, rows.find_run(self.dag_id, self.run_id)

    def address(self, task_id: str = "generate", map_index: int = -1) -> TaskAddress:
        return TaskAddress(self.dag_id, self.run_id, task_id, map_index)

    def token(self, task_id: str = "generate", map_index: int = -1) -> CallbackToken:
        return CallbackToken.for_purchase(self.address(task_id, map_index))

    def task(
        self,
        task_id: str = "generate",
        map_index: int = -1,
        *,
        state: State = None,
        waits_for: Mapping[str, Any] | None = None,
        classpath: str = TRIGGER,
        kept: Mapping[str, Any] | None = None,
    ) -> None:
        """A task instance; a deferred one waits for the trigger with these arguments."""
        with self.rows() as (rows, run):
            rows.task(run, task_id, map_index, state=state)
            if waits_for is not None:
                rows.defer(run, task_id, map_index, classpath=classpath, kwargs=waits_for)
            for key, value in (kept or {}).items():
                rows.keep(run, task_id, map_index, key=key, value=value)

    def generating(self, state: State = None, map_index: int = -1, **waits: Any) -> CallbackToken:
        """A Generate task that has bought ``task_1``, deferred unless it is said otherwise."""
        token = self.token(map_index=map_index)
        deferred = state in (None, TaskInstanceState.DEFERRED)
        waits_for = trigger_kwargs(*waits.pop("task_ids", ()), **waits) if deferred else None
        kept = {KEY: bought(("task_1", token))}
        self.task(map_index=map_index, state=state, waits_for=waits_for, kept=kept)
        return token

    def submitted(self, map_index: int = -1, task_id: str = "task_1") -> CallbackToken:
        """A Submit task that has bought and succeeded."""
        token = self.token("submit", map_index)
        kept = {KEY: bought((task_id, token))}
        self.task("submit", map_index, state=TaskInstanceState.SUCCESS, kept=kept)
        return token

    def sensor(
        self, task_id: str, *tokens: CallbackToken, state: State = None, map_index: int = -1, **waits: Any
    ) -> None:
        """A sensor that waits for purchases, deferred unless it is said otherwise."""
        waits_for = trigger_kwargs(*waits.pop("task_ids", ()), **waits) if state is None else None
        kept = {make_waiter_key(token.digest): True for token in tokens}
        self.task(task_id, map_index, state=state, waits_for=waits_for, kept=kept)

    def change(self, task_id: str = "generate", map_index: int = -1, **columns: Any) -> None:
        """What somebody else does to a task instance."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        with create_session(scoped=False) as session:
            session.execute(
                update(TaskInstance).where(*_of(TaskInstance, self, task_id, map_index)).values(**columns)
            )

    def keep(self, key: str, value: Any, task_id: str = "generate") -> None:
        with self.rows() as (rows, run):
            rows.keep(run, task_id, key=key, value=value)

    def read_task(self, task_id: str = "generate", map_index: int = -1) -> Any:
        """The task instance as it is now, detached."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        with create_session(scoped=False) as session:
            ti = session.scalar(select(TaskInstance).where(*_of(TaskInstance, self, task_id, map_index)))
            session.expunge_all()
            return ti

    def state(self, task_id: str = "generate", map_index: int = -1) -> State:
        return self.read_task(task_id, map_index).state

    def event(self, task_id: str = "generate", map_index: int = -1) -> Any:
        """What the worker is told that takes up the task."""
        from airflow.sdk.serde import deserialize

        kwargs: Any = deserialize(self.read_task(task_id, map_index).next_kwargs)
        return kwargs["event"]

    def record(self, token: CallbackToken) -> DeliveryRecord | None:
        """What the task that has bought finds, if anything."""
        from airflow.state import TaskScope, get_state_backend

        task = token.task
        scope = TaskScope(task.dag_id, task.run_id, task.task_id, task.map_index)
        value = get_state_backend().get(scope, make_delivery_key(token.digest))
        return None if value is None else DeliveryRecord.from_json(json.loads(value))

    def xcom(self, token: CallbackToken) -> Any:
        """What a sensor of another task finds."""
        from airflow.models.xcom import XComModel
        from airflow.utils.session import create_session

        task = token.task
        with create_session(scoped=False) as session:
            query = select(XComModel.value).where(
                *_of(XComModel, self, task.task_id, task.map_index), XComModel.key == DELIVERY_XCOM_KEY
            )
            return session.scalar(query)

    def delete(self) -> None:
        """What *Delete* of the DAG's runs does."""
        from airflow.models.dagrun import DagRun
        from airflow.models.task_state_store import TaskStateStoreModel
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        with create_session(scoped=False) as session:
            # SQLite does not cascade unless it is told to.
            for model in (TaskStateStoreModel, TaskInstance, DagRun):
                session.execute(delete(model).where(model.dag_id == self.dag_id))


def _of(model: Any, world: World, task_id: str, map_index: int) -> Sequence[Any]:
    return (
        model.dag_id == world.dag_id,
        model.run_id == world.run_id,
        model.task_id == task_id,
        model.map_index == map_index,
    )


def reason(call: Callable[..., Any], *arguments: Any) -> Reason:
    with pytest.raises(RefusedDelivery) as caught:
        call(*arguments)
    return caught.value.reason


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """The results of calls that begin together, each in its own thread."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        gate.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


@contextmanager
def statements() -> Iterator[list[str]]:
    """What the database is asked meanwhile."""
    asked: list[str] = []

    def remember(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        asked.append(statement)

    event.listen(Engine, "before_cursor_execute", remember)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", remember)


def tables_of(statement: str) -> set[str]:
    return set(re.findall(r"(?:FROM|JOIN|UPDATE|INTO) (\w+)", statement))
