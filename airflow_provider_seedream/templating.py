"""Tells values that Airflow will still render from values that are final when the DAG is parsed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_MARKS = ("{{", "{%", "{#")


def is_templated(value: Any, file_extensions: Sequence[str] = ()) -> bool:
    """Whether a parameter's final value is known only when the task runs.

    True for Jinja text, for names of template files, for another task's output (anything with
    ``resolve``), and for lists that hold one of these.
    """
    if isinstance(value, str):
        return any(mark in value for mark in _MARKS) or value.endswith(tuple(file_extensions))
    if isinstance(value, list | tuple):
        return any(is_templated(item, file_extensions) for item in value)
    return callable(getattr(value, "resolve", None))
