from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import airflow_provider_seedream.sandbox as package


class TestTheSandboxStandsApart:
    """It shares only the table of models with the client, so that each can catch the other's mistakes."""

    def test_it_imports_nothing_else_of_the_package_and_no_airflow(self) -> None:
        own, table = "airflow_provider_seedream.sandbox", "airflow_provider_seedream.apixo.model"
        for path in Path(package.__path__[0]).glob("*.py"):
            for name in imports(path):
                assert not name.startswith("airflow") or name.startswith(own) or name == table, path

    def test_it_runs_without_airflow(self) -> None:
        code = "import sys, airflow_provider_seedream.sandbox.__main__; print('airflow' in sys.modules)"
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert ended.stdout == "False\n", ended.stderr


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
