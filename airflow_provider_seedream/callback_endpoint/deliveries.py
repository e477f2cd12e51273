"""Keeps deliveries in Airflow's database: checks that they count, records them, and resumes who waits."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pendulum
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from airflow.utils.state import State, TaskInstanceState
from sqlalchemy import Select, and_, select, text
from sqlalchemy.orm import Session

from airflow_provider_seedream.advice import describe_free_finish
from airflow_provider_seedream.airflow_compat import (
    import_task_state_model,
    make_task_scope,
    open_state_backend,
)
from airflow_provider_seedream.apixo.status import FAILED
from airflow_provider_seedream.callback_endpoint.resuming import Plan, read_candidate, resume_deferred
from airflow_provider_seedream.callback_endpoint.standing import (
    PurchaseState,
    Reason,
    ReceiveResult,
    RefusedDelivery,
)
from airflow_provider_seedream.callbacks.delivery import (
    DELIVERY_XCOM_KEY,
    Delivery,
    DeliveryRecord,
    make_delivery_key,
    make_waiter_key,
)
from airflow_provider_seedream.callbacks.token import CallbackToken
from airflow_provider_seedream.purchases.journal import Journal, is_cleared
from airflow_provider_seedream.purchases.journal_store import KEY
from airflow_provider_seedream.urls import TaskAddress

log = logging.getLogger(__name__)

DELIVERY_RECORD_LIFETIME = pendulum.duration(days=30)
"""After so long, Airflow's own clean-up may delete a delivery record."""

LOCK_SECONDS = 3
"""Longest wait for a row that somebody else has locked (PostgreSQL)."""

STATEMENT_SECONDS = 2 * LOCK_SECONDS
"""Longest time for one statement, its waiting included (PostgreSQL)."""

# Of this transaction only, and in one statement, since each is a round trip.
_BOUNDS = {
    "postgresql": f"SELECT set_config('lock_timeout', '{LOCK_SECONDS}s', true), "
    f"set_config('statement_timeout', '{STATEMENT_SECONDS}s', true)"
}
# SQLite has no locks of rows: two writers would decide upon the same state.
_BOUNDS_OF_WRITERS = _BOUNDS | {"sqlite": "BEGIN IMMEDIATE"}


def check(token: CallbackToken) -> None:
    """Refuse a token with which no delivery counts; reads only, and waits for nobody.

    :raises RefusedDelivery: none does.
    """
    with _begin(_BOUNDS) as session:
        # A token that is made up costs one query.
        journal = _read_journal(session, token)
        ti = session.scalar(_select_task(token.task))
        _check_counts(_read_state(session, token, journal, ti))


def receive(token: CallbackToken, delivery: Delivery, now: float) -> ReceiveResult:
    """Record a delivery, and resume who waits for it.

    These are two transactions: a task that is about to wait says so first and reads the record then. Here it
    is the other way round, so one of the two finds the other. What is lost in between is made up for by the
    next delivery, by another call of :func:`resume`, or by the trigger's polls.

    :param now: epoch seconds.
    :raises RefusedDelivery: the delivery does not count.
    """
    with _begin(_BOUNDS_OF_WRITERS) as session:
        ti = session.scalar(_lock(_select_task(token.task)))
        state = _read_state(session, token, _read_journal(session, token), ti)
        _check_counts(state, delivery)
        if not delivery.is_final:
            return ReceiveResult()
        if is_news := state.is_news(delivery):
            _add_record(session, token, delivery, now)
    if is_news and state.is_lost:
        _log_how_to_finish(token.task, delivery)
    return replace(resume(token, now), repeated=not is_news)


def resume(token: CallbackToken, now: float) -> ReceiveResult:
    """Resume who has become ready since a delivery was recorded, each task at most once.

    :param now: epoch seconds.
    :raises RefusedDelivery: the token's task has ended without a delivery, or does not know it any more.
    """
    with _begin(_BOUNDS_OF_WRITERS) as session:
        # This row is always locked first, and those who wait in their order: no two calls block each other.
        ti = session.scalar(_lock(_select_task(token.task)))
        state = _read_state(session, token, _read_journal(session, token), ti)
        _check_counts(state)
        if ti is None or state.record is None or state.has_ended:
            return ReceiveResult()
        has_bought = ti.state == TaskInstanceState.SUCCESS
        waiting = session.scalars(_lock(_select_waiting(token))).all() if has_bought else [ti]
        seedream_task_id = state.seedream_task_id or state.record.seedream_task_id
        return _resume_ready(session, token.task, state.record, waiting, seedream_task_id, now)


def _check_counts(state: PurchaseState, delivery: Delivery | None = None) -> None:
    if reason := state.find_reason_to_refuse(delivery):
        raise RefusedDelivery(reason)


def _log_how_to_finish(task: TaskAddress, delivery: Delivery) -> None:
    """Log for the person on call what the task has paid for, which its own log could not say."""
    if delivery.state == FAILED:
        return
    log.warning(
        "A task has ended without knowing what it has bought, and its callback names it: %s; "
        "APIXO task %r is said to be %r. %s",
        task.in_words,
        delivery.seedream_task_id,
        delivery.state,
        describe_free_finish([delivery.seedream_task_id]),
    )


def _resume_ready(
    session: Session,
    task: TaskAddress,
    record: DeliveryRecord,
    waiting: Sequence[TaskInstance],
    seedream_task_id: str,
    now: float,
) -> ReceiveResult:
    """Resume whoever is ready of those who wait, and record that.

    :param task: that has bought, and keeps the delivery record.
    """
    candidates = {read_candidate(ti): ti for ti in waiting}
    plan = Plan.of(candidates, record, seedream_task_id, now)
    for one in plan.ready:
        resume_deferred(session, candidates[one], one.make_event(record.delivered_at))
        record = record.with_resumed(one.task_id, one.map_index)
    if plan.ready:
        _store_record(session, task, record)
    return ReceiveResult(resumed=len(plan.ready), again_at=plan.again_at)


# --- the database ------------------------------------------------------------------------------------


@contextmanager
def _begin(bounds: Mapping[str, str]) -> Iterator[Session]:
    """Begin a transaction that ends with an error where it would have to wait for long.

    :param bounds: its first statement, by the name of the database.
    """
    with create_session(scoped=False) as session:
        if statement := bounds.get(session.get_bind().dialect.name):
            session.execute(text(statement))
        yield session


def _select_task(task: TaskAddress) -> Select[Any]:
    return select(TaskInstance).where(
        TaskInstance.dag_id == task.dag_id,
        TaskInstance.run_id == task.run_id,
        TaskInstance.task_id == task.task_id,
        TaskInstance.map_index == task.map_index,
    )


def _select_waiting(token: CallbackToken) -> Select[Any]:
    """Select the tasks of the same DAG run that have said that they wait for this purchase."""
    Stored = import_task_state_model()  # noqa: N806 - a class
    of_task = and_(
        Stored.dag_id == TaskInstance.dag_id,
        Stored.run_id == TaskInstance.run_id,
        Stored.task_id == TaskInstance.task_id,
        Stored.map_index == TaskInstance.map_index,
    )
    return (
        select(TaskInstance)
        .join(Stored, of_task)
        .where(
            Stored.dag_id == token.task.dag_id,
            Stored.run_id == token.task.run_id,
            Stored.key == make_waiter_key(token.digest),
        )
        .order_by(TaskInstance.task_id, TaskInstance.map_index)
    )


def _lock(query: Select[Any]) -> Select[Any]:
    # Of this table only: its DAG run is joined, and the scheduler needs that row.
    return query.with_for_update(of=TaskInstance)


def _read_journal(session: Session, token: CallbackToken) -> Journal:
    """Read what the task has bought.

    :raises RefusedDelivery: it awaits no callback with this token.
    """
    try:
        journal = Journal.from_json(_read_json(session, token.task, KEY))
    except ValueError:
        raise RefusedDelivery(Reason.TOKEN) from None
    if not journal.expects_callback(token.digest):
        raise RefusedDelivery(Reason.TOKEN)
    return journal


def _read_state(
    session: Session, token: CallbackToken, journal: Journal, ti: TaskInstance | None
) -> PurchaseState:
    """Read how it stands with the task that has bought."""
    purchase = journal.purchase_with_callback(token.digest)
    bought = purchase.seedream_task_id if purchase else None
    record = DeliveryRecord.from_json(_read_json(session, token.task, make_delivery_key(token.digest)))
    if ti is None:
        return PurchaseState(seedream_task_id=bought, record=record, exists=False)
    return PurchaseState(
        seedream_task_id=bought,
        record=record,
        cleared=is_cleared(journal.to_json(), ti.max_tries),
        task_state=ti.state,
        run_is_over=ti.dag_run.state in State.finished_dr_states,
    )


def _add_record(session: Session, token: CallbackToken, delivery: Delivery, now: float) -> None:
    """Record a delivery where its task finds it, and where other tasks do."""
    task = token.task
    record = DeliveryRecord(
        digest=token.digest,
        seedream_task_id=delivery.seedream_task_id,
        state=delivery.state,
        delivered_at=now,
    )
    _store_record(session, task, record)
    XComModel.set(
        DELIVERY_XCOM_KEY,
        record.to_json(),
        dag_id=task.dag_id,
        run_id=task.run_id,
        task_id=task.task_id,
        map_index=task.map_index,
        # Plain JSON is stored as it is, as the values are that workers push.
        serialize=False,
        session=session,
    )


def _store_record(session: Session, task: TaskAddress, record: DeliveryRecord) -> None:
    expires_at = pendulum.from_timestamp(record.delivered_at) + DELIVERY_RECORD_LIFETIME
    value = json.dumps(record.to_json())
    open_state_backend().set(
        make_task_scope(task), make_delivery_key(record.digest), value, expires_at=expires_at, session=session
    )


def _read_json(session: Session, task: TaskAddress, key: str) -> Any:
    """Read a value of a task's state; ``None`` where there is none, or what is there is no JSON."""
    value = open_state_backend().get(make_task_scope(task), key, session=session)
    try:
        return None if value is None else json.loads(value)
    except ValueError:
        return None
