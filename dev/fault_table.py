"""Writes ``docs/faults.md``: every fault that the tests cause, what happens then, and what it costs.

``python -m dev.fault_table`` writes the page anew; a unit test fails while it differs from the tests.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests" / "faults"
PAGE = ROOT / "docs" / "faults.md"
COLUMNS = ("fault", "happens", "charge")

HEAD = """\
# Faults

What goes wrong, what happens then, and what it costs. Each row is a test in `tests/faults` that causes the
fault, on real Airflow processes with PostgreSQL where processes matter, and checks the charge against the
sandbox's ledger and the images against the storage. `make test-long` runs them all;
`python -m dev.fault_table` writes this page from the tests.

| Fault | What happens | Charge | Test |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One fault.

    :param test: id of the test, or of the class of tests, that causes it.
    """

    fault: str
    happens: str
    charge: str
    test: str

    def __str__(self) -> str:
        cells = (self.fault, self.happens, self.charge, f"`{self.test}`")
        return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def rows(folder: Path = TESTS) -> Iterator[Row]:
    """The faults of all tests with ``@pytest.mark.fault(fault, happens, charge)``, in the files' order."""
    for file in sorted(folder.rglob("test_*.py")):
        yield from _rows_in(ast.parse(file.read_text()), file.relative_to(folder).as_posix())


def _rows_in(scope: ast.Module | ast.ClassDef, prefix: str) -> Iterator[Row]:
    for node in scope.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            test = f"{prefix}::{node.name}"
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.fault":
                    yield Row(**_cells(decorator), test=test)
            if isinstance(node, ast.ClassDef):
                yield from _rows_in(node, test)


def _cells(marker: ast.Call) -> dict[str, str]:
    """The marker's arguments, given by position or by name."""
    given = dict(zip(COLUMNS, marker.args, strict=False))
    given |= {keyword.arg: keyword.value for keyword in marker.keywords if keyword.arg}
    if sorted(given) != sorted(COLUMNS):
        raise ValueError(f"line {marker.lineno}: a fault marker takes {', '.join(COLUMNS)}")
    return {name: str(ast.literal_eval(value)) for name, value in given.items()}


def page() -> str:
    """The whole page."""
    return HEAD + "".join(f"{row}\n" for row in rows())


if __name__ == "__main__":
    PAGE.write_text(page())
