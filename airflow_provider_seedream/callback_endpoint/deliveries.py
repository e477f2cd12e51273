"""What the database knows of a callback: whether it is expected, that it has come, and who waits for it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.session import create_session
from airflow.utils.state import State, TaskInstanceState
from sqlalchemy import Select, and_, select, text
from sqlalchemy.orm import Session

from airflow_provider_seedream.advice import at_no_cost
from airflow_provider_seedream.airflow_compat import (
    import_task_state_model,
    make_task_scope,
    open_state_backend,
)
from airflow_provider_seedream.apixo.status import FAILED
from airflow_provider_seedream.callback_endpoint.resuming import Plan, candidate_of, resume_deferred
from airflow_provider_seedream.callback_endpoint.standing import PurchaseState, Reason, ReceiveResult, Refused
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

DELIVERY_RECORD_LIFETIME = timedelta(days=30)
"""After so long, Airflow's own clean-up may delete a note."""

LOCK_SECONDS = 3
"""So long a row that somebody else has locked is waited for (PostgreSQL)."""

STATEMENT_SECONDS = 2 * LOCK_SECONDS
"""So long one statement may take, its waiting included (PostgreSQL)."""

# Of this transaction only, and in one statement, since each is a round trip.
_BOUNDS = {
    "postgresql": f"SELECT set_config('lock_timeout', '{LOCK_SECONDS}s', true), "
    f"set_config('statement_timeout', '{STATEMENT_SECONDS}s', true)"
}
# SQLite has no locks of rows: two writers would decide upon the same state.
_BOUNDS_OF_WRITERS = _BOUNDS | {"sqlite": "BEGIN IMMEDIATE"}


def check(token: CallbackToken) -> None:
    """Whether a delivery with this token can count; reads only, and waits for nobody.

    :raises Refused: it cannot.
    """
    with _bounded(_BOUNDS) as session:
        # A token that is made up costs one query.
        journal = _journal(session, token)
        ti = session.scalar(_query(token.task))
        _accept(_standing(session, token, journal, ti))


def receive(token: CallbackToken, delivery: Delivery, now: float) -> ReceiveResult:
    """Record a delivery, and resume who waits for it.

    These are two transactions: a task that is about to wait says so first and looks for the note then. Here
    it is the other way round, so one of the two finds the other. What is lost in between is made up for by
    the next delivery, by another call of :func:`resume`, or by the trigger's looks.

    :param now: epoch seconds.
    :raises Refused: it does not count.
    """
    with _bounded(_BOUNDS_OF_WRITERS) as session:
        ti = session.scalar(_locked(_query(token.task)))
        standing = _standing(session, token, _journal(session, token), ti)
        _accept(standing, delivery)
        if not delivery.is_final:
            return ReceiveResult()
        if is_news := standing.is_news(delivery):
            _record(session, token, delivery, now)
    if is_news and standing.is_lost:
        _say_how_to_finish(token.task, delivery)
    return replace(resume(token, now), repeated=not is_news)


def resume(token: CallbackToken, now: float) -> ReceiveResult:
    """Resume who has become ready since a delivery was recorded, each task at most once.

    :param now: epoch seconds.
    :raises Refused: the token's task has ended without a delivery, or does not know it any more.
    """
    with _bounded(_BOUNDS_OF_WRITERS) as session:
        # This row is always locked first, and those who wait in their order: no two calls block each other.
        ti = session.scalar(_locked(_query(token.task)))
        standing = _standing(session, token, _journal(session, token), ti)
        _accept(standing)
        if ti is None or standing.note is None or standing.has_ended:
            return ReceiveResult()
        has_bought = ti.state == TaskInstanceState.SUCCESS
        waiting = session.scalars(_locked(_query_of_waiting(token))).all() if has_bought else [ti]
        seedream_task_id = standing.seedream_task_id or standing.note.seedream_task_id
        return _resume_ready(session, token.task, standing.note, waiting, seedream_task_id, now)


def _accept(standing: PurchaseState, delivery: Delivery | None = None) -> None:
    if reason := standing.refusal(delivery):
        raise Refused(reason)


def _say_how_to_finish(task: TaskAddress, delivery: Delivery) -> None:
    """Tell the person on call what the task has paid for, which its own log could not."""
    if delivery.state == FAILED:
        return
    log.warning(
        "A task has ended without knowing what it has bought, and its callback names it: %s; "
        "APIXO task %r is said to be %r. %s",
        task.in_words,
        delivery.seedream_task_id,
        delivery.state,
        at_no_cost([delivery.seedream_task_id]),
    )


def _resume_ready(
    session: Session,
    task: TaskAddress,
    note: DeliveryRecord,
    waiting: Sequence[TaskInstance],
    seedream_task_id: str,
    now: float,
) -> ReceiveResult:
    """Resume whoever of those who wait is ready, and record that.

    :param task: that has bought, and keeps the note.
    """
    candidates = {candidate_of(ti): ti for ti in waiting}
    plan = Plan.of(candidates, note, seedream_task_id, now)
    for one in plan.ready:
        resume_deferred(session, candidates[one], one.resumption(note.delivered_at))
        note = note.with_resumed(one.task_id, one.map_index)
    if plan.ready:
        _keep(session, task, note)
    return ReceiveResult(resumed=len(plan.ready), again_at=plan.again_at)


# --- the database ------------------------------------------------------------------------------------


@contextmanager
def _bounded(bounds: Mapping[str, str]) -> Iterator[Session]:
    """One transaction, which ends with an error where it would have to wait for long.

    :param bounds: its first statement, by the name of the database.
    """
    with create_session(scoped=False) as session:
        if statement := bounds.get(session.get_bind().dialect.name):
            session.execute(text(statement))
        yield session


def _query(task: TaskAddress) -> Select[Any]:
    return select(TaskInstance).where(
        TaskInstance.dag_id == task.dag_id,
        TaskInstance.run_id == task.run_id,
        TaskInstance.task_id == task.task_id,
        TaskInstance.map_index == task.map_index,
    )


def _query_of_waiting(token: CallbackToken) -> Select[Any]:
    """Tasks of the same DAG run that have said that they wait for this purchase."""
    Entry = import_task_state_model()  # noqa: N806 - a class
    of_task = and_(
        Entry.dag_id == TaskInstance.dag_id,
        Entry.run_id == TaskInstance.run_id,
        Entry.task_id == TaskInstance.task_id,
        Entry.map_index == TaskInstance.map_index,
    )
    return (
        select(TaskInstance)
        .join(Entry, of_task)
        .where(
            Entry.dag_id == token.task.dag_id,
            Entry.run_id == token.task.run_id,
            Entry.key == make_waiter_key(token.digest),
        )
        .order_by(TaskInstance.task_id, TaskInstance.map_index)
    )


def _locked(query: Select[Any]) -> Select[Any]:
    # Of this table only: its DAG run is joined, and the scheduler needs that row.
    return query.with_for_update(of=TaskInstance)


def _journal(session: Session, token: CallbackToken) -> Journal:
    """What the task has bought.

    :raises Refused: it awaits no callback with this token.
    """
    try:
        journal = Journal.from_json(_read(session, token.task, KEY))
    except ValueError:
        raise Refused(Reason.TOKEN) from None
    if not journal.awaits_callback(token.digest):
        raise Refused(Reason.TOKEN)
    return journal


def _standing(
    session: Session, token: CallbackToken, journal: Journal, ti: TaskInstance | None
) -> PurchaseState:
    """How the task stands."""
    purchase = journal.purchase_with_callback(token.digest)
    bought = purchase.seedream_task_id if purchase else None
    note = DeliveryRecord.from_json(_read(session, token.task, make_delivery_key(token.digest)))
    if ti is None:
        return PurchaseState(seedream_task_id=bought, note=note, exists=False)
    return PurchaseState(
        seedream_task_id=bought,
        note=note,
        cleared=is_cleared(journal.to_json(), ti.max_tries),
        state=ti.state,
        run_is_over=ti.dag_run.state in State.finished_dr_states,
    )


def _record(session: Session, token: CallbackToken, delivery: Delivery, now: float) -> None:
    """Leave the note of a delivery where its task finds it, and where other tasks do."""
    task = token.task
    note = DeliveryRecord(
        digest=token.digest,
        seedream_task_id=delivery.seedream_task_id,
        state=delivery.state,
        delivered_at=now,
    )
    _keep(session, task, note)
    XComModel.set(
        DELIVERY_XCOM_KEY,
        note.to_json(),
        dag_id=task.dag_id,
        run_id=task.run_id,
        task_id=task.task_id,
        map_index=task.map_index,
        # Plain JSON is stored as it is, as the values are that workers push.
        serialize=False,
        session=session,
    )


def _keep(session: Session, task: TaskAddress, note: DeliveryRecord) -> None:
    expires_at = datetime.fromtimestamp(note.delivered_at, tz=UTC) + DELIVERY_RECORD_LIFETIME
    value = json.dumps(note.to_json())
    open_state_backend().set(
        make_task_scope(task), make_delivery_key(note.digest), value, expires_at=expires_at, session=session
    )


def _read(session: Session, task: TaskAddress, key: str) -> Any:
    """A value of a task's state; ``None`` where there is none, or what is there is no JSON."""
    value = open_state_backend().get(make_task_scope(task), key, session=session)
    try:
        return None if value is None else json.loads(value)
    except ValueError:
        return None
