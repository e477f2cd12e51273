"""Two hundred tasks in callback mode, with callbacks shuffled, doubled and lost: what they cost and do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

from dev.postgres import Postgres
from tests.callbacks.deliveries import RESUMED, statuses
from tests.support.airflow_world import Purchases, World
from tests.support.books import Books, books

pytestmark = pytest.mark.long

DAG_ID = "callbacks_soak"
TASKS = 200
IMAGES = TASKS
LOST = 20
DOUBLED = 40
LIMIT_SECONDS = 600


@dataclass(frozen=True)
class Soak:
    """What is left of the run when it has ended.

    :param instances: its task instances, as Airflow's REST API reports them.
    :param bought: what the sandbox's ledger says of its purchases, in their order.
    :param logs: of the first tries.
    """

    run_id: str
    instances: list[dict[str, Any]]
    bought: list[dict[str, Any]]
    logs: list[str]

    @property
    def delivered(self) -> list[dict[str, Any]]:
        """Purchases whose callback was delivered."""
        return [task for task in self.bought if task["callbacks"]]


@pytest.fixture(scope="module")
def soak(world: World) -> Soak:
    """The run, when it has ended."""
    purchases = Purchases(world)
    run_id = world.stack.trigger(DAG_ID)
    world.stack.wait_for_run(DAG_ID, run_id, timeout=LIMIT_SECONDS)
    logs = (world.stack.home / "logs" / f"dag_id={DAG_ID}" / f"run_id={run_id}").rglob("attempt=1.log")
    return Soak(
        run_id,
        world.stack.list_task_instances(DAG_ID, run_id),
        purchases.tasks(),
        [log.read_text() for log in logs],
    )


@pytest.fixture(scope="module")
def accounts(world: World, database: Postgres, soak: Soak) -> Books:
    """The run's books."""
    return books(soak.bought, world.images / "soak", database, DAG_ID, soak.run_id)


@pytest.mark.callback_order(
    "200 mapped tasks wait; callbacks come shuffled, a fifth doubled, a tenth lost",
    "All end right, each bought once and resumed once at most, with at most two polls each",
)
class TestShuffledDoubledAndLost:
    def test_the_callbacks_are_accepted_as_often_as_they_come(self, soak: Soak) -> None:
        ends = [task["completed_at"] for task in soak.bought]
        accepted = Counter(statuses(task).count(200) for task in soak.bought)
        assert ends != sorted(ends)
        assert {status for task in soak.bought for status in statuses(task)} == {200}
        assert accepted == {0: LOST, 1: TASKS - LOST - DOUBLED, 2: DOUBLED}

    def test_every_task_succeeds_in_its_first_try(
        self, soak: Soak, capsys: pytest.CaptureFixture[str]
    ) -> None:
        polls = Counter(task["polls"] for task in soak.bought)
        resumed = sum(log.count(RESUMED) for log in soak.logs)
        with capsys.disabled():
            print(f"\nsoak: {len(soak.instances)} tasks, {resumed} resumed by callback, polls {dict(polls)}")
        ends = Counter((one["state"], one["try_number"]) for one in soak.instances)
        assert ends == {("success", 1): TASKS}

    def test_no_task_was_resumed_twice(self, soak: Soak) -> None:
        resumed = Counter(log.count(RESUMED) for log in soak.logs)
        assert len(soak.logs) == TASKS
        assert set(resumed) <= {0, 1}
        assert resumed[1] >= len(soak.delivered) // 2

    def test_hardly_anything_was_polled(self, soak: Soak) -> None:
        assert max(task["polls"] for task in soak.delivered) <= 2

    def test_each_was_bought_once(self, soak: Soak) -> None:
        assert len(soak.bought) == TASKS

    def test_ledger_manifests_and_results_agree_to_the_cent(self, accounts: Books) -> None:
        assert accounts.charged == accounts.saved == accounts.returned == Decimal("0.035") * IMAGES

    def test_every_image_is_there(self, accounts: Books) -> None:
        assert accounts.recorded == accounts.files
        assert len(accounts.files) == IMAGES
