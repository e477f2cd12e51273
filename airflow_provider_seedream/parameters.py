"""Reads operator parameters: what is still a template, and what breaks a rule before anything is sent."""

from __future__ import annotations

import ast
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from math import isfinite
from os import PathLike
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException, conf

from airflow_provider_seedream.airflow_compat import has_task_state_store
from airflow_provider_seedream.apixo.causes import normalize_code
from airflow_provider_seedream.apixo.rules import TEXT_TO_IMAGE, is_digits, show_value
from airflow_provider_seedream.errors import DestinationError, InvalidRequestError, Problem
from airflow_provider_seedream.storage.location import read_destination_url
from airflow_provider_seedream.storage.naming import check_template
from airflow_provider_seedream.times import to_seconds


class InvalidParameterError(InvalidRequestError, AirflowFailException):
    """A parameter is wrong however often it is tried.

    A mapped task finds that out when it starts; Airflow then does not retry it.
    """


@contextmanager
def refuse_for_good() -> Iterator[None]:
    """Turn refusals in a constructor into those that Airflow does not try again."""
    try:
        yield
    except InvalidRequestError as error:
        raise InvalidParameterError(error.problems) from None


# --- templates ---------------------------------------------------------------------------------------

_MARKS = ("{{", "{%", "{#")


def is_templated(value: Any, file_extensions: Sequence[str] = ()) -> bool:
    """Tell whether a parameter's final value is known only when the task runs.

    True for Jinja text, for names of template files, for another task's output (anything with
    ``resolve``), and for lists that hold one of these.
    """
    if isinstance(value, str):
        return any(mark in value for mark in _MARKS) or value.endswith(tuple(file_extensions))
    if isinstance(value, list | tuple):
        return any(is_templated(item, file_extensions) for item in value)
    # Paths have a method of that name, too.
    is_path = isinstance(value, PathLike) or hasattr(value, "protocol")
    return callable(getattr(value, "resolve", None)) and not is_path


def is_nothing(rendered: Any) -> bool:
    """Tell whether a template rendered to nothing; what was missing renders to ``None`` or to its text."""
    return rendered is None or (isinstance(rendered, str) and rendered.strip() in ("", "None"))


def parse_rendered(text: Any) -> Any:
    """Return the list or dict that a template rendered as JSON or Python text; else what is given."""
    if not isinstance(text, str):
        return text
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def read_rendered(fields: Mapping[str, Any], templated: frozenset[str]) -> dict[str, Any]:
    """Turn what templates rendered to into the types that the fields have.

    A template renders to text: ``"3"`` stands for the number, ``"['https://...']"`` for the list.

    :param fields: values after rendering.
    :param templated: fields that held a template; only these are converted.
    :raises InvalidRequestError: a template rendered to nothing.
    """
    read = {name: _convert(name, value) if name in templated else value for name, value in fields.items()}
    if problems := list(_find_nothing(read, templated)):
        raise InvalidRequestError(problems)
    return read


def _convert(name: str, value: Any) -> Any:
    if name == "max_images" and is_digits(value):
        return int(value)
    if name == "image_urls" and isinstance(value, str) and value.strip().startswith("["):
        return parse_rendered(value)
    if name == "prompt" and isinstance(value, int | float):
        # render_template_as_native_obj turns a prompt such as "1984" into a number.
        return str(value)
    return value


def _find_nothing(fields: Mapping[str, Any], templated: frozenset[str]) -> Iterator[Problem]:
    rule = "the template rendered to nothing"
    remedy = "Check the variable, param or XCom that it reads."
    for name in sorted(templated & fields.keys()):
        value = fields[name]
        if is_nothing(value):
            yield Problem(name, show_value(value), rule, remedy)
        elif name == "image_urls" and _is_empty(value) and fields.get("mode") != TEXT_TO_IMAGE:
            # References that got lost must not silently buy another kind of picture.
            choice = f"{remedy} Give mode={TEXT_TO_IMAGE!r} where there may be none."
            yield Problem(name, show_value(value), f"{rule}, an empty list", choice)


def _is_empty(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 0


# --- values: each is read or refused ------------------------------------------------------------------


def read_seconds(name: str, value: float | timedelta, *, zero_allowed: bool = False) -> float:
    """Return a duration parameter in seconds.

    :raises InvalidRequestError: it is no duration, or negative.
    """
    number = to_seconds(value)
    if (
        isinstance(number, bool)
        or not isinstance(number, int | float)
        or not _is_in_range(number, zero_allowed)
    ):
        bound = "0 or more" if zero_allowed else "above 0"
        problem = Problem(name, repr(value), f"must be seconds, {bound}, or a timedelta", "Correct it.")
        raise InvalidRequestError([problem])
    return float(number)


def _is_in_range(number: float, zero_allowed: bool) -> bool:
    return isfinite(number) and (number > 0 or (zero_allowed and number == 0))


def read_optional_seconds(
    name: str, value: float | timedelta | None, *, zero_allowed: bool = False
) -> float | None:
    """Do as :func:`read_seconds`, for a parameter that may be left out."""
    return None if value is None else read_seconds(name, value, zero_allowed=zero_allowed)


def read_money(name: str, value: Any) -> Decimal | None:
    """Return an amount in USD above 0, given as a number or its text; ``None`` stays ``None``.

    :raises InvalidRequestError: it is no such amount.
    """
    if value is None:
        return None
    try:
        amount = Decimal("NaN") if isinstance(value, bool) else Decimal(str(value).strip())
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount <= 0:
        raise InvalidRequestError([Problem(name, show_value(value), "must be USD above 0", "Correct it.")])
    return amount


def read_fail_codes(name: str, value: Any) -> frozenset[str] | None:
    """Return the API's failCodes in the spelling that all pages share; ``None`` stays ``None``.

    :raises InvalidRequestError: it is no collection of strings.
    """
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Collection) or not all(_is_name(one) for one in value):
        rule = "must be a list or set of failCodes"
        raise InvalidRequestError(
            [Problem(name, show_value(value), rule, "Pass such as ['Timeout'], or [].")]
        )
    return frozenset(normalize_code(one) for one in value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(normalize_code(value))


def read_url_list(value: Any, field: str) -> list[str]:
    """Return a non-empty list of URLs.

    :raises InvalidRequestError: it is something else.
    """
    is_list = isinstance(value, Sequence) and not isinstance(value, str) and len(value) > 0
    if not is_list or not all(isinstance(url, str) and url.strip() for url in value):
        problem = Problem(
            field, show_value(value), "must be a non-empty list of URLs", "Pass a list of strings."
        )
        raise InvalidRequestError([problem])
    return list(value)


# --- checks -------------------------------------------------------------------------------------------


def check_choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    """Check a parameter that takes one of a few words.

    :raises InvalidRequestError: it is another one.
    """
    if value not in allowed:
        rule = f"must be one of {', '.join(map(repr, allowed))}"
        raise InvalidRequestError([Problem(name, show_value(value), rule, "Correct it.")])


def check_image_count(name: str, value: Any, at_most: int) -> None:
    """Check a whole number of images from 1 on.

    :raises InvalidRequestError: it is none, or more than are ordered.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= at_most:
        rule = f"must be a whole number from 1 to {at_most}, the images that are ordered at most"
        raise InvalidRequestError([Problem(name, show_value(value), rule, "Correct it.")])


def check_task_id(value: Any) -> str:
    """Return a taskId; what is none is refused before the API is asked.

    :raises InvalidRequestError: it is empty or no string.
    """
    if not isinstance(value, str) or is_nothing(value):
        remedy = "Pass the Submit operator's output, or a taskId."
        raise InvalidRequestError([Problem("seedream_task_id", repr(value), "is no taskId", remedy)])
    return value


def check_destination(destination: Any) -> None:
    """Check a destination, unless it is a template.

    :raises InvalidRequestError: it can name no location.
    """
    if is_templated(destination):
        return
    try:
        read_destination_url(destination)
    except DestinationError as error:
        rule = error.cause.meaning.rstrip(".")
        problem = Problem("destination", show_value(str(destination)), rule, error.cause.remedy)
        raise InvalidRequestError([problem]) from None


def check_filename(filename: str, images: int | None = None, *, has_fingerprint: bool = True) -> None:
    """Check a template of file names, unless it is a Jinja template first.

    :param images: the number of images that may come, where it is known.
    :param has_fingerprint: whether the request behind the images is, or will be, known.
    :raises InvalidRequestError: it breaks a rule.
    """
    if not is_templated(filename):
        check_template(filename, images, has_fingerprint=has_fingerprint)


def check_callbacks_possible(*, durable: bool, waits_itself: bool) -> None:
    """Check what a callback to Airflow needs.

    :param waits_itself: whether the task that buys is the one that waits.
    :raises InvalidRequestError: this Airflow, or the operator, lacks it.
    """
    if obstacle := _find_obstacle_to_callbacks(waits_itself):
        remedy = "Use request_type='async', or give a callback_url of your own."
        raise InvalidRequestError([Problem("request_type", "'callback'", obstacle, remedy)])
    if not durable:
        rule = "a callback is told from a forged one by the record of the purchase"
        raise InvalidRequestError([Problem("durable", "False", rule, "Leave durable=True.")])


def _find_obstacle_to_callbacks(waits_itself: bool) -> str | None:
    """Return what keeps the api-server from telling a callback from a forged one."""
    if not has_task_state_store():
        return "needs Airflow 3.3 or later: a callback is told from a forged one by its task state store"
    if conf.get("workers", "state_store_backend", fallback=""):
        return "cannot work with [workers] state_store_backend: the api-server could not read the record"
    if not waits_itself and conf.getboolean("state_store", "clear_on_success", fallback=False):
        return "cannot work here with [state_store] clear_on_success: the record is gone before the callback"
    return None
