"""The API key is in nothing that a run leaves behind, however it ends."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from airflow_provider_seedream.sandbox.server import SandboxServer
from dev.postgres import Postgres
from tests.support.airflow_world import World
from tests.support.sandbox_control import SandboxControl

pytestmark = pytest.mark.long

# Characters that URLs, JSON and base64 write differently.
KEY = "sk-stored/7+c1=93ab77"
CANARY = "canary/4+d2=51e0c8"
"""Goes through the same runs as the key, in prompt and destination, where it may be seen."""

Remains = Mapping[str, bytes]
"""What was left behind, by the name of the place."""


def forms(secret: str) -> set[bytes]:
    """The ways in which a secret may be written: as it is, escaped, or within something in base64."""
    plain = {secret, quote(secret, safe=""), quote(secret), secret.replace("/", "\\/")}
    return {form.encode() for form in plain} | set(_within_base64(secret.encode()))


def _within_base64(secret: bytes) -> Iterator[bytes]:
    """The characters that a secret alone decides, for each of the three ways in which it may be aligned."""
    for before in range(3):
        first, end = -(-before * 8 // 6), (before + len(secret)) * 8 // 6
        for altchars in (b"+/", b"-_"):
            yield base64.b64encode(bytes(before) + secret, altchars)[first:end]


def holding(secret: str, places: Remains) -> list[str]:
    """The places that hold a secret in any form."""
    wanted = forms(secret)
    return [name for name, content in places.items() if any(form in content for form in wanted)]


class TestTheSearch:
    @pytest.mark.parametrize(
        "written",
        [
            f"Authorization: Bearer {KEY}\n",
            json.dumps({"headers": {"authorization": KEY}}),
            f"https://api.example.com/?key={quote(KEY, safe='')}",
            f'{{"key": "{KEY.replace("/", chr(92) + "/")}"}}',
            *(base64.b64encode(f"{before}{KEY}:x".encode()).decode() for before in ("", "u", "u:")),
            base64.urlsafe_b64encode(f"Bearer {KEY}".encode()).decode(),
        ],
    )
    def test_finds_a_key_in_every_form(self, written: str) -> None:
        assert holding(KEY, {"clean": b"nothing", "leak": written.encode()}) == ["leak"]


# --- the runs ----------------------------------------------------------------------------------------

ECHO = {
    "code": 401,
    "message": f"Invalid API key {KEY}",
    "data": {"error": f"Authorization: Bearer {KEY}", "failMsg": f"the key {KEY} is unknown"},
}
"""What a careless server answers."""


@dataclass(frozen=True)
class Runs:
    """Every run that has seen the key, as (DAG id, run id); and where a redirect led."""

    good: tuple[str, str]
    redirected_away: tuple[str, str]
    redirected: tuple[str, str]
    refused: tuple[str, str]
    unreadable: tuple[str, str]
    requests_elsewhere: list[dict[str, Any]]

    def all(self) -> list[tuple[str, str]]:
        """All runs."""
        return [self.good, self.redirected_away, self.redirected, self.refused, self.unreadable]


@pytest.fixture(scope="module")
def runs(world: World) -> Iterator[Runs]:
    """A good run and four bad ones, with a connection that is stored in the metadata database."""
    world.stack.run_airflow(
        *("connections", "add", "seedream_stored", "--conn-type", "seedream"),
        *("--conn-host", world.sandbox.base_url, "--conn-password", KEY),
    )
    seen = {"prompt": f"a fox {CANARY}", "folder": f"key/{CANARY}"}
    good = run(world, "faults_key", seen)
    finished = {"folder": "elsewhere", "seedream_task_id": world.stack.read_xcom(*good, "submit")}
    with SandboxServer() as other:
        redirect(world, f"{other.origin}/results/elsewhere.png")
        redirected_away = run(world, "faults_key_download", finished)
        requests_elsewhere = SandboxControl(other.origin).ledger()["requests"]
    redirect(world, f"{world.sandbox.origin}/results/moved.png")
    redirected = run(world, "faults_key_download", finished)
    world.fault("/generateTask", status=401, body=ECHO)
    refused = run(world, "faults_key_generate", seen)
    world.fault("/statusTask", status=401, body=ECHO)
    unreadable = run(world, "faults_key_generate", seen)
    yield Runs(good, redirected_away, redirected, refused, unreadable, requests_elsewhere)
    world.clear_faults()


def run(world: World, dag_id: str, conf: Mapping[str, str]) -> tuple[str, str]:
    """Run a DAG to its end."""
    run_id = world.stack.trigger(dag_id, conf)
    world.stack.wait_for_run(dag_id, run_id)
    return dag_id, run_id


def redirect(world: World, location: str) -> None:
    """Let the result host send the next request for an image elsewhere."""
    world.fault("/results", status=302, headers={"Location": location}, body="")


@pytest.fixture(scope="module")
def places(world: World, database: Postgres, runs: Runs) -> Remains:
    """Everything that the runs left behind."""
    return {
        "database": database.dump().encode(),
        **dict(files(world.stack.home)),
        **dict(files(world.images)),
        **{name: json.dumps(answer).encode() for name, answer in answers(world, runs)},
    }


def files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            yield str(path), path.read_bytes()


def answers(world: World, runs: Runs) -> Iterator[tuple[str, Any]]:
    """What Airflow's REST API tells about the runs and the connection."""
    stack = world.stack
    yield "REST event logs", stack.call_api("GET", "/eventLogs?limit=1000")
    yield "REST connections", stack.call_api("GET", "/connections")
    yield "sandbox requests", world.ledger()["requests"]
    for dag_id, run_id in runs.all():
        instances = stack.list_task_instances(dag_id, run_id)
        yield f"REST rendered {dag_id} {run_id}", [ti["rendered_fields"] for ti in instances]
        for ti in instances:
            task_id = ti["task_id"]
            yield f"REST log {dag_id} {run_id} {task_id}", stack.read_task_log(dag_id, run_id, task_id)
            path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries"
            for entry in stack.call_api("GET", path)["xcom_entries"]:
                name = f"REST XCom {dag_id} {run_id} {task_id} {entry['key']}"
                yield name, stack.read_xcom(dag_id, run_id, task_id, entry["key"])


# --- the promises ------------------------------------------------------------------------------------


@pytest.mark.fault(
    "Runs end well, are refused, are redirected, or meet a server that echoes the key in its errors",
    "The key is in no log, database row, rendered template, XCom, manifest or file",
    "only what was delivered",
)
class TestTheKey:
    def test_is_nowhere(self, places: Remains) -> None:
        assert holding(KEY, places) == []

    @pytest.mark.parametrize(
        "place", ["database", "/logs/", "manifest.json", "REST rendered", "REST XCom", "REST log"]
    )
    def test_would_have_been_found(self, places: Remains, place: str) -> None:
        assert [name for name in holding(CANARY, places) if place in name]

    def test_was_used_by_every_run(self, world: World, runs: Runs) -> None:
        states = [world.stack.get_run_state(*one) for one in runs.all()]
        assert states == ["success", "failed", "failed", "failed", "failed"]

    def test_an_error_that_echoed_it_is_still_understood(self, world: World, runs: Runs) -> None:
        for one in (runs.refused, runs.unreadable):
            assert "HTTP 401: Invalid API key ***" in world.stack.read_task_log(*one, "generate")


@pytest.mark.fault(
    "The result host redirects the download to another host",
    "Nothing is requested there; the download fails and names the rule. The result host never gets the key",
    "nothing more",
)
class TestTheResultHost:
    def test_never_sees_an_authorization_header(self, world: World, runs: Runs) -> None:
        requests = [one for one in world.ledger()["requests"] if one["path"].startswith("/results")]
        assert any(one["path"] == "/results/moved.png" for one in requests)
        assert [one for one in requests if "authorization" in map(str.lower, one["headers"])] == []

    def test_another_host_is_not_asked_at_all(self, world: World, runs: Runs) -> None:
        assert runs.requests_elsewhere == []
        assert "only https:// is fetched" in world.stack.read_task_log(*runs.redirected_away, "download")
