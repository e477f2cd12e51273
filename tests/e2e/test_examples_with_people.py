"""The example DAGs that ask somebody: for a form, for an approval, for a decision about new pictures."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.airflow_world import Purchases, World, airflow_world

EXAMPLES = Path(__file__).resolve().parents[2] / "dags_examples"
STUDIO, APPROVAL, REFRESH = "seedream_studio", "seedream_approve_and_publish", "seedream_weekly_refresh"
UNANSWERED = "unanswered"

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An Airflow with copies of the examples, whose catalogue a test may change."""
    base = tmp_path_factory.mktemp("people")
    dags = base / "examples"
    shutil.copytree(EXAMPLES, dags, ignore=shutil.ignore_patterns("__pycache__"))
    approval, refresh = dags / "approve_and_publish.py", dags / "weekly_refresh.py"
    rewrite(approval, dags / "unanswered.py", {"days=3": "seconds=20", APPROVAL: UNANSWERED})
    # On some days of the week, the schedule would begin with a run of its own.
    rewrite(refresh, refresh, {"schedule=MONDAYS_AT_SIX": "schedule=None"})
    env = {"AIRFLOW_VAR_SEEDREAM_PUBLISHED": (base / "published").as_uri()}
    with airflow_world(base, {"examples": dags}, time_scale=0.3, env=env) as world:
        pool = {"name": "seedream", "slots": 4, "include_deferred": True}
        world.stack.call_api("POST", "/pools", json=pool)
        yield world


def rewrite(example: Path, copy: Path, changes: Mapping[str, str]) -> None:
    """Copy an example with something else in the place of texts that it holds once."""
    text = example.read_text()
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    copy.write_text(text)


class Person:
    """Who answers what a DAG run asks.

    :param dag_id: of a DAG whose task ``review`` asks.
    """

    def __init__(self, world: World, dag_id: str, run_id: str) -> None:
        self._world = world
        self.dag_id = dag_id
        self.run_id = run_id

    @property
    def _path(self) -> str:
        return f"/dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/review/-1/hitlDetails"

    def is_asked(self) -> dict[str, Any]:
        """Wait for the question, and until Airflow bears an answer; returns it."""
        stack = self._world.stack
        stack.wait_for_task(self.dag_id, self.run_id, "review", "awaiting_input", "deferred")
        # Airflow (3.3.2) fails a task that is answered before the scheduler has seen its worker's exit.
        stack.wait_until(self._scheduler_knows, f"the scheduler knows that {self.run_id} waits", 60)
        return dict(stack.call_api("GET", self._path))

    def _scheduler_knows(self) -> bool:
        words = ("TaskInstance Finished", "task_id=review,", f"run_id={self.run_id},")
        lines = self._world.stack.find_log("scheduler").read_text(errors="replace").splitlines()
        return any(all(word in line for word in words) for line in lines)

    def answers(self, option: str, **wishes: Any) -> None:
        """Press a button of the form; fields that are not named keep their default."""
        fields = {name: param["value"] for name, param in self.is_asked()["params"].items()}
        body = {"chosen_options": [option], "params_input": {**fields, **wishes}}
        self._world.stack.call_api("PATCH", self._path, json=body)

    def sees_the_end(self) -> str:
        """State of the run."""
        return self._world.stack.wait_for_run(self.dag_id, self.run_id)

    def log(self, task_id: str) -> str:
        """What a task has said."""
        return self._world.stack.read_task_log(self.dag_id, self.run_id, task_id)

    def states(self) -> dict[str, str]:
        """State by task."""
        return self._world.instances(self.dag_id, self.run_id)

    def result(self) -> dict[str, Any]:
        """What Generate returned."""
        return dict(self._world.stack.read_xcom(self.dag_id, self.run_id, "generate"))


def drafts(result: dict[str, Any]) -> list[str]:
    """Which of a result's files are still there, the manifest included."""
    paths = [*(image["path"] for image in result["images"]), result["manifest"]]
    return [Path(path).name for path in paths if Path(path.removeprefix("file://")).exists()]


def published(world: World, folder: str = ".") -> dict[str, bytes]:
    """Content by name of what is published."""
    place = world.images.parent / "published" / folder
    return {path.name: path.read_bytes() for path in place.glob("*.png")}


# --- studio ------------------------------------------------------------------------------------------


PROMPT = 'two\nlines, {{ braces }}, <b>"quotes"</b> & ünïcode'


@pytest.fixture(scope="module")
def forms(world: World) -> dict[str, str]:
    """Runs of the studio that are started at once; run id by what was done with the form."""
    filled_in = {
        "prompt": PROMPT,
        "image_urls": ["https://x.example/a.png?x=1&y='2'", ""],
        "max_images": 3,
        "resolution": "4K",
        "aspect_ratio": "none",
        "sequential_image_generation": "auto",
        "destination": f"{world.images.as_uri()}/form",
    }
    wishes = {"filled in": filled_in, "as it is": {}, "too dear": {"max_images": 10, "max_cost": 0.1}}
    return {name: world.stack.trigger(STUDIO, form) for name, form in wishes.items()}


class TestTheFormOfTheStudio:
    @pytest.mark.parametrize(
        "mistake",
        [
            {"prompt": ""},
            {"prompt": "  \n"},
            {"prompt": "x" * 5001},
            {"image_urls": ["http://x.example/a.png"]},
            {"image_urls": [f"https://x.example/{number}.png" for number in range(15)]},
            {"max_images": 0},
            {"max_images": 11},
            {"max_images": 1.5},
            {"max_images": None},
            {"resolution": "8K"},
            {"aspect_ratio": "5:4"},
            {"sequential_image_generation": "always"},
            {"destination": "images/today"},
            {"destination": "file://images"},
            {"max_cost": 0},
        ],
        ids=lambda mistake: f"{next(iter(mistake.items()))!s:.40}",
    )
    def test_refuses_a_mistake_itself(self, world: World, mistake: dict[str, Any]) -> None:
        world.stack.wait_for_dag(STUDIO)
        body = {"logical_date": None, "conf": mistake}
        with pytest.raises(Exception, match=f"400 .*Invalid input for param {next(iter(mistake))}"):
            world.stack.call_api("POST", f"/dags/{STUDIO}/dagRuns", json=body)

    def test_is_what_is_bought(self, world: World, forms: dict[str, str]) -> None:
        run_id = forms["filled in"]
        assert world.stack.wait_for_run(STUDIO, run_id) == "success"
        result = world.stack.read_xcom(STUDIO, run_id, "generate")
        assert result["request"] == {
            "mode": "image-to-image",
            "prompt": PROMPT,
            "image_urls": ["https://x.example/a.png?x=1&y='2'"],
            "max_images": 3,
            "resolution": "4K",
            "sequential_image_generation": "auto",
        }
        assert result["destination"] == f"{world.images.as_uri()}/form"

    def test_as_it_is_buys_one_picture(self, world: World, forms: dict[str, str]) -> None:
        run_id = forms["as it is"]
        assert world.stack.wait_for_run(STUDIO, run_id) == "success"
        result = world.stack.read_xcom(STUDIO, run_id, "generate")
        assert (result["delivered"], result["size"]) == (1, [2048, 2048])
        assert result["destination"] == f"{world.images.as_uri()}/studio"
        log = world.stack.read_task_log(STUDIO, run_id, "generate")
        assert "0.035 USD" in log
        assert f"/dags/{STUDIO}/runs/{run_id}/tasks/generate" in log

    def test_holds_to_its_cost_ceiling(self, world: World, forms: dict[str, str]) -> None:
        assert world.stack.wait_for_run(STUDIO, forms["too dear"]) == "failed"
        assert [task for task in world.ledger()["tasks"] if task["requested"] == 10] == []


# --- approval ----------------------------------------------------------------------------------------


ROUNDS: Mapping[str, dict[str, Any]] = {
    "shown": {"max_images": 2, "prompt": "a *paper* boat", "budget_usd": 0.5},
    "three": {"max_images": 3},
    "two": {"max_images": 2},
    "none chosen": {"max_images": 1},
    "refused": {"max_images": 1},
    "unanswered": {"max_images": 1},
    "small budget": {"max_images": 2, "budget_usd": 0.15},
    "repeated": {"max_images": 1},
}
"""The forms of the runs that the tests below answer, each its own; all are started at once."""


@pytest.fixture(scope="module")
def rounds(world: World) -> dict[str, Person]:
    """Who is asked, by the name of the run."""
    dag_ids = {name: UNANSWERED if name == "unanswered" else APPROVAL for name in ROUNDS}
    return {
        name: Person(world, dag_ids[name], world.stack.trigger(dag_ids[name], form))
        for name, form in ROUNDS.items()
    }


class TestApproval:
    def test_shows_the_pictures_and_what_they_cost(self, rounds: dict[str, Person]) -> None:
        person = rounds["shown"]
        body = person.is_asked()["body"]
        tile = f"/seedream/dags/{APPROVAL}/runs/{person.run_id}/tasks/generate/-1/images/2/thumbnail"
        assert tile in body
        assert "` a *paper* boat `" in body
        assert "This round cost 0.070 USD. 0.430 USD of the budget are left" in body
        person.answers("Publish nothing")

    def test_publishes_what_was_chosen_and_keeps_the_rest(
        self, world: World, rounds: dict[str, Person]
    ) -> None:
        person = rounds["three"]
        person.answers("Publish", images=["1", "3"])
        assert person.sees_the_end() == "success"
        images = person.result()["images"]
        for index in (0, 2):
            copy = published(world)[images[index]["name"]]
            assert copy == Path(images[index]["path"].removeprefix("file://")).read_bytes()
        assert images[1]["name"] not in published(world)
        assert len(drafts(person.result())) == 4

    def test_deletes_the_others_if_wished(self, world: World, rounds: dict[str, Person]) -> None:
        person = rounds["two"]
        # Four can be chosen, and two came.
        person.answers("Publish", images=["2", "4"], delete_others=True)
        assert person.sees_the_end() == "success"
        first, second = (image["name"] for image in person.result()["images"])
        assert second in published(world)
        assert drafts(person.result()) == [second, Path(person.result()["manifest"]).name]
        assert first not in published(world)

    def test_with_nothing_chosen_publishes_and_deletes_nothing(
        self, world: World, rounds: dict[str, Person]
    ) -> None:
        before = published(world)
        person = rounds["none chosen"]
        person.answers("Publish", images=None, delete_others=True)
        assert person.sees_the_end() == "success"
        assert "No picture was chosen: nothing is published" in person.log("publish")
        assert len(drafts(person.result())) == 2
        assert published(world) == before

    def test_of_nothing_keeps_the_drafts(self, world: World, rounds: dict[str, Person]) -> None:
        before = published(world)
        person = rounds["refused"]
        person.answers("Publish nothing")
        assert person.sees_the_end() == "success"
        assert "Nothing is published: " in person.log("keep")
        assert "decided so" in person.log("keep")
        assert len(drafts(person.result())) == 2
        assert published(world) == before

    def test_that_nobody_gives_in_time_keeps_the_drafts(
        self, world: World, rounds: dict[str, Person]
    ) -> None:
        before = published(world)
        person = rounds["unanswered"]
        assert person.sees_the_end() == "success"
        assert "Nothing is published: nobody answered in time." in person.log("keep")
        assert len(drafts(person.result())) == 2
        assert published(world) == before


class TestAnotherRound:
    def test_draws_the_changed_prompt_with_what_is_left_of_the_budget(
        self, world: World, rounds: dict[str, Person]
    ) -> None:
        first = rounds["small budget"]
        first.answers("Another round", next_prompt="a red boat")
        assert first.sees_the_end() == "success"
        second = Person(world, APPROVAL, f"{first.run_id}__round_2")
        assert "0.010 USD of the budget are left, too little for another round" in second.is_asked()["body"]
        assert second.result()["request"]["prompt"] == "a red boat"
        second.answers("Another round", next_prompt="a third one")
        assert second.sees_the_end() == "failed"
        assert second.states()["next_round"] == "failed"
        assert "it would cost 0.070 USD, and 0.010 USD of the budget are left" in second.log("next_round")
        assert len(drafts(second.result())) == 3

    def test_is_bought_once_however_often_it_is_started(
        self, world: World, rounds: dict[str, Person]
    ) -> None:
        first = rounds["repeated"]
        first.answers("Another round")
        assert first.sees_the_end() == "success"
        second = Person(world, APPROVAL, f"{first.run_id}__round_2")
        second.answers("Publish nothing")
        assert second.sees_the_end() == "success"
        purchases = Purchases(world)
        world.stack.clear(APPROVAL, first.run_id, "start_next_round")
        world.stack.wait_for_task(APPROVAL, first.run_id, "start_next_round", "skipped")
        assert purchases.tasks() == []


# --- weekly refresh ----------------------------------------------------------------------------------


class Weeks:
    """The refresh, one run after another, with a catalogue that changes in between."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._catalogue = world.images.parent / "examples" / "products.csv"

    def switch_on(self) -> None:
        """Unpause it."""
        self._world.stack.wait_for_dag(REFRESH)
        self._world.stack.call_api("PATCH", f"/dags/{REFRESH}", json={"is_paused": False})

    def run(self) -> Person:
        """One week, which waits for the one before."""
        return Person(self._world, REFRESH, self._world.stack.trigger(REFRESH))

    def change(self, sku: str, **columns: str) -> None:
        """Edit a row of the catalogue."""
        with self._catalogue.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            row.update(columns if row["sku"] == sku else {})
        with self._catalogue.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


@pytest.fixture
def weeks(world: World) -> Weeks:
    return Weeks(world)


class TestTheWeeklyRefresh:
    def test_is_off_until_somebody_switches_it_on(self, world: World) -> None:
        world.stack.wait_for_dag(REFRESH)
        assert world.stack.call_api("GET", f"/dags/{REFRESH}")["is_paused"] is True

    def test_publishes_what_changed_and_asks_where_the_rule_does_not_decide(
        self, world: World, weeks: Weeks
    ) -> None:
        weeks.switch_on()
        first = weeks.run()
        assert "New pictures: 5." in first.is_asked()["body"]
        first.answers("Publish")
        assert first.sees_the_end() == "success"
        skus = ("mug-01-1", "lamp-07-1", "chair-12-1", "bag-03-1", "bag-03-2")
        assert set(published(world, "products")) == {f"{sku}.png" for sku in skus}

        purchases = Purchases(world)
        unchanged = weeks.run()
        assert unchanged.sees_the_end() == "success"
        assert "5 images, 5 of them reused, 0.000 USD; 0 of 0 new ones published." in unchanged.log("report")
        assert purchases.tasks() == []

        before = published(world, "products")
        weeks.change("mug-01", product="a white porcelain mug")
        small_change = weeks.run()
        assert small_change.sees_the_end() == "success"
        assert small_change.states()["review"] == "skipped"
        assert "4 of them reused, 0.035 USD; 1 of 1 new ones published" in small_change.log("report")
        after = published(world, "products")
        assert [name for name in after if after[name] != before[name]] == ["mug-01-1.png"]

        weeks.change("lamp-07", product="[[fail:SensitiveContentDetected]] a lamp")
        weeks.change("chair-12", product="a chair of tubular steel")
        incomplete = weeks.run()
        assert "` lamp-07 `" in incomplete.is_asked()["body"]
        incomplete.answers("Delete them, draw new ones next week")
        assert incomplete.sees_the_end() == "failed"
        assert "Without pictures, or without some: lamp-07." in incomplete.log("report")
        assert published(world, "products") == after

        weeks.change("lamp-07", product="a lamp of rice paper")
        purchases = Purchases(world)
        redrawn = weeks.run()
        assert redrawn.sees_the_end() == "success"
        assert len(purchases.tasks()) == 2
        assert "2 of 2 new ones published" in redrawn.log("report")
