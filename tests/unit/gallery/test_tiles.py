"""What a row of Airflow's metadata database gives to see, without a database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pendulum
import pytest
from airflow.utils.state import State, TaskInstanceState

from airflow_provider_seedream.apixo.records import SUBMISSION_KEY
from airflow_provider_seedream.gallery.tiles import (
    GENERATE,
    STARTED,
    TileRow,
    has_words,
    make_placeholder,
    make_tiles,
)
from airflow_provider_seedream.gallery.view_models import Placeholder, Progress, Tile, TileImage
from airflow_provider_seedream.storage.index import SAVED_KEY
from airflow_provider_seedream.urls import TaskAddress
from tests.support.metadata_rows import saved_entry, submission

AT = pendulum.datetime(2026, 3, 1, 12)
TASK = TaskAddress("art", "r1", "draw")
SAVED = TileRow(
    key=SAVED_KEY, value=saved_entry(images=2), at=AT, dag_run_id=7, task=TASK, operator=GENERATE,
    state="success", run_state="success",
)  # fmt: skip
BOUGHT = replace(SAVED, key=SUBMISSION_KEY, value=submission(images=2), state="running", run_state="running")
ELSEWHERE = replace(SAVED, task=replace(TASK, task_id="download"))


def tiles(row: TileRow, saved: TileRow | None = None, of_one_task: bool = False) -> Sequence[Tile]:
    """The tiles of a row beside another of the same run that has saved what it bought."""
    handed_on = {(7, "task_1"): saved} if saved else {}
    return list(make_tiles(row, handed_on, of_one_task=of_one_task))


class TestWhatWasSaved:
    def test_is_a_tile_for_each_image_with_its_share_of_the_cost(self) -> None:
        first, second = tiles(SAVED)
        assert isinstance(first, TileImage)
        assert (first.task, first.index, first.of, first.at) == (TASK, 1, 2, AT)
        assert (first.prompt, first.cost_usd) == ("a fox", 0.035)
        assert second == replace(first, index=2, name="task_1-2.png")

    def test_has_no_cost_that_is_not_known(self) -> None:
        (tile,) = tiles(replace(SAVED, value=saved_entry(images=1) | {"cost_usd": None}))
        assert isinstance(tile, TileImage)
        assert tile.cost_usd is None

    @pytest.mark.parametrize("value", [None, "text", 7, [], {}])
    def test_is_nothing_where_it_is_no_entry_of_ours(self, value: Any) -> None:
        assert tiles(replace(SAVED, value=value)) == []


class TestAPurchase:
    def test_shows_what_was_ordered_until_its_images_are_saved(self) -> None:
        assert tiles(BOUGHT) == [
            Placeholder(
                task=TASK, progress=Progress.GENERATING, prompt="a fox", images=2, charged_usd=0.07, at=AT
            )
        ]

    def test_that_another_task_has_saved_is_shown_there(self) -> None:
        assert tiles(BOUGHT, ELSEWHERE) == []

    def test_shows_on_its_own_page_what_another_task_has_saved(self) -> None:
        assert tiles(BOUGHT, ELSEWHERE, of_one_task=True) == tiles(ELSEWHERE)

    def test_of_another_run_is_another_purchase(self) -> None:
        (tile,) = tiles(replace(BOUGHT, dag_run_id=8), ELSEWHERE, of_one_task=True)
        assert isinstance(tile, Placeholder)


class TestProgress:
    @pytest.mark.parametrize("state", [*sorted(map(str, State.unfinished - {None})), None])
    def test_of_a_task_that_goes_on_is_generating_whatever_its_run_does(self, state: str | None) -> None:
        for run_state in ("running", "failed", "success"):
            assert progress(state=state, run_state=run_state) is Progress.GENERATING

    @pytest.mark.parametrize("state", sorted(State.finished - {TaskInstanceState.SUCCESS}))
    def test_of_a_task_that_ended_badly_is_failed(self, state: str) -> None:
        assert progress(state=state, run_state="running") is Progress.FAILED

    def test_of_a_generate_task_that_succeeded_is_not_kept(self) -> None:
        assert progress(state="success", run_state="running") is Progress.NOT_KEPT

    @pytest.mark.parametrize(
        ("run_state", "expected"),
        [
            ("running", Progress.GENERATING),
            ("queued", Progress.GENERATING),
            ("failed", Progress.FAILED),
            ("success", Progress.NOT_KEPT),
        ],
    )
    def test_of_another_task_that_succeeded_is_told_by_its_run(
        self, run_state: str, expected: Progress
    ) -> None:
        assert progress(state="success", run_state=run_state, operator="OurSubmit") is expected


def progress(**changes: Any) -> Progress:
    """Of a purchase whose images nobody has saved."""
    (tile,) = tiles(replace(BOUGHT, **changes))
    assert isinstance(tile, Placeholder)
    return tile.progress


class TestATaskThatHasBoughtNothing:
    @pytest.mark.parametrize("state", sorted(STARTED))
    def test_is_generating_once_it_has_started(self, state: TaskInstanceState) -> None:
        tile = make_placeholder(TASK, state, AT)
        assert (tile.progress, tile.images, tile.charged_usd) == (Progress.GENERATING, None, None)

    def test_has_failed_when_it_has(self) -> None:
        assert make_placeholder(TASK, "failed", AT).progress is Progress.FAILED

    def test_is_not_there_before_an_executor_has_it(self) -> None:
        assert not STARTED & {None, TaskInstanceState.SCHEDULED}


class TestWords:
    @pytest.mark.parametrize("text", ["", "fox", "A FOX", "STRASSE"])
    def test_are_found_in_upper_and_lower_case_alike(self, text: str) -> None:
        (tile,) = tiles(replace(BOUGHT, value=submission(prompt="a fox in a straße")))
        assert has_words(tile, text)
        assert not has_words(tile, "a mug")
