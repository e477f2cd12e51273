"""The tables of faults and of callbacks say what the tests say."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from dev.fault_table import TABLES, Table


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.page.name)
def test_the_page_is_up_to_date(table: Table) -> None:
    text = table.page.read_text()
    assert text == table.write_into(text), "run python -m dev.fault_table"


@pytest.fixture
def table(tmp_path: Path) -> Table:
    columns = {"fault": "Fault", "happens": "What happens", "charge": "Charge"}
    return Table("fault", columns, tmp_path, tmp_path / "page.md")


class TestRows:
    def rows(self, table: Table, source: str) -> list[str]:
        (table.folder / "test_one.py").write_text(textwrap.dedent(source))
        return list(table.find_rows())

    def test_a_parametrised_test_is_one_row(self, table: Table) -> None:
        source = """
            @pytest.mark.fault("it breaks", "it | ends", "nothing")
            @pytest.mark.parametrize("how", ["now", "later"])
            def test_it(how): ...
            """
        assert self.rows(table, source) == [
            "| it breaks | it &#124; ends | nothing | `test_one.py::test_it` |"
        ]

    def test_a_class_is_one_row_and_its_tests_may_be_more(self, table: Table) -> None:
        source = """
            @pytest.mark.fault(happens="b", charge="c", fault="a")
            class TestIt:
                def test_plain(self): ...

                @pytest.mark.fault("d", "e", "f")
                async def test_more(self): ...
            """
        assert self.rows(table, source) == [
            "| a | b | c | `test_one.py::TestIt` |",
            "| d | e | f | `test_one.py::TestIt::test_more` |",
        ]

    def test_the_marks_of_another_table_are_none(self, table: Table) -> None:
        assert self.rows(table, "@pytest.mark.callback_order('a', 'b')\ndef test_it(): ...") == []

    def test_an_incomplete_marker_is_refused(self, table: Table) -> None:
        with pytest.raises(ValueError, match="fault, happens, charge"):
            self.rows(table, "@pytest.mark.fault('only this')\ndef test_it(): ...")


class TestPage:
    HEAD = "| Fault | What happens | Charge | Test |\n|---|---|---|---|\n"

    def test_what_people_wrote_around_the_table_stays(self, table: Table) -> None:
        (table.folder / "test_one.py").write_text("@pytest.mark.fault(r'\\1', 'b', 'c')\ndef test_it(): ...")
        page = f"# Faults\n\n| other | table |\n|---|---|\n\n{self.HEAD}| gone | x | y | z |\n\nThe end.\n"
        assert table.write_into(page) == (
            "# Faults\n\n| other | table |\n|---|---|\n\n"
            f"{self.HEAD}| \\1 | b | c | `test_one.py::test_it` |\n\nThe end.\n"
        )

    def test_one_without_its_table_is_refused(self, table: Table) -> None:
        with pytest.raises(ValueError, match="page.md has 0 tables"):
            table.write_into("# Faults\n")
