"""Turns the epoch seconds by which processes compare clocks into dates and spans for people, and back."""

from __future__ import annotations

from datetime import timedelta
from email.utils import parsedate_to_datetime

import pendulum


def to_seconds(duration: float | timedelta) -> float:
    """Return a duration in seconds, whether it is given in seconds or as a timedelta (pendulum's, too)."""
    return duration.total_seconds() if isinstance(duration, timedelta) else duration


def to_iso(epoch_seconds: float | None) -> str | None:
    """Return ISO 8601 text in UTC; ``None`` for ``None``."""
    return None if epoch_seconds is None else pendulum.from_timestamp(epoch_seconds).isoformat()


def from_iso(text: str | None) -> float | None:
    """Return the epoch seconds of ISO 8601 text.

    :raises ValueError: it is no date.
    """
    return None if text is None else read_iso(text).timestamp()


def read_iso(text: str) -> pendulum.DateTime:
    """Return the moment of ISO 8601 text, which is taken for UTC where it names no zone.

    :raises ValueError: it is no date.
    """
    # pendulum.parse would also take "now" and "12:00" for dates, and records come from anywhere.
    moment = pendulum.DateTime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=pendulum.UTC)


def from_http_date(text: str) -> float:
    """Return the epoch seconds of an HTTP date, in any of the three forms of RFC 9110.

    :raises ValueError: it is no date.
    """
    return pendulum.instance(parsedate_to_datetime(text)).timestamp()


def describe_moment(epoch_seconds: float) -> str:
    """Return a moment to the second, in UTC, for a message."""
    return pendulum.from_timestamp(int(epoch_seconds)).isoformat()


def describe_distance(epoch_seconds: float, now: float) -> str:
    """Return how far off a moment is, such as ``in 14 days`` or ``2 hours ago``.

    :param now: epoch seconds.
    """
    moment, present = pendulum.from_timestamp(epoch_seconds), pendulum.from_timestamp(now)
    days = moment.diff(present).days
    # Weeks and months would be too coarse for what expires.
    span = f"{days} days" if days > 1 else present.diff_for_humans(moment, absolute=True)
    return f"in {span}" if epoch_seconds >= now else f"{span} ago"
