"""The table of faults says what the tests say."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from dev.fault_table import PAGE, page, rows


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run python -m dev.fault_table"


class TestRows:
    def table(self, folder: Path, source: str) -> list[str]:
        (folder / "test_one.py").write_text(textwrap.dedent(source))
        return [str(row) for row in rows(folder)]

    def test_a_parametrised_test_is_one_row(self, tmp_path: Path) -> None:
        source = """
            @pytest.mark.fault("it breaks", "it | ends", "nothing")
            @pytest.mark.parametrize("how", ["now", "later"])
            def test_it(how): ...
            """
        assert self.table(tmp_path, source) == [
            "| it breaks | it &#124; ends | nothing | `test_one.py::test_it` |"
        ]

    def test_a_class_is_one_row_and_its_tests_may_be_more(self, tmp_path: Path) -> None:
        source = """
            @pytest.mark.fault(fault="a", happens="b", charge="c")
            class TestIt:
                def test_plain(self): ...

                @pytest.mark.fault("d", "e", "f")
                async def test_more(self): ...
            """
        assert self.table(tmp_path, source) == [
            "| a | b | c | `test_one.py::TestIt` |",
            "| d | e | f | `test_one.py::TestIt::test_more` |",
        ]

    def test_an_incomplete_marker_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="fault, happens, charge"):
            self.table(tmp_path, "@pytest.mark.fault('only this')\ndef test_it(): ...")
