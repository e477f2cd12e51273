"""Errors travel between processes."""

from __future__ import annotations

import pickle

import pytest

from airflow_provider_seedream.apixo.causes import http_cause
from airflow_provider_seedream.errors import (
    AmbiguousSubmitError,
    BalanceError,
    BudgetError,
    DeadlineError,
    InterruptedJobError,
    InvalidRequestError,
    Problem,
    RefusedError,
    SeedreamError,
    TooFewImagesError,
    UnreadableAnswerError,
)

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize(
    "error",
    [
        AmbiguousSubmitError("lost"),
        BudgetError(1, 2, 0),  # type: ignore[arg-type]
        BalanceError(1, 2),  # type: ignore[arg-type]
        DeadlineError("late"),
        InterruptedJobError("a bug"),
        InvalidRequestError([Problem("prompt", "x", "is wrong", "Correct it.")]),
        RefusedError(429, "slow down", http_cause(429), 3.0),
        TooFewImagesError(1, 2, None),
        UnreadableAnswerError("no JSON", "t"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_every_error_survives_a_process_pool(error: SeedreamError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.retryable) == (type(error), str(error), error.retryable)
    assert vars(again) == vars(error)
