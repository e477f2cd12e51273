"""Three hundred tasks against an API that has a bad day: every one ends right, and the books balance."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest

from dev.postgres import Postgres
from tests.support.airflow_world import Purchases, World
from tests.support.books import Books, books

pytestmark = pytest.mark.long

TASKS = 300
IMAGES = 450
LIMIT_SECONDS = 900

THROTTLED = {"status": 429, "headers": {"Retry-After": "1"}}
OWN_ERROR = {"status": 503}
GATEWAY_PAGE = {"status": 502, "body": "<html>Bad Gateway</html>"}
BAD_DAY = {
    # A submission that was accepted and lost its answer is paid for by nobody's manifest, so no "after" here.
    "/generateTask": [THROTTLED, OWN_ERROR, {"drop": "before"}, {"delay": 2}],
    "/statusTask": [THROTTLED, GATEWAY_PAGE, {"drop": "after"}, {"delay": 2}],
    "/results": [{"truncate": 5_000}, OWN_ERROR, {"drop": "after"}, {"delay": 2}],
}
EVERY = 40
"""Each of four faults hits every 40th request of its path: one answer in ten."""


@pytest.fixture(scope="module")
def soaked(world: World) -> tuple[str, Purchases]:
    """The run, when it has ended, and what it bought."""
    purchases = Purchases(world)
    for path, actions in BAD_DAY.items():
        for action in actions:
            world.fault(path, times=100_000, every=EVERY, **action)
    try:
        run_id = world.stack.trigger("faults_soak")
        world.stack.wait_for_run("faults_soak", run_id, timeout=LIMIT_SECONDS)
    finally:
        world.clear_faults()
    return run_id, purchases


@pytest.fixture(scope="module")
def accounts(world: World, database: Postgres, soaked: tuple[str, Purchases]) -> Books:
    """The run's books."""
    run_id, purchases = soaked
    return books(purchases.tasks(), world.images / "soak", database, "faults_soak", run_id)


@pytest.mark.fault(
    "One answer in ten is a 429, a 5xx, a reset or a delay, while 300 mapped tasks run",
    "Every task ends right, with all its images",
    "each image once: ledger and manifests agree to the cent",
)
class TestABadDay:
    def test_every_task_succeeds(
        self, world: World, soaked: tuple[str, Purchases], capsys: pytest.CaptureFixture[str]
    ) -> None:
        run_id, purchases = soaked
        instances = world.stack.list_task_instances("faults_soak", run_id)
        tries = Counter(ti["try_number"] for ti in instances)
        polls = sum(task["polls"] for task in purchases.tasks())
        with capsys.disabled():
            print(f"\nsoak: {len(instances)} tasks, tries {dict(tries)}, {polls} polls")
        assert Counter(ti["state"] for ti in instances) == {"success": TASKS}

    def test_each_was_bought_once(self, soaked: tuple[str, Purchases]) -> None:
        _, purchases = soaked
        assert len(purchases.tasks()) == TASKS

    def test_ledger_manifests_and_results_agree_to_the_cent(self, accounts: Books) -> None:
        assert accounts.charged == accounts.saved == accounts.returned == Decimal("0.035") * IMAGES

    def test_every_image_is_there(self, accounts: Books) -> None:
        assert accounts.recorded == accounts.files
        assert len(accounts.files) == IMAGES
