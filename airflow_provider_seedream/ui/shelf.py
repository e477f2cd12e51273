"""What tasks have bought and saved, as Airflow's metadata database tells; the storage is not asked."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from airflow.utils.state import State, TaskInstanceState
from sqlalchemy import Select, and_, exists, or_, select, tuple_
from sqlalchemy.orm import Session, aliased

from airflow_provider_seedream.apixo.records import SUBMISSION_KEY
from airflow_provider_seedream.storage.index import SAVED_KEY, IndexEntry
from airflow_provider_seedream.ui.addresses import TaskAddress
from airflow_provider_seedream.ui.views import Filters, Picture, Placeholder, Progress, Tile

TILES = 48
"""A page ends with the task that fills it."""

CHUNK = 200
"""Results that are read from the database at once."""

SEARCH_SECONDS = 2.0
"""A search for words in prompts ends a page after so long, and goes on with the next page."""

_GENERATE = "SeedreamGenerateOperator"
_SUBMIT = "SeedreamSubmitOperator"
_STARTED = frozenset(state for state in State.unfinished if state not in (None, TaskInstanceState.SCHEDULED))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose images are looked for.

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
    """The last result that a page has shown; the next page begins after it."""

    at: datetime
    dag_run_id: int
    task_id: str
    map_index: int

    def to_text(self) -> str:
        """For an address."""
        fields = [self.at.isoformat(), self.dag_run_id, self.task_id, self.map_index]
        return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode()

    @classmethod
    def from_text(cls, text: str) -> Cursor:
        """The reverse.

        :raises ValueError: it is no cursor.
        """
        try:
            at, dag_run_id, task_id, map_index = json.loads(base64.urlsafe_b64decode(text.encode()))
            moment = datetime.fromisoformat(at).astimezone(UTC)
            return cls(moment, int(dag_run_id), str(task_id), int(map_index))
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"not a page's address: {error}") from None


@dataclass(frozen=True, slots=True)
class Page:
    """Tiles, the latest first.

    :param older: where the next page begins; ``None`` on the last.
    :param cut_short: whether the search ended because it took too long.
    """

    tiles: Sequence[Tile]
    older: Cursor | None = None
    cut_short: bool = False


def dag_ids(session: Session) -> list[str]:
    """All DAGs with something to show, whoever may read them, in alphabetical order."""
    query = select(XComModel.dag_id).where(XComModel.key.in_((SAVED_KEY, SUBMISSION_KEY))).distinct()
    return sorted(session.scalars(query))


def saved_by(session: Session, task: TaskAddress) -> IndexEntry | None:
    """What one task instance has saved."""
    query = select(XComModel).where(
        XComModel.dag_id == task.dag_id,
        XComModel.run_id == task.run_id,
        XComModel.task_id == task.task_id,
        XComModel.map_index == task.map_index,
        XComModel.key == SAVED_KEY,
    )
    row = session.scalars(query.with_only_columns(XComModel.value)).first()
    return IndexEntry.from_json(row)


def read_page(session: Session, scope: Scope, after: Cursor | None = None) -> Page:
    """One page of what is in scope."""
    tiles: list[Tile] = [] if after else list(_without_record(session, scope))
    cursor, until = after, time.monotonic() + SEARCH_SECONDS
    while rows := _results(session, scope, cursor, CHUNK):
        handed_on = _handed_on(session, rows)
        for row in rows:
            cursor = row.cursor
            tiles += [tile for tile in _tiles(row, scope, handed_on) if _matches(tile, scope.filters)]
            slow = time.monotonic() > until
            if len(tiles) >= TILES or slow:
                older = cursor if _results(session, scope, cursor, 1) else None
                return Page(tiles, older, cut_short=slow and older is not None)
        if len(rows) < CHUNK:
            break
    return Page(tiles)


# --- rows --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Result:
    """An XCom of ours, with the states of its task instance and its DAG run."""

    key: str
    value: Any
    cursor: Cursor
    task: TaskAddress
    operator: str | None
    state: str | None
    run_state: str | None


def _results(session: Session, scope: Scope, after: Cursor | None, limit: int) -> list[_Result]:
    """Results in scope, the latest first."""
    if not scope.dag_ids:
        return []
    position = (XComModel.timestamp, XComModel.dag_run_id, XComModel.task_id, XComModel.map_index)
    query = _in_scope(_query(), scope).order_by(*(column.desc() for column in position)).limit(limit)
    if after:
        last = (after.at, after.dag_run_id, after.task_id, after.map_index)
        query = query.where(tuple_(*position) < tuple_(*last))
    return [_result(row) for row in session.execute(query)]


def _query() -> Select[Any]:
    saved = aliased(XComModel)
    has_saved = exists().where(
        saved.dag_run_id == XComModel.dag_run_id,
        saved.task_id == XComModel.task_id,
        saved.map_index == XComModel.map_index,
        saved.key == SAVED_KEY,
    )
    of_task = and_(
        TaskInstance.dag_id == XComModel.dag_id,
        TaskInstance.run_id == XComModel.run_id,
        TaskInstance.task_id == XComModel.task_id,
        TaskInstance.map_index == XComModel.map_index,
    )
    columns = (
        XComModel.key, XComModel.value, XComModel.timestamp, XComModel.dag_run_id, XComModel.dag_id,
        XComModel.run_id, XComModel.task_id, XComModel.map_index,
        TaskInstance.operator, TaskInstance.state, DagRun.state.label("run_state"),
    )  # fmt: skip
    return (
        select(*columns)
        .select_from(XComModel)
        .join(TaskInstance, of_task)
        .join(DagRun, DagRun.id == XComModel.dag_run_id)
        .where(or_(XComModel.key == SAVED_KEY, and_(XComModel.key == SUBMISSION_KEY, ~has_saved)))
    )


def _in_scope(query: Select[Any], scope: Scope) -> Select[Any]:
    wanted = {"run_id": scope.run_id, "task_id": scope.task_id, "map_index": scope.map_index}
    for name, value in wanted.items():
        if value is not None:
            query = query.where(getattr(XComModel, name) == value)
    chosen = scope.filters.dag_id
    query = query.where(XComModel.dag_id.in_(scope.dag_ids & {chosen} if chosen else scope.dag_ids))
    if scope.filters.since:
        query = query.where(XComModel.timestamp >= _midnight(scope.filters.since))
    if scope.filters.until:
        query = query.where(XComModel.timestamp < _midnight(scope.filters.until) + timedelta(days=1))
    return query


def _midnight(day: Any) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _result(row: Any) -> _Result:
    return _Result(
        key=row.key,
        value=row.value,
        cursor=Cursor(row.timestamp, row.dag_run_id, row.task_id, row.map_index),
        task=TaskAddress(row.dag_id, row.run_id, row.task_id, row.map_index),
        operator=row.operator,
        state=row.state,
        run_state=row.run_state,
    )


# --- tiles -------------------------------------------------------------------------------------------

HandedOn = dict[tuple[str, str, str], _Result]
"""By DAG, run and the API's taskId: where images are saved that another task of the same run has bought."""


def _handed_on(session: Session, rows: Iterable[_Result]) -> HandedOn:
    runs = {row.cursor.dag_run_id for row in rows if row.key == SUBMISSION_KEY}
    if not runs:
        return {}
    query = _query().where(XComModel.dag_run_id.in_(runs), XComModel.key == SAVED_KEY)
    found = {}
    for result in map(_result, session.execute(query)):
        if entry := IndexEntry.from_json(result.value):
            found[result.task.dag_id, result.task.run_id, entry.seedream_task_id] = result
    return found


def _tiles(row: _Result, scope: Scope, handed_on: HandedOn) -> Iterator[Tile]:
    if row.key == SAVED_KEY:
        yield from _pictures(row)
        return
    submission = row.value if isinstance(row.value, dict) else {}
    elsewhere = handed_on.get((row.task.dag_id, row.task.run_id, str(submission.get("seedream_task_id"))))
    if elsewhere is None:
        yield _placeholder(row, submission)
    elif scope.task_id is not None:
        yield from _pictures(elsewhere)


def _pictures(row: _Result) -> Iterator[Picture]:
    entry = IndexEntry.from_json(row.value)
    if entry is None:
        return
    count = len(entry.images)
    for image in entry.images:
        yield Picture(
            task=row.task,
            index=image.index,
            of=count,
            prompt=entry.prompt,
            name=image.name,
            width=image.width,
            height=image.height,
            cost_usd=None if entry.cost_usd is None else entry.cost_usd / count,
            reused=entry.reused,
            at=row.cursor.at,
        )


def _placeholder(row: _Result, submission: dict[str, Any]) -> Placeholder:
    request = submission.get("request")
    images, charged = submission.get("requested"), submission.get("charged_usd")
    return Placeholder(
        task=row.task,
        progress=_progress(row),
        prompt=str(request.get("prompt") or "") if isinstance(request, dict) else "",
        images=images if isinstance(images, int) else None,
        charged_usd=charged if isinstance(charged, int | float) else None,
        at=row.cursor.at,
    )


def _progress(row: _Result) -> Progress:
    """What becomes of a purchase whose images nobody in its run has saved."""
    if row.state in State.unfinished:
        return Progress.GENERATING
    if row.state != TaskInstanceState.SUCCESS:
        return Progress.FAILED
    if row.operator == _SUBMIT and row.run_state not in State.finished_dr_states:
        return Progress.GENERATING
    lost_on_the_way = row.operator == _SUBMIT and row.run_state != TaskInstanceState.SUCCESS
    return Progress.FAILED if lost_on_the_way else Progress.NOT_KEPT


def _without_record(session: Session, scope: Scope) -> Iterator[Placeholder]:
    """Generate tasks of one run that have bought nothing yet, or failed before they could."""
    if scope.run_id is None:
        return
    ours = exists().where(
        XComModel.dag_id == TaskInstance.dag_id,
        XComModel.run_id == TaskInstance.run_id,
        XComModel.task_id == TaskInstance.task_id,
        XComModel.map_index == TaskInstance.map_index,
        XComModel.key.in_((SAVED_KEY, SUBMISSION_KEY)),
    )
    query = select(
        TaskInstance.dag_id, TaskInstance.run_id, TaskInstance.task_id, TaskInstance.map_index,
        TaskInstance.state, TaskInstance.start_date, TaskInstance.queued_dttm,
    ).where(
        TaskInstance.dag_id.in_(scope.dag_ids),
        TaskInstance.run_id == scope.run_id,
        TaskInstance.operator == _GENERATE,
        TaskInstance.state.in_((*_STARTED, TaskInstanceState.FAILED)),
        ~ours,
    )  # fmt: skip
    if scope.task_id is not None:
        query = query.where(TaskInstance.task_id == scope.task_id)
    if scope.map_index is not None:
        query = query.where(TaskInstance.map_index == scope.map_index)
    for row in session.execute(query.order_by(TaskInstance.task_id, TaskInstance.map_index).limit(TILES)):
        yield Placeholder(
            task=TaskAddress(row.dag_id, row.run_id, row.task_id, row.map_index),
            progress=Progress.FAILED if row.state == TaskInstanceState.FAILED else Progress.GENERATING,
            prompt="",
            images=None,
            charged_usd=None,
            at=row.start_date or row.queued_dttm or datetime.now(tz=UTC),
        )


def _matches(tile: Tile, filters: Filters) -> bool:
    return filters.text.casefold() in tile.prompt.casefold()
