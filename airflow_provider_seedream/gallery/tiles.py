"""Makes tiles from rows of Airflow's metadata database, which anybody may have written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow.utils.state import DagRunState, State, TaskInstanceState

from airflow_provider_seedream.apixo.records import SUBMISSION_KEY
from airflow_provider_seedream.gallery.view_models import Placeholder, Progress, Tile, TileImage
from airflow_provider_seedream.storage.index import MOST_IMAGES, MOST_USD, SAVED_KEY, IndexEntry
from airflow_provider_seedream.urls import TaskAddress

GENERATE = "SeedreamGenerateOperator"
"""The operator that buys and saves in one task, as Airflow names it; a subclass has a name of its own."""

STARTED = frozenset(state for state in State.unfinished if state not in (None, TaskInstanceState.SCHEDULED))
"""States of a task that goes on and has been handed to an executor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileRow:
    """An XCom of ours, with the states of its task instance and its DAG run.

    :param key: ``SAVED_KEY`` or ``SUBMISSION_KEY``.
    :param value: any JSON value.
    :param at: when it was pushed, UTC, as the database gives it: a search makes thousands of rows, to which
        times of pendulum's own would add a third of their cost.
    :param operator: class name.
    """

    key: str
    value: Any
    at: datetime
    dag_run_id: int
    task: TaskAddress
    operator: str | None
    state: str | None
    run_state: str | None

    @property
    def bought_task_id(self) -> str | None:
        """The API's taskId, where this is a purchase."""
        if self.key != SUBMISSION_KEY or not isinstance(self.value, dict):
            return None
        task_id = self.value.get("seedream_task_id")
        return task_id if isinstance(task_id, str) else None

    @property
    def entry(self) -> IndexEntry | None:
        """The entry of what was saved, where this is one."""
        return IndexEntry.from_json(self.value) if self.key == SAVED_KEY else None


HandedOn = Mapping[tuple[int, str], TileRow]
"""By DAG run and the API's taskId: where images are saved that another task of the same run has bought."""


def make_tiles(row: TileRow, handed_on: HandedOn, *, of_one_task: bool) -> Iterator[Tile]:
    """Make the tiles of one row.

    :param of_one_task: whether the page is about the row's task alone, so that images which another task has
        saved for it are shown here too.
    """
    if row.key == SAVED_KEY:
        yield from _make_images(row)
        return
    bought = row.bought_task_id
    elsewhere = None if bought is None else handed_on.get((row.dag_run_id, bought))
    if elsewhere is None:
        yield _make_pending(row)
    elif of_one_task:
        yield from _make_images(elsewhere)


def make_placeholder(task: TaskAddress, state: str | None, at: datetime) -> Placeholder:
    """Make the tile of a task that has bought nothing yet, or failed before it could."""
    failed = state == TaskInstanceState.FAILED
    return Placeholder(
        task=task,
        progress=Progress.FAILED if failed else Progress.GENERATING,
        prompt="",
        images=None,
        charged_usd=None,
        at=at,
    )


def has_words(tile: Tile, text: str) -> bool:
    """True if a text is in the tile's prompt, upper and lower case alike."""
    return text.casefold() in tile.prompt.casefold()


def _make_images(row: TileRow) -> Iterator[TileImage]:
    entry = row.entry
    if entry is None:
        return
    count = len(entry.images)
    for image in entry.images:
        yield TileImage(
            task=row.task,
            index=image.index,
            of=count,
            prompt=entry.prompt,
            name=image.name,
            width=image.width,
            height=image.height,
            cost_usd=None if entry.cost_usd is None else entry.cost_usd / count,
            reused=entry.reused,
            at=row.at,
        )


def _make_pending(row: TileRow) -> Placeholder:
    submission = row.value if isinstance(row.value, dict) else {}
    request = submission.get("request")
    prompt = request.get("prompt") if isinstance(request, dict) else None
    images, charged = submission.get("requested"), submission.get("charged_usd")
    return Placeholder(
        task=row.task,
        progress=_decide_progress(row),
        prompt=prompt if isinstance(prompt, str) else "",
        images=images if isinstance(images, int) and _is_sane(images, MOST_IMAGES) else None,
        charged_usd=charged if _is_sane(charged, MOST_USD) else None,
        at=row.at,
    )


def _is_sane(number: Any, most: float) -> bool:
    """True for a number that can be drawn: JSON may hold 400 digits, and Python's also NaN."""
    return isinstance(number, int | float) and not isinstance(number, bool) and 0 <= number <= most


def _decide_progress(row: TileRow) -> Progress:
    """Decide what becomes of a purchase whose images nobody in its run has saved."""
    if row.state in State.unfinished:
        return Progress.GENERATING
    if row.state != TaskInstanceState.SUCCESS:
        return Progress.FAILED
    if row.operator == GENERATE or row.run_state == DagRunState.SUCCESS:
        return Progress.NOT_KEPT
    # A later task of the run is to save them.
    return Progress.FAILED if row.run_state == DagRunState.FAILED else Progress.GENERATING
