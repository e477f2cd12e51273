"""Writes the tables of ``docs/faults.md`` and ``docs/callbacks.md``: what tests cause, and what happens then.

``python -m dev.fault_table`` writes both anew; a unit test fails while one differs from the tests.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Table:
    """A table in a page that is written by hand otherwise; each row is a test, or a class of tests.

    :param mark: of the tests that are its rows: ``@pytest.mark.<mark>(...)``.
    :param columns: argument of the mark to head of its column; the last column is the test's id.
    :param folder: where the tests are; their ids are relative to it.
    """

    mark: str
    columns: Mapping[str, str]
    folder: Path
    page: Path

    def make_lines(self) -> list[str]:
        """Return the table, in the order of the files."""
        heads = [*self.columns.values(), "Test"]
        return [_make_line(heads), "|" + "---|" * len(heads), *self.find_rows()]

    def find_rows(self) -> Iterator[str]:
        """Yield the rows of all tests that carry the mark."""
        for file in sorted(self.folder.rglob("test_*.py")):
            yield from self._find_rows_in(
                ast.parse(file.read_text()), file.relative_to(self.folder).as_posix()
            )

    def write_into(self, text: str) -> str:
        """Return a page with this table in the place of the old one.

        :raises ValueError: the page has no table with these heads.
        """
        head = re.escape(self.make_lines()[0])
        table = "\n".join(self.make_lines()) + "\n"
        new, found = re.subn(rf"^{head}\n(?:\|.*\n)*", lambda _: table, text, flags=re.MULTILINE)
        if found != 1:
            raise ValueError(f"{self.page.name} has {found} tables of the mark {self.mark}")
        return new

    def _find_rows_in(self, scope: ast.Module | ast.ClassDef, prefix: str) -> Iterator[str]:
        for node in scope.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                test = f"{prefix}::{node.name}"
                for decorator in node.decorator_list:
                    if isinstance(decorator, ast.Call) and self._is_mark(decorator):
                        yield _make_line([*self._read_cells(decorator), f"`{test}`"])
                if isinstance(node, ast.ClassDef):
                    yield from self._find_rows_in(node, test)

    def _is_mark(self, decorator: ast.Call) -> bool:
        return ast.unparse(decorator.func) == f"pytest.mark.{self.mark}"

    def _read_cells(self, marker: ast.Call) -> list[str]:
        """Return the marker's arguments, given by position or by name."""
        given = dict(zip(self.columns, marker.args, strict=False))
        given |= {keyword.arg: keyword.value for keyword in marker.keywords if keyword.arg}
        if sorted(given) != sorted(self.columns):
            raise ValueError(f"line {marker.lineno}: a {self.mark} marker takes {', '.join(self.columns)}")
        return [str(ast.literal_eval(given[name])) for name in self.columns]


def _make_line(cells: list[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


FAULTS = Table(
    mark="fault",
    columns={"fault": "Fault", "happens": "What happens", "charge": "Charge"},
    folder=ROOT / "tests" / "faults",
    page=ROOT / "docs" / "faults.md",
)
CALLBACK_ORDERS = Table(
    mark="callback_order",
    columns={"order": "Order of events", "happens": "What happens"},
    folder=ROOT / "tests",
    page=ROOT / "docs" / "callbacks.md",
)
TABLES = (FAULTS, CALLBACK_ORDERS)


if __name__ == "__main__":
    for one in TABLES:
        one.page.write_text(one.write_into(one.page.read_text()))
