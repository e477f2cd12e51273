"""Markdown for Airflow's own pages, such as the body of a human-in-the-loop operator."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_provider_seedream.urls import MOUNT, TaskAddress, read_base_path

COLUMNS = 2
"""What fits into the width that Airflow leaves, at 320 pixels a thumbnail."""
_ALT_CHARACTERS = 120
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


def thumbnails(task: TaskAddress, result: Mapping[str, Any]) -> str:
    """A table of a result's images, each under its number; a click opens its page in the gallery.

    :param task: the task instance that saved the images.
    :param result: what it returned, with ``images``.
    """
    prompt = str((result.get("request") or {}).get("prompt") or "Image")
    indexes = [int(image["index"]) for image in result.get("images") or []]
    if not indexes:
        return "No image was saved."
    return "\n".join(_rows(indexes, [_linked_thumbnail(task, index, prompt) for index in indexes]))


def literal(text: str) -> str:
    """Text from a user as inline code: shown as it is, whatever Markdown or addresses it holds."""
    line = " ".join(text.split())
    longest = max(map(len, re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    return f"{fence} {line} {fence}"


def _linked_thumbnail(task: TaskAddress, index: int, prompt: str) -> str:
    root = f"{read_base_path()}{MOUNT}"
    alt = _escaped(f"{index}: {' '.join(prompt.split())[:_ALT_CHARACTERS]}")
    return f"[![{alt}]({root}{task.make_thumbnail_path(index)})]({root}{task.make_image_path(index)})"


def _escaped(text: str) -> str:
    return _PUNCTUATION.sub(r"\\\1", text)


def _rows(indexes: Sequence[int], cells: Sequence[str]) -> Iterator[str]:
    """A table has one header; later numbers are cells of their own."""
    columns = min(COLUMNS, len(cells))
    for start in range(0, len(cells), columns):
        row = slice(start, start + columns)
        yield _row([f"**{index}**" for index in indexes[row]], columns)
        if start == 0:
            yield _row([":---:"] * columns, columns)
        yield _row(cells[row], columns)


def _row(cells: Sequence[str], columns: int) -> str:
    return f"| {' | '.join([*cells, *[''] * (columns - len(cells))])} |"
