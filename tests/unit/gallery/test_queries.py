"""What the gallery lists, from Airflow's metadata database alone."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pendulum
import pytest
from sqlalchemy import event, select
from sqlalchemy.dialects import mysql, postgresql, sqlite

from airflow_provider_seedream.apixo.records import SUBMISSION_KEY
from airflow_provider_seedream.gallery import queries
from airflow_provider_seedream.gallery.queries import Cursor, Page, Scope, read_page
from airflow_provider_seedream.gallery.view_models import Filters, Placeholder, Progress, TileImage
from airflow_provider_seedream.storage.index import SAVED_KEY, IndexEntry
from airflow_provider_seedream.urls import TaskAddress
from tests.support.metadata_rows import START, MetadataRows, after, saved_entry, submission


@pytest.fixture
def session(airflow_database: None) -> Iterator[Any]:
    """A session on the real schema whose rows nobody else sees."""
    from airflow.settings import Session

    with Session() as session:
        yield session
        session.rollback()


@pytest.fixture
def rows(session: Any) -> MetadataRows:
    return MetadataRows(session)


ALL = Scope(dag_ids=frozenset(["art"]))
DAY = pendulum.instance(START)
FIRST_DAY, LAST_DAY = pendulum.date(1, 1, 1), pendulum.date(9999, 12, 31)


def bought(task_id: str = "task_1", prompt: str = "a fox", images: int = 1) -> dict[str, Any]:
    return {SUBMISSION_KEY: submission(task_id, prompt, images)}


def saved(task_id: str = "task_1", prompt: str = "a fox", images: int = 1) -> dict[str, Any]:
    return {SAVED_KEY: saved_entry(task_id, prompt, images)}


def prompts(page: Page) -> Sequence[str]:
    return [tile.prompt for tile in page.tiles]


class TestPictures:
    def test_each_saved_image_is_a_tile_with_its_share_of_the_cost(
        self, rows: MetadataRows, session: Any
    ) -> None:
        rows.task(rows.run("art", "r1"), "draw", xcoms=bought() | saved(images=2))
        first, second = read_page(session, ALL).tiles
        assert isinstance(first, TileImage)
        assert first == TileImage(
            task=TaskAddress("art", "r1", "draw"), index=1, of=2, prompt="a fox", name="task_1-1.png",
            width=2048, height=2048, cost_usd=0.035, reused=False, at=START,
        )  # fmt: skip
        assert second == replace(first, index=2, name="task_1-2.png")

    def test_the_latest_come_first(self, rows: MetadataRows, session: Any) -> None:
        for minute, prompt in ((1, "old"), (3, "new"), (2, "middle")):
            run = rows.run("art", f"r{minute}", at=after(minute))
            rows.task(run, "draw", xcoms=saved(prompt=prompt), at=after(minute))
        assert prompts(read_page(session, ALL)) == ["new", "middle", "old"]

    def test_of_dags_that_the_reader_may_not_read_nothing_is_told(
        self, rows: MetadataRows, session: Any
    ) -> None:
        rows.task(rows.run("secret", "r1"), "draw", xcoms=saved())
        assert read_page(session, ALL).tiles == []
        assert read_page(session, Scope(dag_ids=frozenset())).tiles == []
        wanted = Scope(dag_ids=frozenset(["art"]), filters=Filters(dag_id="secret"))
        assert read_page(session, wanted).tiles == []

    @pytest.mark.parametrize(
        "value", [None, "text", 7, [], {}, {"images": "x"}, saved_entry() | {"images": [{"index": 1}]}]
    )
    def test_what_is_no_entry_of_ours_is_passed_over(
        self, rows: MetadataRows, session: Any, value: Any
    ) -> None:
        run = rows.run("art", "r1")
        rows.task(run, "forged", xcoms={SAVED_KEY: value})
        rows.task(run, "draw", xcoms=saved())
        assert prompts(read_page(session, ALL)) == ["a fox"]
        assert queries.find_saved(session, TaskAddress("art", "r1", "forged")) is None

    def test_an_entry_is_found_by_its_task_instance_only(self, rows: MetadataRows, session: Any) -> None:
        rows.task(rows.run("art", "r1"), "draw", 3, xcoms=saved("task_9"))
        entry = queries.find_saved(session, TaskAddress("art", "r1", "draw", 3))
        assert entry == IndexEntry.from_json(saved_entry("task_9"))
        for other in (
            TaskAddress("art", "r1", "draw"),
            TaskAddress("art", "r2", "draw", 3),
            TaskAddress("x", "r1", "draw", 3),
        ):
            assert queries.find_saved(session, other) is None


class TestScopes:
    def test_a_run_shows_its_own_images(self, rows: MetadataRows, session: Any) -> None:
        for run_id in ("r1", "r2"):
            rows.task(rows.run("art", run_id), "draw", xcoms=saved(prompt=run_id))
        assert prompts(read_page(session, replace(ALL, run_id="r2"))) == ["r2"]

    def test_a_mapped_task_shows_one_index_or_all(self, rows: MetadataRows, session: Any) -> None:
        run = rows.run("art", "r1")
        for index in (0, 1):
            rows.task(run, "draw", index, xcoms=saved(prompt=f"number {index}"))
        mapped = replace(ALL, run_id="r1", task_id="draw")
        assert prompts(read_page(session, replace(mapped, map_index=0))) == ["number 0"]
        assert len(read_page(session, mapped).tiles) == 2

    def test_a_task_of_another_provider_shows_nothing(self, rows: MetadataRows, session: Any) -> None:
        rows.task(rows.run("art", "r1"), "load", operator="PythonOperator", xcoms={"return_value": {"a": 1}})
        assert read_page(session, replace(ALL, run_id="r1", task_id="load")).tiles == []


class TestThreeSteps:
    """Submit, wait, download: the purchase and the images belong to different tasks of one run."""

    def test_the_purchase_is_generating_until_the_images_are_saved(
        self, rows: MetadataRows, session: Any
    ) -> None:
        run = rows.run("art", "r1", state="running")
        rows.task(run, "submit", operator="SeedreamSubmitOperator", xcoms=bought(images=3))
        rows.task(run, "wait", operator="SeedreamTaskSensor", state="deferred")
        (tile,) = read_page(session, ALL).tiles
        assert tile == Placeholder(
            task=TaskAddress("art", "r1", "submit"), progress=Progress.GENERATING, prompt="a fox", images=3,
            charged_usd=0.105, at=START,
        )  # fmt: skip
        rows.task(run, "download", operator="SeedreamDownloadOperator", xcoms=saved(images=3))
        tiles = read_page(session, ALL).tiles
        assert {tile.task.task_id for tile in tiles} == {"download"}

    def test_the_tab_of_the_purchase_shows_what_was_saved_elsewhere(
        self, rows: MetadataRows, session: Any
    ) -> None:
        run = rows.run("art", "r1")
        rows.task(run, "submit", operator="SeedreamSubmitOperator", xcoms=bought())
        rows.task(run, "download", operator="SeedreamDownloadOperator", xcoms=saved())
        (tile,) = read_page(session, replace(ALL, run_id="r1", task_id="submit")).tiles
        assert isinstance(tile, TileImage)
        assert tile.task.task_id == "download"

    def test_a_run_that_ended_without_saving_says_so(self, rows: MetadataRows, session: Any) -> None:
        run = rows.run("art", "r1", state="failed")
        rows.task(run, "submit", operator="SeedreamSubmitOperator", xcoms=bought())
        (tile,) = read_page(session, ALL).tiles
        assert isinstance(tile, Placeholder)
        assert tile.progress is Progress.FAILED

    @pytest.mark.parametrize(
        ("run_state", "progress"),
        [
            ("running", Progress.GENERATING),
            ("queued", Progress.GENERATING),
            ("failed", Progress.FAILED),
            ("success", Progress.NOT_KEPT),
        ],
    )
    def test_an_operator_of_a_users_own_is_told_by_its_run(
        self, rows: MetadataRows, session: Any, run_state: str, progress: Progress
    ) -> None:
        rows.task(rows.run("art", "r1", state=run_state), "buy", operator="OurSubmit", xcoms=bought())
        (tile,) = read_page(session, ALL).tiles
        assert isinstance(tile, Placeholder)
        assert tile.progress is progress

    def test_images_of_another_run_are_not_taken_for_its_own(self, rows: MetadataRows, session: Any) -> None:
        rows.task(rows.run("art", "r1", state="running"), "submit", operator="OurSubmit", xcoms=bought())
        rows.task(rows.run("art", "r2"), "download", xcoms=saved(), at=after(-1))
        assert [type(tile) for tile in read_page(session, ALL).tiles] == [Placeholder, TileImage]

    def test_one_purchase_does_not_load_what_the_rest_of_the_run_has_saved(
        self, rows: MetadataRows, session: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = rows.run("art", "r1", state="running")
        for index in range(20):
            rows.task(run, "draw", index, xcoms=saved(f"task_{index}"), at=after(-1 - index))
        rows.task(run, "submit", operator="OurSubmit", xcoms=bought("task_7"), at=after(1))
        loaded: list[Any] = []
        result = queries._make_row
        monkeypatch.setattr(queries, "_make_row", lambda row: loaded.append(row.key) or result(row))
        (tile,) = read_page(session, replace(ALL, run_id="r1", task_id="submit")).tiles
        assert (tile.task.map_index, loaded) == (7, [SUBMISSION_KEY, SAVED_KEY])

    @pytest.mark.parametrize("other", [float("nan"), "text", 7, [], {}])
    def test_what_is_no_entry_does_not_hide_one(self, rows: MetadataRows, session: Any, other: Any) -> None:
        run = rows.run("art", "r1")
        rows.task(run, "forged", xcoms={SAVED_KEY: other})
        rows.task(run, "submit", operator="OurSubmit", xcoms=bought())
        rows.task(run, "download", xcoms=saved())
        (tile,) = read_page(session, ALL).tiles
        assert tile.task.task_id == "download"

    @pytest.mark.parametrize("task_id", ["task\0", "task\ud800", 7, None, [], "x" * 5000])
    def test_what_is_no_task_id_is_not_searched_for(
        self, rows: MetadataRows, session: Any, task_id: Any
    ) -> None:
        rows.task(rows.run("art", "r1"), "submit", xcoms={SUBMISSION_KEY: submission(task_id)})
        rows.task(rows.run("art", "r2"), "submit", xcoms={SUBMISSION_KEY: submission("task_1")})
        assert len(read_page(session, ALL).tiles) == 2

    @pytest.mark.parametrize(
        ("dialect", "path"),
        [
            (postgresql.dialect(), "xcom.value ->> 'seedream_task_id'"),
            (mysql.dialect(), "JSON_UNQUOTE(JSON_EXTRACT(xcom.value, '$.\"seedream_task_id\"'))"),
            (sqlite.dialect(), "JSON_EXTRACT(xcom.value, '$.\"seedream_task_id\"')"),
        ],
    )
    def test_every_database_of_airflow_can_be_asked(self, dialect: Any, path: str) -> None:
        query = select(queries._extract_task_id(dialect.name).in_(["task_1"]))
        assert path in str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))


class TestProgress:
    @pytest.mark.parametrize(
        ("state", "progress"),
        [
            ("deferred", Progress.GENERATING),
            ("running", Progress.GENERATING),
            ("up_for_retry", Progress.GENERATING),
            ("failed", Progress.FAILED),
            ("success", Progress.NOT_KEPT),
        ],
    )
    def test_a_purchase_without_images_tells_why(
        self, rows: MetadataRows, session: Any, state: str, progress: Progress
    ) -> None:
        rows.task(rows.run("art", "r1", state="running"), "draw", state=state, xcoms=bought())
        (tile,) = read_page(session, ALL).tiles
        assert isinstance(tile, Placeholder)
        assert tile.progress is progress

    @pytest.mark.parametrize(
        ("state", "progress"), [("running", Progress.GENERATING), ("failed", Progress.FAILED)]
    )
    def test_so_does_a_task_of_the_run_that_has_bought_nothing_yet(
        self, rows: MetadataRows, session: Any, state: str, progress: Progress
    ) -> None:
        rows.task(rows.run("art", "r1", state="running"), "draw", state=state)
        (tile,) = read_page(session, replace(ALL, run_id="r1")).tiles
        assert isinstance(tile, Placeholder)
        assert (tile.progress, tile.charged_usd) == (progress, None)
        assert read_page(session, ALL).tiles == []


class TestForgedSubmissions:
    @pytest.mark.parametrize("charged", [10**400, float("nan"), float("inf"), -1, True, "1", [1], None])
    def test_a_charge_that_cannot_be_is_not_known(
        self, rows: MetadataRows, session: Any, charged: Any
    ) -> None:
        assert self.tile(rows, session, {"charged_usd": charged}).charged_usd is None

    @pytest.mark.parametrize("images", [10**400, 1001, float("nan"), -1, True, 2.5, "1", [1], None])
    def test_nor_is_a_number_of_images(self, rows: MetadataRows, session: Any, images: Any) -> None:
        assert self.tile(rows, session, {"requested": images}).images is None

    @pytest.mark.parametrize("request_sent", [None, "a fox", [], {"prompt": ["a fox"]}, {"prompt": 7}, {}])
    def test_nor_is_a_prompt(self, rows: MetadataRows, session: Any, request_sent: Any) -> None:
        assert self.tile(rows, session, {"request": request_sent}).prompt == ""

    @pytest.mark.parametrize("value", [None, "text", 7, []])
    def test_something_else_altogether_is_still_a_tile(
        self, rows: MetadataRows, session: Any, value: Any
    ) -> None:
        rows.task(rows.run("art", "r1"), "draw", xcoms={SUBMISSION_KEY: value})
        assert len(read_page(session, ALL).tiles) == 1

    def tile(self, rows: MetadataRows, session: Any, changes: dict[str, Any]) -> Placeholder:
        rows.task(rows.run("art", "r1"), "draw", xcoms={SUBMISSION_KEY: submission() | changes})
        (tile,) = read_page(session, ALL).tiles
        assert isinstance(tile, Placeholder)
        return tile


class TestForgedEntries:
    @pytest.mark.parametrize(
        "changes",
        [
            *({"cost_usd": cost} for cost in (10**400, float("nan"), float("inf"), -0.1, 1e7)),
            {"prompt": "x" * 20_001},
            *({name: "x" * 4097} for name in ("seedream_task_id", "destination", "manifest")),
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_beyond_all_bounds_are_none(self, changes: dict[str, Any]) -> None:
        assert IndexEntry.from_json(saved_entry() | changes) is None

    @pytest.mark.parametrize(
        "changes",
        [
            *({"index": index} for index in (0, 1001, 10**400)),
            *({name: pixels} for name in ("width", "height") for pixels in (-1, 100_001, 10**400)),
            *({name: "x" * 4097} for name in ("name", "sha256")),
        ],
        ids=lambda changes: next(iter(changes)),
    )
    def test_nor_may_an_image_be(self, changes: dict[str, Any]) -> None:
        image = saved_entry()["images"][0]
        assert IndexEntry.from_json(saved_entry(images=1) | {"images": [image | changes]}) is None

    def test_nor_may_there_be_any_number_of_them(self) -> None:
        assert IndexEntry.from_json(saved_entry(images=200)) is not None
        assert IndexEntry.from_json(saved_entry(images=201)) is None

    def test_the_largest_that_a_task_saves_is_one(self) -> None:
        entry = saved_entry(prompt="狐" * 20_000, images=15, destination="s3://a@b/" + "x" * 1000)
        assert IndexEntry.from_json(entry) is not None


class TestAddressesThatNoDatabaseTakes:
    """SQLite takes most of them, PostgreSQL none: nothing may be asked."""

    @pytest.fixture(autouse=True)
    def no_question(self, session: Any) -> Iterator[None]:
        def refuse(*_: Any) -> None:
            pytest.fail("the database was asked")

        engine = session.get_bind()
        event.listen(engine, "before_cursor_execute", refuse)
        yield
        event.remove(engine, "before_cursor_execute", refuse)

    @pytest.mark.parametrize(
        "scope",
        [
            Scope(dag_ids=frozenset(["art\0"]), run_id="r1"),
            replace(ALL, run_id="r1\0"),
            replace(ALL, run_id="r1", task_id="draw\0"),
            replace(ALL, run_id="r1", task_id="draw\ud800"),
            replace(ALL, run_id="r1", task_id="draw", map_index=2**31),
            replace(ALL, filters=Filters(dag_id="art\0")),
            replace(ALL, filters=Filters(text="fox\0")),
        ],
        ids=repr,
    )
    def test_have_no_images(self, session: Any, scope: Scope) -> None:
        assert read_page(session, scope) == Page([])

    @pytest.mark.parametrize(
        "task",
        [
            TaskAddress("art\0", "r1", "draw"),
            TaskAddress("art", "r1\0", "draw"),
            TaskAddress("art", "r1", "draw\0"),
            TaskAddress("art", "r1", "draw", 2**31),
            TaskAddress("art", "r1", "draw", -(2**31) - 1),
        ],
        ids=repr,
    )
    def test_have_saved_nothing(self, session: Any, task: TaskAddress) -> None:
        assert queries.find_saved(session, task) is None


class TestFilters:
    @pytest.fixture(autouse=True)
    def images(self, rows: MetadataRows) -> None:
        for day, dag_id, prompt in (
            (0, "art", "Füchse im Wald"),
            (1, "art", "一只狐狸"),
            (2, "shop", "A mug"),
        ):
            at = DAY.add(days=day)
            rows.task(rows.run(dag_id, f"r{day}", at=at), "draw", xcoms=saved(prompt=prompt), at=at)

    @pytest.mark.parametrize(
        ("filters", "found"),
        [
            (Filters(), ["A mug", "一只狐狸", "Füchse im Wald"]),
            (Filters(dag_id="shop"), ["A mug"]),
            (Filters(text="FÜCHSE"), ["Füchse im Wald"]),
            (Filters(text="狐狸"), ["一只狐狸"]),
            (Filters(text="100%_"), []),
            (Filters(since=DAY.add(days=1).date()), ["A mug", "一只狐狸"]),
            (Filters(until=DAY.date()), ["Füchse im Wald"]),
            (
                Filters(since=pendulum.date(1, 1, 1), until=pendulum.date(9999, 12, 31)),
                ["A mug", "一只狐狸", "Füchse im Wald"],
            ),
            (Filters(since=LAST_DAY), []),
            (Filters(until=FIRST_DAY), []),
            (Filters(since=DAY.date(), until=DAY.date(), text="mug"), []),
        ],
    )
    def test_by_dag_by_words_and_by_day(self, session: Any, filters: Filters, found: list[str]) -> None:
        scope = Scope(dag_ids=frozenset(["art", "shop"]), filters=filters)
        assert prompts(read_page(session, scope)) == found


class TestPaging:
    def test_every_image_is_on_exactly_one_page(
        self, rows: MetadataRows, session: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(queries, "TILES", 7)
        monkeypatch.setattr(queries, "CHUNK", 3)
        monkeypatch.setattr(queries, "SEARCH_CHUNK", 5)
        run = rows.run("art", "r1")
        for index in range(20):
            # Several at the same moment, as mapped tasks may be.
            rows.task(run, "draw", index, xcoms=saved(f"task_{index}", images=2), at=after(index // 4))
        seen: list[tuple[int, int]] = []
        cursor, pages = None, 0
        while cursor is not None or not pages:
            page = read_page(session, ALL, Cursor.from_text(cursor.to_text()) if cursor else None)
            seen += [(tile.task.map_index, tile.index) for tile in page.tiles if isinstance(tile, TileImage)]
            cursor, pages = page.older, pages + 1
        assert len(seen) == len(set(seen)) == 40
        assert pages == 5

    def test_the_last_page_leads_nowhere(
        self, rows: MetadataRows, session: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(queries, "TILES", 2)
        rows.task(rows.run("art", "r1"), "draw", xcoms=saved(images=2))
        assert read_page(session, ALL).older is None

    def test_a_search_that_takes_long_ends_the_page_and_goes_on_with_the_next(
        self, rows: MetadataRows, session: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(queries, "SEARCH_SECONDS", -1.0)
        monkeypatch.setattr(queries, "CHUNK", 1)
        run = rows.run("art", "r1")
        for index, prompt in enumerate(("a fox", "a mug", "a mug")):
            rows.task(run, "draw", index, xcoms=saved(prompt=prompt), at=after(index))
        scope = replace(ALL, filters=Filters(text="fox"))
        page = read_page(session, scope)
        assert (page.tiles, page.cut_short) == ([], True)
        page = read_page(session, scope, read_page(session, scope, page.older).older)
        assert (prompts(page), page.older) == (["a fox"], None)

    def test_a_search_reads_more_at_once_the_longer_it_lasts(
        self, rows: MetadataRows, session: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(queries, "CHUNK", 2)
        monkeypatch.setattr(queries, "SEARCH_CHUNK", 20)
        run = rows.run("art", "r1")
        for index in range(20):
            rows.task(run, "draw", index, xcoms=saved(prompt=f"number {index}"), at=after(index))
        limits: list[int] = []
        results = queries._read_rows
        monkeypatch.setattr(queries, "_read_rows", lambda *given: limits.append(given[-1]) or results(*given))
        assert prompts(read_page(session, replace(ALL, filters=Filters(text="number 0")))) == ["number 0"]
        assert limits == [3, 21]

    @pytest.mark.parametrize(
        "fields",
        [
            (2**31, "draw", -1),
            (1, "draw", 2**31),
            (1, "draw", -(2**31) - 1),
            (1, "draw\0", -1),
            (1, "\ud800", -1),
            (1.5, "draw", -1),
            (True, "draw", -1),
            (1, 7, -1),
        ],
    )
    def test_an_address_that_no_database_takes_is_no_page(self, fields: tuple[Any, ...]) -> None:
        with pytest.raises(ValueError, match="not a page's address"):
            Cursor.from_text(Cursor(DAY, *fields).to_text())

    def test_nor_is_one_that_is_nested_without_end(self) -> None:
        text = base64.urlsafe_b64encode(b"[" * 200_000).decode()
        with pytest.raises(ValueError, match="not a page's address"):
            Cursor.from_text(text)

    @pytest.mark.parametrize("text", ["", "x", "e30=", "WzEsMiwzLDRd", "W10=", "ÿ", "A" * 5000, "bnVsbA=="])
    def test_a_broken_address_is_no_page(self, text: str) -> None:
        with pytest.raises(ValueError, match="not a page's address"):
            Cursor.from_text(text)
