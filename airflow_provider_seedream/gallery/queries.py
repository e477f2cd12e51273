"""Finds what tasks have bought and saved in Airflow's metadata database; the storage is not asked."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pendulum
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.state import TaskInstanceState
from sqlalchemy import ColumnElement, Select, Subquery, and_, case, exists, func, literal, or_, select, tuple_
from sqlalchemy.orm import Session, aliased

from airflow_provider_seedream.apixo.records import SUBMISSION_KEY
from airflow_provider_seedream.gallery.tiles import (
    GENERATE,
    STARTED,
    HandedOn,
    TileRow,
    has_words,
    make_placeholder,
    make_tiles,
)
from airflow_provider_seedream.gallery.view_models import Filters, Placeholder, Tile
from airflow_provider_seedream.storage.index import SAVED_KEY, IndexEntry
from airflow_provider_seedream.times import read_iso
from airflow_provider_seedream.urls import TaskAddress, is_id

TILES = 48
"""A page ends with the task that fills it."""

CHUNK = 200
"""Rows that are read from the database at first, which fill most pages."""

SEARCH_CHUNK = 2_000
"""Rows that are read at once after that: each time, all keys are sorted; these values are in memory."""

SEARCH_SECONDS = 2.0
"""A search for words in prompts ends a page after so long, and goes on with the next page."""

MAX_INTEGER = 2**31 - 1
"""Highest value of the columns that hold a map index and the number of a DAG run."""

_TASK = ("dag_id", "run_id", "task_id", "map_index")
_POSITION: tuple[Any, ...] = (
    XComModel.timestamp,
    XComModel.dag_run_id,
    XComModel.task_id,
    XComModel.map_index,
)
"""Order of rows; no two have the same position."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The tasks whose images are wanted.

    :param dag_ids: DAGs that the reader may read; never empty by mistake: none means no images.
    :param map_index: of ``task_id``; ``None`` stands for all.
    """

    dag_ids: frozenset[str]
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None
    filters: Filters = field(default_factory=Filters)


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row that a page has shown; the next page begins after it."""

    at: datetime
    dag_run_id: int
    task_id: str
    map_index: int

    def to_text(self) -> str:
        """Write it for an address."""
        fields = [self.at.isoformat(), self.dag_run_id, self.task_id, self.map_index]
        return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()

    @classmethod
    def from_text(cls, text: str) -> Cursor:
        """Reverse :meth:`to_text`.

        :raises ValueError: it is no cursor.
        """
        try:
            at, dag_run_id, task_id, map_index = json.loads(base64.urlsafe_b64decode(text.encode()))
            cursor = cls(read_iso(at).astimezone(pendulum.UTC), dag_run_id, task_id, map_index)
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(f"not a page's address: {error}") from None
        if not (is_id(task_id) and _is_number(dag_run_id) and _is_number(map_index)):
            raise ValueError("not a page's address: no such task")
        return cursor


@dataclass(frozen=True, slots=True)
class Page:
    """Tiles, the latest first.

    :param older: where the next page begins; ``None`` on the last.
    :param cut_short: the search ended because it took too long.
    """

    tiles: Sequence[Tile]
    older: Cursor | None = None
    cut_short: bool = False


def list_dag_ids(session: Session) -> list[str]:
    """List all DAGs with something to show, whoever may read them, in alphabetical order."""
    query = select(XComModel.dag_id).where(XComModel.key.in_((SAVED_KEY, SUBMISSION_KEY))).distinct()
    return sorted(session.scalars(query))


def find_saved(session: Session, task: TaskAddress) -> IndexEntry | None:
    """Find what one task instance has saved."""
    if not (all(map(is_id, (task.dag_id, task.run_id, task.task_id))) and _is_number(task.map_index)):
        return None
    query = select(XComModel.value).where(_belongs_to(task), XComModel.key == SAVED_KEY)
    return IndexEntry.from_json(session.scalar(query))


def read_page(session: Session, scope: Scope, after: Cursor | None = None) -> Page:
    """Read one page of what is in scope."""
    if not _may_find(scope):
        return Page([])
    tiles: list[Tile] = [] if after else list(_list_unbought(session, scope))
    cursor, size, until = after, CHUNK, time.monotonic() + SEARCH_SECONDS
    while True:
        rows = _read_rows(session, scope, cursor, size + 1)
        handed_on = _find_handed_on(session, rows)
        for place, row in enumerate(rows[:size], 1):
            cursor = _make_cursor(row)
            found = make_tiles(row, handed_on, of_one_task=scope.task_id is not None)
            tiles += [tile for tile in found if has_words(tile, scope.filters.text)]
            if len(tiles) >= TILES:
                return Page(tiles, cursor if place < len(rows) else None)
        if len(rows) <= size:
            return Page(tiles)
        if time.monotonic() > until:
            return Page(tiles, cursor, cut_short=True)
        size = SEARCH_CHUNK


def _may_find(scope: Scope) -> bool:
    """True if a database can be asked for it."""
    ids = [one for one in (scope.run_id, scope.task_id, scope.filters.dag_id) if one is not None]
    texts = [*scope.dag_ids, *ids, scope.filters.text]
    return bool(scope.dag_ids) and all(map(is_id, texts)) and _is_number(scope.map_index or 0)


def _is_number(number: Any) -> bool:
    return type(number) is int and -MAX_INTEGER <= number <= MAX_INTEGER


def _make_cursor(row: TileRow) -> Cursor:
    return Cursor(row.at, row.dag_run_id, row.task.task_id, row.task.map_index)


# --- queries -----------------------------------------------------------------------------------------


def _read_rows(session: Session, scope: Scope, after: Cursor | None, limit: int) -> list[TileRow]:
    """Read the rows in scope, the latest first."""
    keys = _select_keys(scope, after, limit)
    of_row = and_(*(column == getattr(XComModel, column.name) for column in keys.c))
    latest_first = (keys.c[column.name].desc() for column in _POSITION)
    query = _select_rows().join(keys, of_row).order_by(*latest_first)
    return [_make_row(row) for row in session.execute(query)]


def _select_keys(scope: Scope, after: Cursor | None, limit: int) -> Subquery:
    """Select keys and times only: with all values, sorting a long history would be slow."""
    query = _restrict_to_scope(select(*_POSITION, XComModel.key).where(_is_shown()), scope)
    if after:
        # With its type, since SQLAlchemy derives none from a pendulum time.
        at = literal(after.at, XComModel.timestamp.type)
        last = (at, after.dag_run_id, after.task_id, after.map_index)
        query = query.where(tuple_(*_POSITION) < tuple_(*last))
    return query.order_by(*(column.desc() for column in _POSITION)).limit(limit).subquery("latest")


def _is_shown() -> ColumnElement[bool]:
    """Return the condition for a row: of each task, what it has saved, or has bought if nothing is saved."""
    saved = aliased(XComModel)
    has_saved = exists().where(
        saved.dag_run_id == XComModel.dag_run_id,
        saved.task_id == XComModel.task_id,
        saved.map_index == XComModel.map_index,
        saved.key == SAVED_KEY,
    )
    return or_(XComModel.key == SAVED_KEY, and_(XComModel.key == SUBMISSION_KEY, ~has_saved))


def _select_rows() -> Select[Any]:
    columns = (
        XComModel.key, XComModel.value, XComModel.timestamp, XComModel.dag_run_id, XComModel.dag_id,
        XComModel.run_id, XComModel.task_id, XComModel.map_index,
        TaskInstance.operator, TaskInstance.state, DagRun.state.label("run_state"),
    )  # fmt: skip
    return (
        select(*columns)
        .select_from(XComModel)
        .join(TaskInstance, _belongs_to(TaskInstance))
        .join(DagRun, DagRun.id == XComModel.dag_run_id)
    )


def _restrict_to_scope(query: Select[Any], scope: Scope) -> Select[Any]:
    query = _restrict_tasks(query, scope, XComModel)
    chosen, since, until = scope.filters.dag_id, scope.filters.since, scope.filters.until
    query = query.where(XComModel.dag_id.in_(scope.dag_ids & {chosen} if chosen else scope.dag_ids))
    if since:
        query = query.where(XComModel.timestamp >= _to_midnight(since))
    if until and until < pendulum.Date.max:
        query = query.where(XComModel.timestamp < _to_midnight(until.add(days=1)))
    return query


def _restrict_tasks(query: Any, scope: Scope, model: Any) -> Any:
    wanted = {"run_id": scope.run_id, "task_id": scope.task_id, "map_index": scope.map_index}
    for name, value in wanted.items():
        if value is not None:
            query = query.where(getattr(model, name) == value)
    return query


def _belongs_to(task: Any) -> ColumnElement[bool]:
    """Return the condition for an XCom of a task.

    :param task: an address, or ``TaskInstance`` for that of the same query.
    """
    return and_(*(getattr(XComModel, name) == getattr(task, name) for name in _TASK))


def _to_midnight(day: pendulum.Date) -> pendulum.DateTime:
    return pendulum.datetime(day.year, day.month, day.day)


def _make_row(row: Any) -> TileRow:
    return TileRow(
        key=row.key,
        value=row.value,
        at=row.timestamp,
        dag_run_id=row.dag_run_id,
        task=TaskAddress(row.dag_id, row.run_id, row.task_id, row.map_index),
        operator=row.operator,
        state=row.state,
        run_state=row.run_state,
    )


def _find_handed_on(session: Session, rows: Sequence[TileRow]) -> HandedOn:
    """Find where the purchases among the rows are saved, as far as they are."""
    bought = [
        (row.dag_run_id, row.bought_task_id)
        for row in rows
        if row.bought_task_id and is_id(row.bought_task_id)
    ]
    if not bought:
        return {}
    runs, task_ids = map(set, zip(*bought, strict=True))
    query = _select_rows().where(
        XComModel.dag_run_id.in_(runs),
        XComModel.key == SAVED_KEY,
        _extract_task_id(session.get_bind().dialect.name).in_(task_ids),
    )
    found = map(_make_row, session.execute(query))
    return {(row.dag_run_id, row.entry.seedream_task_id): row for row in found if row.entry}


def _extract_task_id(dialect: str) -> ColumnElement[str]:
    """Extract the API's taskId from an entry; NULL from anything else."""
    task_id: ColumnElement[str] = XComModel.value["seedream_task_id"].as_string()
    if dialect != "sqlite":
        return task_id
    # SQLite keeps JSON as text that it does not check, and fails on text that is no JSON, such as NaN.
    return case((func.json_valid(XComModel.value) == 1, task_id))


def _list_unbought(session: Session, scope: Scope) -> Iterator[Placeholder]:
    """List Generate tasks of one run that have bought nothing yet, or failed before they could."""
    if scope.run_id is None:
        return
    has_record = exists().where(_belongs_to(TaskInstance), XComModel.key.in_((SAVED_KEY, SUBMISSION_KEY)))
    query = select(
        TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index,
        TaskInstance.state, TaskInstance.start_date, TaskInstance.queued_dttm,
    ).where(
        TaskInstance.dag_id.in_(scope.dag_ids),
        TaskInstance.operator == GENERATE,
        TaskInstance.state.in_((*STARTED, TaskInstanceState.FAILED)),
        ~has_record,
    )  # fmt: skip
    query = _restrict_tasks(query, scope, TaskInstance)
    for row in session.execute(query.order_by(TaskInstance.task_id, TaskInstance.map_index).limit(TILES)):
        task = TaskAddress(row.dag_id, row.run_id, row.task_id, row.map_index)
        at = row.start_date or row.queued_dttm or pendulum.now("UTC")
        yield make_placeholder(task, row.state, at)
