"""The README cannot rot: its code runs, its tables are the signatures, and what it names exists."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from airflow.sdk import DAG, conf

from airflow_provider_seedream.apixo import backoff, exchange, watch
from airflow_provider_seedream.apixo.account import Account
from airflow_provider_seedream.apixo.model import SEEDREAM_4_5
from airflow_provider_seedream.apixo.records import Submission
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.hooks.connection_form import EXTRA_FIELDS
from airflow_provider_seedream.hooks.seedream import SeedreamHook
from airflow_provider_seedream.operators.seedream import (
    SeedreamDownloadOperator,
    SeedreamGenerateOperator,
    SeedreamSubmitOperator,
)
from airflow_provider_seedream.provider_info import get_provider_info
from airflow_provider_seedream.result import Result
from airflow_provider_seedream.retry_policy import SeedreamRetryPolicy
from airflow_provider_seedream.sandbox.directives import Directives, read_directives
from airflow_provider_seedream.sandbox.server import SandboxServer
from airflow_provider_seedream.sensors.seedream import SeedreamTaskSensor
from airflow_provider_seedream.storage.manifest import SavedImage
from airflow_provider_seedream.storage.naming import FileNames
from airflow_provider_seedream.worker.waiting import CALLBACK_POLL_SECONDS
from dev.result_table import replace_table
from tests.support.apixo import Connect

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
WORDS = " ".join(README.split())


def blocks(language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def section(title: str) -> str:
    """The text under a heading, up to the next heading."""
    found = re.search(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", without_code(), re.DOTALL | re.MULTILINE)
    assert found, title
    return found[1]


def without_code() -> str:
    """The README without its code blocks, whose comments look like headings."""
    return re.sub(r"^```.*?^```$", "", README, flags=re.DOTALL | re.MULTILINE)


def rows(title: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def names_in(cell: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", cell)


def commands(start: str) -> list[list[str]]:
    """The lines of shell blocks that begin with a word, as arguments."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line) for line in lines if line.startswith(start)]


# --- code --------------------------------------------------------------------------------------------


def dags_of(code: str, folder: Path) -> dict[str, DAG]:
    """The DAGs that Airflow finds in a file with this code."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 3.1
        from airflow.models.dagbag import DagBag  # type: ignore[no-redef, attr-defined]

    (folder / "prompts").mkdir()
    (folder / "prompts" / "storyboard.txt").write_text("four frames of a robot")
    (folder / "readme.py").write_text(code)
    bag = DagBag(folder / "readme.py")
    assert bag.import_errors == {}
    return dict(bag.dags)


class TestCode:
    @pytest.mark.parametrize(
        ("dag_id", "tasks"),
        [
            ("first_pictures", ["generate"]),
            ("storyboard", ["download", "submit", "wait"]),
            ("catalogue", ["generate", "prompts"]),
            ("budgeted", ["affordable_rows", "generate"]),
            ("called_back", ["generate"]),
            ("weekly_hero", ["generate"]),
            ("patient", ["generate"]),
        ],
    )
    def test_each_dag_is_one_for_airflow(self, tmp_path: Path, dag_id: str, tasks: list[str]) -> None:
        (code,) = [block for block in blocks("python") if f'DAG("{dag_id}"' in block]
        (dag,) = dags_of(code, tmp_path).values()
        assert (dag.dag_id, sorted(dag.task_ids)) == (dag_id, tasks)

    def test_the_steps_follow_each_other_without_being_told(self, tmp_path: Path) -> None:
        (code,) = [block for block in blocks("python") if 'DAG("storyboard"' in block]
        dag = dags_of(code, tmp_path)["storyboard"]
        upstream = {task.task_id: task.upstream_task_ids for task in dag.tasks}
        assert upstream == {"submit": set(), "wait": {"submit"}, "download": {"wait"}}

    def test_the_rest_buys_and_waits(self, connect: Connect) -> None:
        (code,) = [block for block in blocks("python") if "DAG(" not in block]
        names: dict[str, Any] = {}
        with SandboxServer(time_scale=0) as server:
            connect(host=server.base_url)
            exec(compile(code, "README.md", "exec"), names)
        assert [url.startswith(server.origin) for url in names["urls"]] == [True]

    def test_nothing_is_left_out(self) -> None:
        assert len(blocks("python")) == 8


# --- commands ----------------------------------------------------------------------------------------


def airflow(*arguments: str) -> None:
    """Run Airflow's command line in this process."""
    from airflow.cli.cli_parser import get_parser

    parsed = get_parser().parse_args(arguments)
    parsed.func(parsed)


class TestCommands:
    def test_every_make_target_exists(self) -> None:
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        named = set(re.findall(r"`make ([a-z-]+)`", README))
        assert {"demo", "test"} <= named <= targets

    def test_the_connection_can_be_added(
        self, airflow_database: None, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (add,) = commands("airflow")
        airflow(*add[1:])
        try:
            capsys.readouterr()
            airflow("connections", "get", "seedream_default", "--output", "json")
            (shown,) = json.loads(capsys.readouterr().out)
        finally:
            airflow("connections", "delete", "seedream_default")
        assert (shown["conn_type"], shown["password"]) == ("seedream", "YOUR_KEY")

    def test_what_python_is_told_to_run_exists(self) -> None:
        scripts = re.findall(r"python (\S+\.py)", README)
        assert scripts
        assert [script for script in scripts if not (ROOT / script).is_file()] == []


class TestConnection:
    @pytest.mark.parametrize(
        ("position", "account"),
        [
            (0, Account(api_key="YOUR_KEY")),
            (1, Account(api_key="YOUR_KEY")),
            (2, Account(api_key="YOUR_KEY", price_per_image=Decimal("0.04"), provider="value")),
            (3, Account(api_key="YOUR_KEY", price_per_image=Decimal("0.04"), provider="value")),
            (4, Account(api_key="any-key", base_url="http://127.0.0.1:8765/api/v1")),
        ],
    )
    def test_each_variable_gives_the_account_that_it_claims(
        self, monkeypatch: pytest.MonkeyPatch, position: int, account: Account
    ) -> None:
        name, _, value = commands("export")[position][1].partition("=")
        assert name == "AIRFLOW_CONN_SEEDREAM_DEFAULT"
        monkeypatch.setenv(name, value)
        assert SeedreamHook().account == account

    def test_no_variable_is_left_out(self) -> None:
        assert len(commands("export")) == 5

    def test_the_fields_and_their_defaults(self) -> None:
        defaults = {names_in(row[0])[0]: row[1].strip("`") for row in rows("Connection")}
        plain = Account(api_key="x")
        assert set(defaults) == {"password", "host", *(field.name for field in EXTRA_FIELDS)}
        assert defaults["host"] == plain.base_url
        assert Decimal(defaults["price_per_image"]) == plain.price_per_image
        assert float(defaults["request_timeout"]) == plain.request_timeout
        assert (defaults["provider"], plain.provider) == ("none", None)
        assert (defaults["callback_base_url"], plain.callback_base_url) == ("none", None)


# --- parameters --------------------------------------------------------------------------------------


def parameters_of(operator: type) -> dict[str, inspect.Parameter]:
    """The parameters that an operator has of its own, those of its bases in this package included."""
    found: dict[str, inspect.Parameter] = {}
    for cls in operator.__mro__:
        if cls.__module__.startswith("airflow_provider_seedream") and "__init__" in vars(cls):
            found = {**inspect.signature(cls.__init__).parameters, **found}  # type: ignore[misc]
    return {name: one for name, one in found.items() if one.kind is inspect.Parameter.KEYWORD_ONLY}


TABLES = (SeedreamGenerateOperator, SeedreamTaskSensor, SeedreamDownloadOperator)


@pytest.mark.parametrize("operator", TABLES)
class TestParameters:
    def test_the_table_is_the_signature(self, operator: type) -> None:
        named = [names_in(row[0])[0] for row in rows(f"`{operator.__name__}`")]
        assert sorted(named) == sorted(parameters_of(operator))

    def test_the_defaults_are_those_of_the_code(self, operator: type) -> None:
        stated = {names_in(row[0])[0]: row[1].strip("`") for row in rows(f"`{operator.__name__}`")}
        actual = {name: one.default for name, one in parameters_of(operator).items()}
        assert {name: default_of(text) for name, text in stated.items()} == actual

    def test_the_templates_are_those_of_the_code(self, operator: Any) -> None:
        templated = {names_in(row[0])[0] for row in rows(f"`{operator.__name__}`") if row[2] == "yes"}
        assert templated == set(operator.template_fields)


def default_of(text: str) -> Any:
    """The value that a cell of the column "default" stands for."""
    if text == "required":
        return inspect.Parameter.empty
    if setting := re.fullmatch(r"\[(\w+)\] (\w+)", text):
        return conf.getboolean(*setting.groups())
    return ast.literal_eval(text)


class TestSubmit:
    def test_takes_the_parameters_that_the_text_says(self) -> None:
        of_generate = [names_in(row[0])[0] for row in rows("`SeedreamGenerateOperator`")]
        taken = of_generate[: of_generate.index("provider") + 1]
        taken += of_generate[of_generate.index("seedream_conn_id") :]
        assert sorted(parameters_of(SeedreamSubmitOperator)) == sorted(taken)

    def test_prompt_files(self) -> None:
        (prompt,) = [row for row in rows("`SeedreamGenerateOperator`") if row[0] == "`prompt`"]
        assert tuple(names_in(prompt[3])) == tuple(SeedreamSubmitOperator.template_ext)


class TestHook:
    def test_its_calls_exist_in_both_kinds(self) -> None:
        text = section("`SeedreamHook`").split(";")[0]
        *both, test_connection = [name for name in names_in(text) if name != "_async"]
        assert test_connection == "test_connection"
        for name in (test_connection, *both, *(f"{name}_async" for name in both)):
            assert callable(getattr(SeedreamHook, name))


# --- results -----------------------------------------------------------------------------------------


class TestResults:
    def test_the_table_is_made_from_the_type(self) -> None:
        assert replace_table(README) == README
        table = [name for row in rows("Results") for name in names_in(row[0])]
        assert table == [field.name for field in dataclasses.fields(Result)]

    def test_submit_pushes_the_first_of_its_fields(self) -> None:
        request = GenerateRequest(prompt="x")
        pushed = Submission.of(request, "t", price_per_image=SEEDREAM_4_5.price_per_image, now=0).to_json()
        table = [name for row in rows("Results") for name in names_in(row[0])]
        assert sorted(table[: table.index("fingerprint") + 1]) == sorted(pushed)

    def test_the_facts_of_an_image(self) -> None:
        facts = re.search(r"for each one (.*?) \|", section("Results"))
        assert facts
        assert names_in(facts[1]) == [field.name for field in dataclasses.fields(SavedImage)]

    def test_the_names_of_the_files(self) -> None:
        template = inspect.signature(SeedreamDownloadOperator).parameters["filename"].default
        manifest = FileNames(template, "ID").manifest
        assert f"`{manifest.replace('ID', '{seedream_task_id}')}`" in section("Files")


# --- what it names and counts ------------------------------------------------------------------------


class TestNames:
    def test_every_relative_link_leads_somewhere(self) -> None:
        targets = re.findall(r"\]\(([^)\s]+)\)", README)
        titles = re.findall(r"^#+ (.+)$", without_code(), re.MULTILINE)
        anchors = {"#" + title.strip("`").lower().replace(" ", "-") for title in titles}
        relative = [target for target in targets if "://" not in target]
        assert "docs/contact-sheet.png" in relative
        assert [t for t in relative if t not in anchors and not (ROOT / t).exists()] == []

    def test_every_folder_of_the_layout_exists(self) -> None:
        (layout,) = [block for block in blocks("text") if block.startswith("airflow_provider_seedream/")]
        for line in layout.splitlines():
            inside = "airflow_provider_seedream" if line.startswith("  ") else "."
            for folder in re.findall(r"(\w+)/", re.split(r" {2,}\w", line.strip())[0]):
                assert (ROOT / inside / folder).is_dir(), folder

    def test_every_class_exists(self) -> None:
        known = {SeedreamHook, SeedreamRetryPolicy, SeedreamSubmitOperator, *TABLES}
        assert set(re.findall(r"\bSeedream[A-Z]\w+", README)) == {one.__name__ for one in known}

    def test_no_path_of_somebodys_machine(self) -> None:
        assert re.findall(r"/(?:home|Users|work|root|tmp)/\S*", README) == []


class TestNumbers:
    @pytest.mark.parametrize(
        "phrase",
        [
            f"{SEEDREAM_4_5.price_per_image} USD per delivered image",
            f"sent at most {exchange.MAX_ATTEMPTS} times",
            f"a `Retry-After` of up to {backoff.MAX_BACKOFF:.0f} s is kept",
            f"given up after {watch.MAX_FAILED_POLLS} in a row, or {watch.MAX_UNREADABLE_ANSWERS} answers",
            f"a poll every {CALLBACK_POLL_SECONDS:.0f} s finds what nobody told",
            f"keep the images, {SEEDREAM_4_5.result_lifetime // 86400} days",
            *(f"{tier.pace.first_poll} ({name})" for name, tier in SEEDREAM_4_5.resolutions.items()),
            f"{', '.join(SEEDREAM_4_5.aspect_ratios[:-1])} or {SEEDREAM_4_5.aspect_ratios[-1]};",
        ],
    )
    def test_are_those_of_the_code(self, phrase: str) -> None:
        assert phrase in WORDS

    def test_the_demo_ends_with_the_words_that_its_test_expects(self) -> None:
        (words,) = re.findall(
            r'"(11 images.*?)" in output', (ROOT / "tests/compat/test_airflow_versions.py").read_text()
        )
        assert words in README

    def test_the_versions_are_those_that_are_tested(self) -> None:
        tested = sorted(
            path.stem.removeprefix("constraints-") for path in (ROOT / "dev").glob("constraints-*.txt")
        )
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
        python = project["requires-python"].removeprefix(">=")
        assert f"Airflow {', '.join(tested[:-1])} and {tested[-1]} on Python {python} or later" in WORDS

    def test_the_settings(self) -> None:
        options = get_provider_info()["config"]["seedream"]["options"]
        assert f"{['One setting', 'Two settings'][len(options) - 1]}: " in WORDS
        for name, option in options.items():
            default = f"default `{option['default']}`" if option["default"] else "empty by default"
            assert f"`[seedream] {name}`, {default}" in WORDS


# --- the sandbox -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """The sandbox, started by the README's own command on a free port."""
    (command,) = commands("python -m")
    command[command.index("--port") + 1] = "0"
    process = subprocess.Popen([sys.executable, *command[1:]], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().split(" at ")[1].strip().removesuffix("/api/v1")
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def curl(arguments: list[str], origin: str) -> Any:
    """What ``curl`` would show; it sends data as a form unless told otherwise."""
    (url,) = [one for one in arguments if one.startswith("http")]
    method = arguments[arguments.index("-X") + 1] if "-X" in arguments else "GET"
    data = arguments[arguments.index("-d") + 1] if "-d" in arguments else None
    headers = {"Content-Type": "application/x-www-form-urlencoded"} if data else {}
    target = url.replace("http://127.0.0.1:8765", origin)
    assert target != url
    answer = httpx.request(method, target, content=data, headers=headers, trust_env=False)
    return answer.raise_for_status().json()


class TestSandbox:
    def test_the_examples_refuse_two_submissions_and_show_the_accounts(self, origin: str) -> None:
        refuse, ledger = commands("curl")
        curl(refuse, origin)
        answers = [
            httpx.post(
                f"{origin}/api/v1/generateTask/seedream-4-5",
                json=GenerateRequest(prompt="a fox").body,
                headers={"Authorization": "Bearer any-key"},
                trust_env=False,
            )
            for _ in range(3)
        ]
        assert [answer.status_code for answer in answers] == [429, 429, 200]
        assert answers[0].headers["Retry-After"] == "2"
        shown = curl(ledger, origin)
        assert {"accounts", "tasks", "requests"} <= set(shown)
        assert shown["accounts"]["any-key"]["balance"] + 0.035 == pytest.approx(100)

    def test_the_other_actions_and_controls_are_known(self, origin: str) -> None:
        text = section("Sandbox")
        actions = [json.loads(found) for found in names_in(text) if found.startswith("{")]
        assert len(actions) == 5
        with httpx.Client(base_url=origin, trust_env=False) as http:
            for action in actions:
                http.post(
                    "/sandbox/faults", json={"path": "/statusTask", "action": action}
                ).raise_for_status()
            for control in re.findall(r"`(DELETE|POST) (/sandbox/\w+)`", text):
                http.request(*control).raise_for_status()
            assert http.get("/sandbox/ledger").json()["tasks"] == []

    def test_every_directive_has_an_effect(self) -> None:
        directives = re.findall(r"`(\[\[.+?\]\])`", section("Sandbox"))
        assert len(directives) == len(dataclasses.fields(Directives))
        assert [one for one in directives if read_directives(one, Directives()) == Directives()] == []

    def test_every_option_is_known(self) -> None:
        module = "airflow_provider_seedream.sandbox"
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        options = set(re.findall(r"`(--[a-z-]+)", section("Sandbox")))
        assert {"--balance", "--time-scale", "--fail", "--deliver"} == options
        assert [option for option in options if option not in done.stdout] == []
