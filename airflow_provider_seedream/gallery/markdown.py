"""Makes Markdown for Airflow's own pages, such as the body of a human-in-the-loop operator."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_seedream.urls import MOUNT, TaskAddress, read_base_path

COLUMNS = 2
"""What fits into the width that Airflow leaves, at 320 pixels a thumbnail."""
_ALT_CHARACTERS = 120
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def render_thumbnails(task: TaskAddress, result: Mapping[str, Any]) -> str:
    """Return a table of a result's images, each under its number; a click opens its page in the gallery.

    :param task: the task instance that saved the images.
    :param result: what it returned, with ``images``.
    """
    prompt = str((result.get("request") or {}).get("prompt") or "Image")
    indexes = [int(image["index"]) for image in result.get("images") or []]
    if not indexes:
        return "No image was saved."
    return "\n".join(_make_rows(indexes, [_link_thumbnail(task, index, prompt) for index in indexes]))


def render_literal(text: str) -> str:
    """Return text from a user as inline code: shown as it is, whatever Markdown or addresses it holds."""
    line = " ".join(text.split())
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}"


def _link_thumbnail(task: TaskAddress, index: int, prompt: str) -> str:
    root = f"{read_base_path()}{MOUNT}"
    alt = _escape(f"{index}: {' '.join(prompt.split())[:_ALT_CHARACTERS]}")
    return f"[![{alt}]({root}{task.make_thumbnail_path(index)})]({root}{task.make_image_path(index)})"


def _escape(text: str) -> str:
    return _PUNCTUATION.sub(r"\\\1", text)


def _make_rows(indexes: Sequence[int], cells: Sequence[str]) -> Iterator[str]:
    """Make the rows of a table, which has one header: later numbers are cells of their own."""
    columns = min(COLUMNS, len(cells))
    for start in range(0, len(cells), columns):
        row = slice(start, start + columns)
        yield _make_row([f"**{index}**" for index in indexes[row]], columns)
        if start == 0:
            yield _make_row([":---:"] * columns, columns)
        yield _make_row(cells[row], columns)


def _make_row(cells: Sequence[str], columns: int) -> str:
    return f"| {' | '.join([*cells, *[''] * (columns - len(cells))])} |"
