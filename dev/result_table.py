"""Writes the README's table of a result's fields from the docstring of ``Result``.

python -m dev.result_table
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from airflow_provider_seedream.result import Result

README = Path(__file__).resolve().parent.parent / "README.md"
_HEAD = "| field of a result | |\n|---|---|\n"


def make_table() -> str:
    """Return the table in Markdown, a row a field."""
    text = inspect.getdoc(Result) or ""
    fields = re.findall(r"^:param (\w+): (.+?)(?=\n:param|\Z)", text, re.MULTILINE | re.DOTALL)
    rows = [f"| `{name}` | {' '.join(meaning.split()).replace('``', '`')} |\n" for name, meaning in fields]
    return _HEAD + "".join(rows)


def replace_table(page: str) -> str:
    """Return a page with its table as it is now."""
    return re.sub(re.escape(_HEAD) + r"(\|.*\n)+", lambda _: make_table(), page)


def main() -> None:
    """Bring the README up to date."""
    README.write_text(replace_table(README.read_text()))


if __name__ == "__main__":
    main()
