"""Every example DAG, unchanged, through scheduler, triggerer and task processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.support.airflow_world import KEY, World

EXAMPLES = (
    "seedream_quickstart",
    "seedream_submit_wait_download",
    "seedream_product_catalog",
    "seedream_image_to_image",
    "seedream_callback_mode",
)
FAILURES = ("e2e_content_refused", "e2e_wrong_key", "e2e_unwritable")


@pytest.fixture(scope="module")
def runs(world: World) -> dict[str, str]:
    """All DAGs at once, run to their end; run id by DAG id."""
    started = {dag_id: world.stack.trigger(dag_id) for dag_id in EXAMPLES + FAILURES}
    for dag_id, run_id in started.items():
        world.stack.wait_for_run(dag_id, run_id)
    return started


class TestExamples:
    @pytest.mark.parametrize("dag_id", EXAMPLES)
    def test_it_succeeds(self, world: World, runs: dict[str, str], dag_id: str) -> None:
        states = world.instances(dag_id, runs[dag_id])
        assert set(states.values()) == {"success"}, states

    @pytest.mark.parametrize(
        ("folder", "images", "size"),
        [
            ("quickstart", 2, (2848, 1600)),
            ("storyboard", 4, (2848, 1600)),
            ("harbour", 1, (2496, 1664)),
            ("products", 5, None),
            ("night/shots", 4, (2304, 1728)),
            ("night/cover", 1, (1728, 2304)),
        ],
    )
    def test_its_images_are_whole_and_of_the_right_size(
        self, world: World, runs: dict[str, str], folder: str, images: int, size: tuple[int, int] | None
    ) -> None:
        files = list((world.images / folder).rglob("*.png"))
        assert len(files) == images
        for file in files:
            with Image.open(file) as image:
                image.load()
                assert size is None or image.size == size

    def test_the_second_picture_was_drawn_from_the_first(self, world: World, runs: dict[str, str]) -> None:
        run_id = runs["seedream_image_to_image"]
        first = world.stack.read_xcom("seedream_image_to_image", run_id, "draw")
        second = world.stack.read_xcom("seedream_image_to_image", run_id, "restyle")
        assert second["request"]["image_urls"] == first["urls"]


class TestMoney:
    def test_the_ledger_equals_the_manifests(self, world: World, runs: dict[str, str]) -> None:
        manifests = [json.loads(path.read_text()) for path in world.images.rglob("*manifest.json")]
        # The reference picture is paid for, but not kept.
        run_id = runs["seedream_image_to_image"]
        unkept = world.stack.read_xcom("seedream_image_to_image", run_id, "draw")["cost_usd"]
        account = world.ledger()["accounts"][KEY]
        paid = account["charged"] - account["refunded"]
        assert sum(manifest["cost_usd"] for manifest in manifests) + unkept == pytest.approx(paid)

    def test_nothing_was_bought_twice(self, world: World, runs: dict[str, str]) -> None:
        expected = {
            "quickstart": 1,
            "submit": 1,
            "catalogue": 4,
            "draw and restyle": 2,
            "night's batch": 5,
            "refused content": 1,
        }
        assert len(world.ledger()["tasks"]) == sum(expected.values())


class TestWaiting:
    def test_the_first_poll_comes_20_seconds_after_the_creation(
        self, world: World, runs: dict[str, str]
    ) -> None:
        task_id = world.stack.read_xcom("seedream_quickstart", runs["seedream_quickstart"], "generate")[
            "seedream_task_id"
        ]
        task = world.task(task_id)
        assert task["poll_times"][0] - task["submitted_at"] >= 19

    def test_status_changes_are_in_the_tasks_own_log(self, world: World, runs: dict[str, str]) -> None:
        log = world.stack.read_task_log("seedream_quickstart", runs["seedream_quickstart"], "generate")
        assert "APIXO accepted task" in log
        assert "Pausing task as DEFERRED" in log
        assert ": state success." in log
        assert "Saved image" in log


class TestCallbacks:
    def test_airflow_is_told_of_every_picture_of_the_night(self, world: World, runs: dict[str, str]) -> None:
        dag_id, run_id = "seedream_callback_mode", runs["seedream_callback_mode"]
        shots = [world.stack.read_xcom(dag_id, run_id, "shoot", map_index=n) for n in range(4)]
        cover = world.stack.read_xcom(dag_id, run_id, "wait_for_cover")
        for result in (*shots, cover):
            deliveries = world.task(result["seedream_task_id"])["callbacks"]
            assert [delivery["status"] for delivery in deliveries] == [200]


class TestFailures:
    @pytest.mark.parametrize(
        ("dag_id", "says"),
        [
            ("e2e_content_refused", "refunds the pre-charge. Change the prompt"),
            ("e2e_wrong_key", "Put a valid APIXO key"),
            ("e2e_unwritable", "/proc/seedream"),
        ],
    )
    def test_what_no_retry_can_help_ends_at_once(
        self, world: World, runs: dict[str, str], dag_id: str, says: str
    ) -> None:
        (instance,) = world.stack.list_task_instances(dag_id, runs[dag_id])
        assert (instance["state"], instance["try_number"]) == ("failed", 1)
        assert says in world.stack.read_task_log(dag_id, runs[dag_id], "generate")


class TestTheKey:
    def test_is_in_nothing_that_the_runs_left_behind(self, world: World, runs: dict[str, str]) -> None:
        home = world.stack.home
        places = [path for path in (*home.rglob("*"), *world.images.rglob("*")) if path.is_file()]
        assert any(path.suffix == ".db" for path in places)
        assert any(path.suffix == ".log" for path in places)
        assert [str(path) for path in places if KEY.encode() in Path(path).read_bytes()] == []
