"""What a failed Airflow task says last, and whether Airflow may retry it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import wrap
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout

from airflow_provider_seedream.advice import Advice, last_words
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
"""What Airflow's page of a log shows of a line in a window of 1280 pixels."""


@contextmanager
def advising(log: Logger, a_retry: str) -> Iterator[None]:
    """For what buys nothing: every failure ends with what a retry does.

    A failure that no retry can help becomes one that Airflow does not retry.

    :param log: of the task.
    :param a_retry: what it does where it can help.
    """
    try:
        yield
    except SeedreamError as error:
        does = a_retry if error.retryable else _why_none(error)
        raise with_advice(error, Advice("nothing by this Airflow task.", f"{does}."), log) from None


def _why_none(error: SeedreamError) -> str:
    if isinstance(error, TaskFailedError) and error.cause.retryable:
        return "none, the task stays failed; clear the submitting task to submit again"
    return "none, it could not help"


@contextmanager
def advising_on_charges(purchases: Purchases) -> Iterator[None]:
    """For what buys: every failure ends with what is charged and what a retry does.

    A failure that no retry can help, or that a retry would pay for again, becomes one that Airflow does not
    retry.
    """
    try:
        yield
    except SeedreamError as error:
        raise _explained(error, purchases) from None
    except (Exception, AirflowTaskTimeout) as error:
        if not (purchases.submissions or purchases.perhaps_charged or purchases.resumed):
            raise
        failure = InterruptedJobError(f"{type(error).__name__}: {error}")
        raise _explained(failure, purchases) from error


def _explained(error: SeedreamError, purchases: Purchases) -> Exception:
    purchases.keep_record()
    error.retry_helps = _retry_helps(error, purchases)
    words = last_words(
        error, purchases.submissions, record_lasts=purchases.record_lasts, perhaps=purchases.perhaps_charged
    )
    return with_advice(error, words, purchases.log)


def with_advice(error: SeedreamError, words: Advice, log: Logger) -> Exception:
    """The error with its last words, which also become the last lines that the task itself logs.

    Airflow's page breaks no lines, and puts the traceback of an exception below it (3.1-3.3).
    """
    log.debug("The failure in full:", exc_info=error)
    told = (f"What happened: {error}", f"What it cost: {words.charged}", f"What a retry does: {words.retry}")
    for text in told:
        for line in wrap(text, LINE_CHARACTERS, break_long_words=False, break_on_hyphens=False):
            log.error("%s", line)
    if not error.retryable:
        return AirflowFailException(f"{error} {words}")
    error.args = (f"{error} {words}",)
    return error


def _retry_helps(error: SeedreamError, purchases: Purchases) -> bool:
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
    """Whether a failure that is final before the purchase may pass while what was bought waits.

    Airflow reports a secrets store or database that is out of reach as a connection that does not exist.
    """
    unknown = isinstance(error, PollFailedError) and error.cause.kind is Kind.NOT_FOUND
    return unknown or isinstance(error, ConnectionConfigError)
