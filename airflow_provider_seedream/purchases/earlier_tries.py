"""Tells what has become of the purchases of earlier tries."""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING

from airflow_provider_seedream.apixo.records import Submission
from airflow_provider_seedream.errors import (
    Kind,
    SeedreamError,
)

if TYPE_CHECKING:
    pass


UNKNOWN_GRACE_SECONDS = 60.0
"""A task that was accepted less than this ago may be unknown to the API for a moment."""

UNKNOWN_POLLS = 3
"""How often APIXO must say that it does not know a task before that is believed, and paid for."""

UNKNOWN_PAUSE = 2.0
"""Seconds between these looks."""


class _Fate(Enum):
    """What has become of a purchase of an earlier try."""

    ALIVE = "has delivered, or may still do so"
    FAILED = "failed, and was refunded"
    UNKNOWN = "is not known to the API"


def _is_unknown(error: SeedreamError, submission: Submission) -> bool:
    """Whether APIXO itself says that there is no such task, and it is not just too early to tell."""
    age = time.time() - (submission.submitted_at or 0.0)
    return error.cause.kind is Kind.NOT_FOUND and age > UNKNOWN_GRACE_SECONDS
