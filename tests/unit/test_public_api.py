"""``docs/public-api.md`` promises what is there, and all that README, examples and Airflow make use of."""

from __future__ import annotations

import ast
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_seedream import errors
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.apixo.status import TaskStatus
from airflow_provider_seedream.errors import ChargedError, NotChargedError, SeedreamError
from airflow_provider_seedream.hooks.seedream import SeedreamHook
from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator
from airflow_provider_seedream.provider_info import get_provider_info
from airflow_provider_seedream.triggers.seedream import SeedreamTaskTrigger

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "public-api.md").read_text()
PACKAGE = "airflow_provider_seedream"
COMMAND = f"{PACKAGE}.sandbox"
PATHS = sorted({path for path in re.findall(rf"`({PACKAGE}\.[\w.]+)`", PAGE) if path != COMMAND})


def find(path: str) -> Any:
    """Return what a path names."""
    return pkgutil.resolve_name(":".join(path.rsplit(".", 1)))


def rows() -> list[tuple[str, str]]:
    """Return each path of a table, with what the page says of it."""
    return re.findall(rf"^\| `({PACKAGE}\.[\w.]+)` \| (.*) \|$", PAGE, re.MULTILINE)


def imported(code: str) -> Iterator[str]:
    """Yield the paths that Python code imports from this package."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith(PACKAGE):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


class TestEveryPath:
    @pytest.mark.parametrize("path", PATHS)
    def test_can_be_imported_and_is_documented(self, path: str) -> None:
        found = find(path)
        assert found.__doc__
        assert f"{found.__module__}.{found.__qualname__}" == path

    def test_is_named_once_in_a_table_with_its_promise(self) -> None:
        named = [path for path, promise in rows() if promise]
        assert sorted(named) == sorted(set(PATHS) - {f"{PACKAGE}.errors.SeedreamError"})


class TestThePageNames:
    def test_what_the_readme_imports(self) -> None:
        blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.M)
        used = {path for block in blocks for path in imported(block)}
        assert used
        assert used - set(PATHS) == set()

    @pytest.mark.parametrize(
        "example", sorted((ROOT / "dags_examples").glob("*.py")), ids=lambda one: one.stem
    )
    def test_what_the_examples_import(self, example: Path) -> None:
        used = set(imported(example.read_text()))
        assert used
        assert used - set(PATHS) == set()

    def test_what_airflow_stores(self) -> None:
        points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
        stored = {point.replace(":", ".") for group in points.values() for point in group.values()}
        info = get_provider_info()
        stored |= {*info["extra-links"], info["connection-types"][0]["hook-class-name"]}
        stored.add(f"{SeedreamTaskTrigger.__module__}.{SeedreamTaskTrigger.__qualname__}")
        stored |= {f"{type(link).__module__}.{type(link).__qualname__}" for link in operator_links()}
        assert stored - set(PATHS) == set()

    def test_every_error_that_there_is_to_catch(self) -> None:
        there = {
            f"{PACKAGE}.errors.{name}"
            for name, value in vars(errors).items()
            if isinstance(value, type)
            and issubclass(value, SeedreamError)
            and value.__module__ == errors.__name__
        }
        assert there - set(PATHS) == set()

    def test_the_command_of_the_sandbox(self) -> None:
        assert f"`python -m {COMMAND}`" in PAGE
        assert find_spec(f"{COMMAND}.__main__")


def operator_links() -> tuple[Any, ...]:
    return tuple(SeedreamGenerateOperator.operator_extra_links)


class TestThePromises:
    def test_of_the_two_roots_each_error_has_the_one_under_which_it_stands(self) -> None:
        root: type[SeedreamError] | None = None
        for path, promise in rows():
            if path.startswith(f"{PACKAGE}.errors.") or path.endswith(".StorageError"):
                error = find(path)
                root = error if promise.startswith("**root") else root
                assert root in (NotChargedError, ChargedError)
                assert issubclass(error, root)

    def test_of_the_hook(self) -> None:
        (promise,) = [promise for path, promise in rows() if path.endswith(".SeedreamHook")]
        *calls, twin, test, account = re.findall(r"`(\w+)`", promise)
        assert (twin, test, account) == ("_async", "test_connection", "account")
        assert all(callable(getattr(SeedreamHook, name)) for name in (test, *calls))
        assert all(callable(getattr(SeedreamHook, f"{name}_async")) for name in calls)
        assert isinstance(SeedreamHook.account, property)

    def test_of_a_request_and_of_a_status(self) -> None:
        assert GenerateRequest(prompt="a fox").max_images == 1
        status = TaskStatus("task", "success", ("https://example.com/1.png",))
        assert (status.succeeded, status.finished) == (True, True)

    def test_its_links_lead_somewhere(self) -> None:
        readme = (ROOT / "README.md").read_text()
        titles = re.findall(r"^#+ (.+)$", readme, re.MULTILINE)
        anchors = {title.strip("`").lower().replace(" ", "-") for title in titles}
        for target in re.findall(r"\]\(([^)]+)\)", PAGE):
            file, _, anchor = target.partition("#")
            assert (ROOT / "docs" / file).is_file(), target
            assert not anchor or anchor in anchors, target

    def test_the_readme_leads_to_it(self) -> None:
        assert "(docs/public-api.md)" in (ROOT / "README.md").read_text()
