"""Ends a failed Airflow task with what it cost and what a retry does; Airflow retries only what helps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import wrap
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout

from airflow_provider_seedream.advice import Advice, advise, advise_watching
from airflow_provider_seedream.errors import (
    ConnectionConfigError,
    InterruptedJobError,
    Kind,
    PollFailedError,
    SeedreamError,
    TaskFailedError,
)

if TYPE_CHECKING:
    from airflow.sdk.types import Logger

    from airflow_provider_seedream.purchases.purchases import Purchases


LINE_CHARACTERS = 84
"""Width of a line on Airflow's page of a log, in a window of 1280 pixels."""


@contextmanager
def advising(log: Logger, a_retry: str) -> Iterator[None]:
    """End every failure of what buys nothing with what a retry does.

    A failure that no retry can help becomes one that Airflow does not retry.

    :param log: of the task.
    :param a_retry: what it does where it can help.
    """
    try:
        yield
    except SeedreamError as error:
        error.retry_helps = helps_to_ask_again(error)
        raise with_advice(error, advise_watching(error, a_retry), log) from None


@contextmanager
def advising_on_charges(purchases: Purchases) -> Iterator[None]:
    """End every failure of what buys with what is charged and what a retry does.

    A failure that no retry can help, or that a retry would pay for again, becomes one that Airflow does not
    retry.
    """
    try:
        yield
    except SeedreamError as error:
        raise _advise_on_charges(error, purchases) from None
    except (Exception, AirflowTaskTimeout) as error:
        if not (purchases.submissions or purchases.perhaps_charged or purchases.resumed):
            raise
        failure = InterruptedJobError(f"{type(error).__name__}: {error}")
        raise _advise_on_charges(failure, purchases) from error


def _advise_on_charges(error: SeedreamError, purchases: Purchases) -> Exception:
    purchases.keep_record()
    error.retry_helps = _helps_to_go_on(error, purchases)
    advice = advise(
        error, purchases.submissions, record_lasts=purchases.record_lasts, perhaps=purchases.perhaps_charged
    )
    return with_advice(error, advice, purchases.log)


def with_advice(error: SeedreamError, advice: Advice, log: Logger) -> Exception:
    """Return the error with its advice, which also becomes the last lines that the task itself logs.

    Airflow's page breaks no lines, and puts the traceback of an exception below it (3.1-3.3).
    """
    log.debug("The failure in full:", exc_info=error)
    texts = (
        f"What happened: {error}", f"What it cost: {advice.charged}", f"What a retry does: {advice.retry}"
    )  # fmt: skip
    for text in texts:
        for line in wrap(text, LINE_CHARACTERS, break_long_words=False, break_on_hyphens=False):
            log.error("%s", line)
    if not error.retryable:
        return AirflowFailException(f"{error} {advice}")
    error.args = (f"{error} {advice}",)
    return error


def helps_to_ask_again(error: SeedreamError) -> bool:
    """Tell whether a retry helps that only polls again, to which a failed task stays failed."""
    return error.retryable and not isinstance(error, TaskFailedError)


def _helps_to_go_on(error: SeedreamError, purchases: Purchases) -> bool:
    if isinstance(error, TaskFailedError):
        return error.retryable
    spent = bool(purchases.submissions) or purchases.resumed or isinstance(error, InterruptedJobError)
    if spent and not purchases.record_lasts:
        # It would buy again.
        return False
    if purchases.submissions and _may_pass(error):
        return True
    return error.retryable


def _may_pass(error: SeedreamError) -> bool:
    """Tell whether a failure that is final before the purchase may pass while what was bought waits.

    Airflow reports a secrets store or database that is out of reach as a connection that does not exist.
    """
    unknown = isinstance(error, PollFailedError) and error.cause.kind is Kind.NOT_FOUND
    return unknown or isinstance(error, ConnectionConfigError)
