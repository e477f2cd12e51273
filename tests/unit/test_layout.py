"""The rules of the house that no linter knows: sizes, docstrings, words, tests, and what parsing a DAG loads.

Which room may import which stands in pyproject.toml, under ``[tool.importlinter]``.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "airflow_provider_seedream"
MODULES = sorted(PACKAGE.rglob("*.py"))
EXAMPLES = sorted((ROOT / "dags_examples").glob("*.py"))

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def definitions(path: Path) -> Iterator[Definition]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, Definition))


def place(path: Path, line: int = 1) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def check_none(found: list[str], rule: str) -> None:
    """Fail with every place that breaks a rule."""
    if found:
        pytest.fail("\n".join([rule, *found]), pytrace=False)


# --- sizes -------------------------------------------------------------------------------------------


MAX_LINES = {"operators/seedream.py": 430}
"""Lines of the one module that may be longer: its operators' docstrings are the reference of parameters."""


def test_no_module_is_too_long_to_be_read_at_once() -> None:
    sizes = {path: len(path.read_text().splitlines()) for path in MODULES}
    long = [
        f"{place(path)} {size} lines"
        for path, size in sizes.items()
        if size > MAX_LINES.get(path.relative_to(PACKAGE).as_posix(), 400)
    ]
    check_none(long, "A module has at most 400 lines.")


def test_no_class_is_too_long_to_have_one_job() -> None:
    sizes = {
        f"{place(path, node.lineno)} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in MODULES
        for node in definitions(path)
        if isinstance(node, ast.ClassDef)
    }
    long = [f"{name} {size} lines" for name, size in sizes.items() if size > 250]
    check_none(long, "A class has at most 250 lines.")


# --- docstrings --------------------------------------------------------------------------------------


def test_a_room_is_described_in_one_sentence() -> None:
    sentence = re.compile(r"[A-Z](?:(?![.!?]\s).)*\.", re.DOTALL)
    other = [
        place(path)
        for path in MODULES
        if path.name == "__init__.py" and not sentence.fullmatch(ast.get_docstring(tree_of(path)) or "")
    ]
    check_none(other, "A package's docstring is one sentence: what it is for, and who enters it.")


def test_a_module_says_why_it_exists() -> None:
    silent = [place(path) for path in MODULES if not ast.get_docstring(tree_of(path))]
    check_none(silent, "A module has a docstring.")


QUESTIONS = {"What", "Whether", "Where", "How", "Why", "Who", "Whose", "Whom", "When", "Which", "As"}


def test_a_docstring_says_what_is_done_or_returned_and_asks_nothing() -> None:
    asked = [
        f"{place(path, getattr(node, 'lineno', 1))} {text.splitlines()[0]}"
        for path in [*MODULES, *EXAMPLES]
        for node in [tree_of(path), *definitions(path)]
        if (text := ast.get_docstring(node)) and re.findall(r"\w+", text)[0] in QUESTIONS
    ]
    check_none(asked, f"A docstring opens with none of {', '.join(sorted(QUESTIONS))}.")


# --- words -------------------------------------------------------------------------------------------


GONE = {
    r"(?:first_?)?looks?|looked|looking": "poll, or find, read, ask",
    r"glances?|glanced": "poll, or try_balance",
    r"shelf|shelves": "queries",
    r"desks?": "deliveries",
    r"luck|lucky": "Timing",
    r"last_?words": "advice",
    r"resumptions?": "resume event",
    r"hasty|patience": "bounded, timeout",
    r"receipts?": "ReceiveResult",
    r"hidden_?token": "token_redaction",
    r"portless": "connection_test_fix",
}
"""Words that once stood for several things or for none, and the trade's words for these."""

ENGLISH = re.compile(r"\blook(?:s|ed|ing)? (?:like|up)\b")

WORDED = [
    path
    for folder in (PACKAGE.name, "benchmarks", "dags_examples", "dev", "docs", "tests")
    for kind in ("py", "html", "js", "css", "md")
    for path in sorted((ROOT / folder).rglob(f"*.{kind}"))
    if path != Path(__file__)
] + [ROOT / "README.md"]

CATALOGUE = ("on a shelf", "desk lamp")
"""Pictures that the examples draw."""


@pytest.mark.parametrize(("gone", "instead"), GONE.items(), ids=list(GONE.values()))
def test_a_word_that_is_gone_stays_gone(gone: str, instead: str) -> None:
    word = re.compile(rf"(?<![a-z])(?:{gone})(?![a-z])", re.IGNORECASE)
    found = [
        f"{place(path, number)} {line.strip()}"
        for path in WORDED
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if word.search(ENGLISH.sub("", line)) and not any(picture in line for picture in CATALOGUE)
    ]
    check_none(found, f"The word is {instead}.")


# --- Airflow's versions ------------------------------------------------------------------------------


def test_airflows_versions_are_told_apart_in_one_module() -> None:
    told = re.compile(r"AIRFLOW_V_|version_compat|from airflow import __version__|airflow\.__version__")
    found = [place(path) for path in MODULES if told.search(path.read_text())]
    assert found == ["airflow_provider_seedream/airflow_compat.py:1"]


# --- what parsing a DAG loads ------------------------------------------------------------------------


PARSED = ("operators.seedream", "sensors.seedream", "links.seedream", "parameters", "provider_info", "urls")
HEAVY = {
    "aiohttp", "asyncio", "cachetools", "fastapi", "fsspec", "httpx", "httpx_aiohttp", "jinja2", "PIL",
    "pydantic", "pydantic_core", "sqlalchemy", "starlette", "tenacity", "uvicorn", "wtforms",
}  # fmt: skip
NOT_PARSED = (
    "apixo.client", "apixo.exchange", "callback_endpoint", "gallery", "hooks.seedream", "plugins",
    "purchases.journal", "purchases.purchases", "sandbox", "storage.destination", "storage.save", "triggers",
    "worker",
)  # fmt: skip


@pytest.fixture(scope="module")
def parsed() -> dict[str, Path]:
    """The modules of this package that a DAG file loads with its operators and sensor, and their files."""
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(f'airflow_provider_seedream.{name}')\n"
        "for name, module in sorted(sys.modules.items()):\n"
        "    if name.startswith('airflow_provider_seedream.'): print('loaded', name, module.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *PARSED], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = [line.split(" ", 2)[1:] for line in done.stdout.splitlines() if line.startswith("loaded ")]
    return {name.removeprefix("airflow_provider_seedream."): Path(file) for name, file in loaded}


def imported_at_once(path: Path) -> set[str]:
    """The libraries that a module imports when it is imported itself, other than for a type checker."""
    found = set()
    for node in tree_of(path).body:
        for one in ast.walk(node) if isinstance(node, ast.Try | ast.With) else [node]:
            if isinstance(one, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in one.names}
            elif isinstance(one, ast.ImportFrom):
                found.add(str(one.module).partition(".")[0])
    return found


class TestParsingADag:
    def test_enters_no_room_that_only_a_running_task_or_the_api_server_needs(
        self, parsed: dict[str, Path]
    ) -> None:
        entered = [name for name in parsed if f"{name}.".startswith(tuple(f"{room}." for room in NOT_PARSED))]
        assert "operators.seedream" in parsed
        assert entered == []

    def test_imports_no_heavy_library(self, parsed: dict[str, Path]) -> None:
        # Airflow has imported some of them already, so the interpreter cannot tell who did.
        heavy = {name: HEAVY & imported_at_once(path) for name, path in parsed.items()}
        assert {name: libraries for name, libraries in heavy.items() if libraries} == {}


# --- tests -------------------------------------------------------------------------------------------


UNTESTED = {
    "hooks/mixin.py": "one import",
    "storage/errors.py": "class names",
    "worker/tasks.py": "protocols",
}
"""Modules that decide nothing, and why."""


def place_of_tests(name: str) -> Path:
    """The place of a module's unit tests."""
    module = Path(name)
    return ROOT / "tests/unit" / module.with_name(f"test_{module.stem.strip('_')}.py")


def test_a_module_that_decides_something_has_a_test_of_its_name() -> None:
    names = [path.relative_to(PACKAGE).as_posix() for path in MODULES if path.name != "__init__.py"]
    untested = [
        f"{name} has no {place_of_tests(name).relative_to(ROOT)}"
        for name in names
        if name not in UNTESTED and not place_of_tests(name).is_file()
    ]
    check_none(untested, "A module that decides something has a unit test of its name, in its place.")


def test_the_list_of_modules_without_tests_is_true() -> None:
    gone = [name for name in UNTESTED if not (PACKAGE / name).is_file()]
    tested = [name for name in UNTESTED if place_of_tests(name).is_file()]
    assert (gone, tested) == ([], [])
