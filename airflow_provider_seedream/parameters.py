"""Reads operator parameters: what is still a template, and what breaks a rule before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from math import isfinite
from os import PathLike
from typing import Any

from airflow_provider_seedream.apixo.errors import InvalidRequestError, Problem
from airflow_provider_seedream.apixo.request import is_nothing, shown

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
    return callable(getattr(value, "resolve", None)) and not isinstance(value, PathLike)


def seconds(name: str, value: float | timedelta, *, zero_allowed: bool = False) -> float:
    """A duration parameter in seconds.

    :raises InvalidRequestError: it is no duration, or negative.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, int | float) or not _in_range(number, zero_allowed):
        bound = "0 or more" if zero_allowed else "above 0"
        problem = Problem(name, repr(value), f"must be seconds, {bound}, or a timedelta", "Correct it.")
        raise InvalidRequestError([problem])
    return float(number)


def _in_range(number: float, zero_allowed: bool) -> bool:
    return isfinite(number) and (number > 0 or (zero_allowed and number == 0))


def check_task_id(value: Any) -> str:
    """A taskId; what is none is refused before the API is asked.

    :raises InvalidRequestError: it is empty or no string.
    """
    if not isinstance(value, str) or is_nothing(value):
        remedy = "Pass the Submit operator's output, or a taskId."
        raise InvalidRequestError([Problem("seedream_task_id", repr(value), "is no taskId", remedy)])
    return value


def url_list(value: Any, field: str) -> list[str]:
    """A non-empty list of URLs.

    :raises InvalidRequestError: it is something else.
    """
    is_list = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
    if not is_list or not all(isinstance(url, str) and url.strip() for url in value):
        problem = Problem(field, shown(value), "must be a non-empty list of URLs", "Pass a list of strings.")
        raise InvalidRequestError([problem])
    return list(value)
