"""Whatever comes first, the callback or what it meets: tasks end right, once, and nothing is paid twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import pytest

from airflow_provider_seedream.settings import DEFAULT_MIN_DEFERRAL_SECONDS
from dev.ports import find_free_ports
from dev.postgres import Postgres
from tests.callbacks.deliveries import RESUMED, count_resumes, statuses, token_of
from tests.support.airflow_world import KEY, Purchases, World

pytestmark = pytest.mark.long

HOURS = 10_100
"""Seconds by which a task of [[seconds:100000]] is finished, ten times as fast."""

GENERATE = "callbacks_generate"


@pytest.fixture
def purchases(world: World) -> Iterator[Purchases]:
    """What a test buys; no fault outlives it."""
    yield Purchases(world)
    world.clear_faults()


@dataclass(frozen=True)
class Waiting:
    """A deferred task and its purchase."""

    world: World
    dag_id: str
    run_id: str
    seedream_task_id: str
    waits: str = "generate"

    def finish(self) -> None:
        """Let the purchase end at APIXO; what is delivered is up to the test."""
        self.world.clock.put_forward(HOURS)

    def deliver(self) -> int | None:
        """Let the callback come; the status of the answer."""
        return self.world.deliver(self.seedream_task_id)

    @property
    def state(self) -> str:
        """Of the Airflow task."""
        return str(self.world.stack.get_task_instance(self.dag_id, self.run_id, self.waits)["state"])

    def resumed_once(self) -> bool:
        """Whether it has ended well, after a callback has resumed it once."""
        succeeded = self.world.stack.wait_for_run(self.dag_id, self.run_id) == "success"
        return succeeded and count_resumes(self.world, self.dag_id, self.run_id, self.waits) == 1


def wait_for_callback(
    world: World, dag_id: str = GENERATE, buys: str = "generate", waits: str = "generate", **conf: str
) -> Waiting:
    """Run a DAG until it waits for a callback.

    :param conf: ``prompt`` and ``connection``, where they are not the DAG's.
    """
    run_id = world.stack.trigger(dag_id, conf)
    world.stack.wait_for_task(dag_id, run_id, waits, "deferred")
    submission = world.stack.read_xcom(dag_id, run_id, buys, "submission")
    return Waiting(world, dag_id, run_id, submission["seedream_task_id"], waits)


def wait_until_delivered(world: World, purchases: Purchases) -> None:
    """Wait until the callback of the first purchase was accepted."""
    world.stack.wait_until(
        lambda: any(200 in statuses(task) for task in purchases.tasks()), "the callback is accepted", 120
    )


def wait_until_up(world: World, url: str) -> None:
    """Wait until an api-server answers."""

    def up() -> bool:
        with suppress(httpx.HTTPError):
            return httpx.get(f"{url}/api/v2/monitor/health", timeout=5).is_success
        return False

    world.stack.wait_until(up, f"{url} answers", 120)


# --- the callback is early ---------------------------------------------------------------------------


@pytest.mark.callback_order(
    "The callback comes before the answer to the submission",
    "It is parked; the worker finds it, polls once, and does not wait at all",
)
def test_a_callback_may_come_before_the_task_waits(world: World, purchases: Purchases) -> None:
    world.fault("/generateTask", delay=8)
    run_id = world.stack.trigger(GENERATE, {"prompt": "a fox [[seconds:0]]"})
    assert world.stack.wait_for_run(GENERATE, run_id) == "success"
    (task,) = purchases.tasks()
    assert (statuses(task), task["polls"]) == ([200], 1)
    assert RESUMED not in world.stack.read_task_log(GENERATE, run_id, "generate")


@pytest.mark.callback_order(
    "The callback comes in the first seconds of the deferral, when a resume would make Airflow fail the task",
    "It is parked, and the api-server resumes the task as soon as that is safe",
)
def test_a_callback_may_come_within_the_first_seconds(world: World, purchases: Purchases) -> None:
    run_id = world.stack.trigger(GENERATE, {"prompt": "a fox [[seconds:30]]"})
    assert world.stack.wait_for_run(GENERATE, run_id) == "success"
    (task,) = purchases.tasks()
    assert (statuses(task), task["polls"]) == ([200], 1)
    assert count_resumes(world, GENERATE, run_id, "generate") == 1
    ended = datetime.fromisoformat(world.stack.get_task_instance(GENERATE, run_id, "generate")["end_date"])
    waited = ended.timestamp() - (task["submitted_at"] - world.clock.ahead)
    assert waited > DEFAULT_MIN_DEFERRAL_SECONDS


@pytest.mark.callback_order(
    "The worker is killed (SIGKILL) between the submission and the record of its answer; the callback comes "
    "before that, or while the next try asks itself what it has bought",
    "The next try learns the taskId from the callback, has APIXO confirm it, and buys nothing",
)
@pytest.mark.parametrize("seconds", [0, 120], ids=["callback-first", "kill-first"])
def test_a_callback_tells_what_a_killed_worker_has_bought(
    world: World, purchases: Purchases, seconds: int
) -> None:
    dag_id = "callbacks_killed"
    world.fault("/generateTask", delay=600)
    conf = {"prompt": f"a fox [[seconds:{seconds}]]", "connection": "seedream_short_timeout"}
    run_id = world.stack.trigger(dag_id, conf)
    world.stack.wait_until(lambda: len(purchases.tasks()) == 1, "the task is bought", 120)
    if not seconds:
        wait_until_delivered(world, purchases)
    world.stack.kill_task(dag_id, run_id, "generate")
    assert world.stack.wait_for_run(dag_id, run_id) == "success"
    (task,) = purchases.tasks()
    assert statuses(task) == [200]
    assert world.stack.read_xcom(dag_id, run_id, "generate")["seedream_task_id"] == task["taskId"]
    world.wait_for_log(dag_id, run_id, "generate", "a callback has told it", 2)


# --- nobody waits any more ---------------------------------------------------------------------------


@pytest.mark.callback_order(
    "The task was marked as failed",
    "The callback is refused (404); nothing changes",
)
def test_a_callback_for_a_task_that_was_marked_failed(world: World, purchases: Purchases) -> None:
    waiting = wait_for_callback(world)
    world.stack.mark_failed(waiting.dag_id, waiting.run_id, "generate")
    waiting.finish()
    assert waiting.deliver() == 404
    assert world.stack.wait_for_run(waiting.dag_id, waiting.run_id) == "failed"
    assert (waiting.state, len(purchases.tasks())) == ("failed", 1)


@pytest.mark.callback_order(
    "The task was cleared, and has bought anew",
    "The callback of the old purchase is refused (404), that of the new one resumes the task",
)
def test_a_callback_for_a_task_that_was_cleared(world: World, purchases: Purchases) -> None:
    old = wait_for_callback(world)
    world.stack.clear(old.dag_id, old.run_id, "generate")
    world.stack.wait_until(lambda: len(purchases.tasks()) == 2, "it buys anew", 120)
    world.stack.wait_for_task(old.dag_id, old.run_id, "generate", "deferred")
    new = purchases.tasks()[1]["taskId"]
    old.finish()
    assert (old.deliver(), old.state) == (404, "deferred")
    assert world.deliver(new) == 200
    assert world.stack.wait_for_run(old.dag_id, old.run_id) == "success"
    assert world.stack.read_xcom(old.dag_id, old.run_id, "generate")["seedream_task_id"] == new
    assert count_resumes(world, old.dag_id, old.run_id, "generate", try_number=2) == 1


@pytest.mark.callback_order(
    "The deadline has passed, and the task is to be retried",
    "It is parked; the retry carries on with what was bought, and delivers it",
)
def test_a_callback_after_the_deadline(world: World, purchases: Purchases) -> None:
    waiting = wait_for_callback(world, "callbacks_deadline")
    world.stack.wait_for_task(waiting.dag_id, waiting.run_id, "generate", "up_for_retry")
    waiting.finish()
    assert waiting.deliver() == 200
    assert world.stack.wait_for_run(waiting.dag_id, waiting.run_id) == "success"
    assert len(purchases.tasks()) == 1


@pytest.mark.callback_order(
    "The sensor has ended before, since it polled",
    "It is accepted, and repeated deliveries are; nobody is resumed",
)
def test_a_callback_after_the_sensor_has_ended(world: World) -> None:
    dag_id = "callbacks_sensor_first"
    run_id = world.stack.trigger(dag_id, {"prompt": "a fox [[seconds:0]] [[callback:lost]]"})
    world.stack.wait_for_task(dag_id, run_id, "wait", "success")
    world.stack.wait_for_task(dag_id, run_id, "other", "deferred")
    submitted = world.stack.read_xcom(dag_id, run_id, "submit")
    other = world.stack.read_xcom(dag_id, run_id, "other", "submission")["seedream_task_id"]
    assert world.deliver(submitted) == 200
    world.clock.put_forward(HOURS)
    assert world.deliver(other) == 200
    assert world.stack.wait_for_run(dag_id, run_id) == "success"
    assert world.deliver(submitted) == 200
    assert world.stack.get_run_state(dag_id, run_id) == "success"
    assert count_resumes(world, dag_id, run_id, "wait") == 0


@pytest.mark.callback_order("The DAG was deleted", "The callback is refused (404)")
def test_a_callback_for_a_dag_that_is_gone(world: World) -> None:
    waiting = wait_for_callback(world, "callbacks_deleted")
    world.stack.call_api("DELETE", f"/dags/{waiting.dag_id}")
    waiting.finish()
    assert waiting.deliver() == 404


# --- twice, and never --------------------------------------------------------------------------------


@pytest.mark.callback_order(
    "The callback comes twice at the same moment",
    "Both are accepted, the task is resumed once",
)
def test_a_callback_that_comes_twice(world: World, purchases: Purchases) -> None:
    waiting = wait_for_callback(world, prompt="a fox [[callback:twice]] [[seconds:200]]")
    assert waiting.resumed_once()
    (task,) = purchases.tasks()
    assert (statuses(task), task["polls"]) == ([200, 200], 1)


@pytest.mark.callback_order(
    "The callback comes to two api-servers at once, several times",
    "All are accepted, the task is resumed once",
)
def test_a_callback_that_comes_to_two_api_servers(
    world: World, purchases: Purchases, second: ApiServer
) -> None:
    waiting = wait_for_callback(world)
    waiting.finish()
    address = purchases.tasks()[0]["callback_url"]
    addresses = [address, address.replace(world.stack.url, second.url)] * 4
    body = {"code": 200, "data": {"taskId": waiting.seedream_task_id, "state": "success"}}
    with ThreadPoolExecutor(len(addresses)) as threads:
        answers = list(threads.map(lambda url: httpx.post(url, json=body, timeout=60), addresses))
    assert {answer.status_code for answer in answers} == {200}
    assert waiting.resumed_once()


@pytest.mark.callback_order(
    "The callback never comes",
    "The trigger's few polls find the result",
)
def test_a_callback_that_is_lost(world: World, purchases: Purchases) -> None:
    waiting = wait_for_callback(world, "callbacks_polls", prompt="a fox [[callback:lost]] [[seconds:100]]")
    assert world.stack.wait_for_run(waiting.dag_id, waiting.run_id) == "success"
    (task,) = purchases.tasks()
    assert statuses(task) == []
    assert 1 <= task["polls"] <= 3


# --- the machines --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ApiServer:
    """A second api-server, which has a role of its own in the database.

    :param connection: the callbacks of whose tasks go there.
    """

    url: str
    connection: str
    database: Postgres
    role: str

    def lose_database(self) -> None:
        """From now on, the database refuses its connections, the open ones too."""
        self.database.query(f"ALTER ROLE {self.role} NOLOGIN")
        self.database.query(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{self.role}'"
        )

    def find_database(self) -> None:
        """From now on, the database accepts its connections."""
        self.database.query(f"ALTER ROLE {self.role} LOGIN")


@pytest.fixture(scope="module")
def second(world: World, database: Postgres) -> Iterator[ApiServer]:
    """Another api-server beside the stack's own."""
    (port,) = find_free_ports(1)
    name = "second-api-server"
    server = ApiServer(f"http://127.0.0.1:{port}", "seedream_second", database, "second")
    database.query(f"CREATE ROLE {server.role} SUPERUSER LOGIN")
    env = {
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database.url.replace("//airflow@", f"//{server.role}@"),
    }
    world.stack.start_component("api-server", name, env)
    world.stack.run_airflow(
        *("connections", "add", server.connection, "--conn-type", "seedream", "--conn-password", KEY),
        *("--conn-host", world.sandbox.base_url),
        *("--conn-extra", f'{{"callback_base_url": "{server.url}"}}'),
    )
    wait_until_up(world, server.url)
    yield server
    world.stack.kill(name)


@pytest.mark.callback_order(
    "The database refuses the api-server's connections for a while",
    "503, so that APIXO repeats the callback; the repeat resumes the task",
)
def test_a_callback_while_the_database_is_down(world: World, second: ApiServer) -> None:
    waiting = wait_for_callback(world, connection=second.connection)
    waiting.finish()
    second.lose_database()
    try:
        assert waiting.deliver() == 503
    finally:
        second.find_database()
    assert waiting.state == "deferred"
    assert waiting.deliver() == 200
    assert waiting.resumed_once()


@pytest.mark.callback_order(
    "The api-server is killed (SIGKILL) before the callback comes, and started anew",
    "APIXO gets no answer and repeats the callback; the repeat resumes the task",
)
def test_a_callback_while_the_api_server_is_down(world: World) -> None:
    waiting = wait_for_callback(world)
    waiting.finish()
    world.stack.kill("api-server")
    try:
        assert waiting.deliver() is None
    finally:
        world.stack.start_component("api-server")
        wait_until_up(world, world.stack.url)
    assert waiting.deliver() == 200
    assert waiting.resumed_once()


@pytest.mark.callback_order(
    "The api-server is killed (SIGKILL) after it has answered and before it could resume the task",
    "The delivery record is kept; the trigger's few polls find the result",
)
def test_an_api_server_that_dies_after_its_answer(world: World, purchases: Purchases) -> None:
    waiting = wait_for_callback(world, "callbacks_polls")
    waiting.finish()
    assert waiting.deliver() == 200
    world.stack.kill("api-server")
    world.stack.start_component("api-server")
    wait_until_up(world, world.stack.url)
    assert world.stack.wait_for_run(waiting.dag_id, waiting.run_id) == "success"
    assert count_resumes(world, waiting.dag_id, waiting.run_id, "generate") == 0
    assert len(purchases.tasks()) == 1


# --- who waits ---------------------------------------------------------------------------------------


@pytest.mark.callback_order(
    "Submit buys, a deferred sensor waits",
    "The sensor is resumed",
)
def test_a_sensor_is_resumed(world: World, purchases: Purchases) -> None:
    waiting = wait_for_callback(world, "callbacks_sensor", "submit", "wait")
    waiting.finish()
    assert waiting.deliver() == 200
    assert waiting.resumed_once()
    assert purchases.tasks()[0]["polls"] == 1


@pytest.fixture(scope="module")
def groups(world: World) -> tuple[str, list[dict[str, Any]]]:
    """A run of Submit + Sensor in a mapped task group, and what it bought."""
    purchases = Purchases(world)
    run_id = world.stack.trigger("callbacks_groups")
    assert world.stack.wait_for_run("callbacks_groups", run_id) == "success"
    return run_id, purchases.tasks()


@pytest.mark.callback_order(
    "Submit and sensor are mapped with their task group, and end in another order",
    "Each callback resumes the sensor of its own purchase",
)
def test_mapped_sensors_are_resumed(world: World, groups: tuple[str, list[dict[str, Any]]]) -> None:
    run_id, bought = groups
    for index in range(3):
        submitted = world.stack.read_xcom("callbacks_groups", run_id, "shot.submit", map_index=index)
        result = world.stack.read_xcom("callbacks_groups", run_id, "shot.wait", map_index=index)
        assert result["seedream_task_id"] == submitted
        assert count_resumes(world, "callbacks_groups", run_id, "shot.wait", index) == 1
    assert [(statuses(task), task["polls"]) for task in bought] == [([200], 1)] * 3


FAILURES = {"code500": "", "code200": "[[callback:code200]]"}
"""What makes the sandbox announce a failure so."""


@pytest.fixture(scope="module")
def failures(world: World) -> tuple[Purchases, dict[str, Waiting]]:
    """Tasks that wait for news of a failure, both at once, and what was bought for them."""
    purchases = Purchases(world)
    prompt = "a fox [[fail:SensitiveContentDetected]] {} [[seconds:200]]"
    return purchases, {
        name: wait_for_callback(world, prompt=prompt.format(page)) for name, page in FAILURES.items()
    }


@pytest.mark.callback_order(
    "The generation has failed, announced with code 500 or code 200",
    "The task is resumed and fails, with APIXO's reason; nothing is paid",
)
@pytest.mark.parametrize("announced", FAILURES)
def test_failures_resume_as_well(
    world: World, failures: tuple[Purchases, dict[str, Waiting]], announced: str
) -> None:
    purchases, waiting = failures[0], failures[1][announced]
    assert world.stack.wait_for_run(waiting.dag_id, waiting.run_id) == "failed"
    world.wait_for_log(waiting.dag_id, waiting.run_id, "generate", "SensitiveContentDetected")
    assert count_resumes(world, waiting.dag_id, waiting.run_id, "generate") == 1
    task = world.task(waiting.seedream_task_id)
    assert (statuses(task), task["charged"] - task["refunded"]) == ([200], 0)
    assert len(purchases.tasks()) == len(FAILURES)


# --- nobody reads the tokens -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nonces(world: World, groups: tuple[str, list[dict[str, Any]]]) -> list[bytes]:
    """The secret parts of all tokens that were sent out so far; some came with what is refused."""
    _, bought = groups
    address = bought[0]["callback_url"]
    answers = [
        httpx.get(address),
        httpx.post(address, content=b"no json"),
        httpx.post(f"{address}x", json={}),
    ]
    assert {answer.status_code for answer in answers} == {404}
    awaited = [task for task in world.ledger()["tasks"] if task["callback_url"]]
    return [token_of(task).rpartition(".")[2].encode() for task in awaited]


class TestTheToken:
    def test_is_in_no_log_and_in_no_other_file(self, world: World, nonces: list[bytes]) -> None:
        secret = re.compile(b"|".join(map(re.escape, nonces)))
        files = [path for path in world.stack.home.rglob("*") if path.is_file()]
        assert [path for path in files if secret.search(path.read_bytes())] == []

    def test_although_each_delivery_is_in_the_access_log(self, world: World, nonces: list[bytes]) -> None:
        assert world.stack.find_log("api-server").read_bytes().count(b"/seedream/callback/") >= len(nonces)

    def test_is_not_in_the_database(self, database: Postgres, nonces: list[bytes]) -> None:
        dump = database.dump().encode()
        assert [nonce for nonce in nonces if nonce in dump] == []
