"""Decides each exchange with the API, a generator of steps: what is sent, how it is read, what is repeated.

Nothing here does I/O. A driver (sync or async, see ``client``) performs each :class:`Send` and
:class:`Sleep` and sends the outcome back in, so both share every decision.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar
from urllib.parse import quote

from airflow_provider_seedream.apixo import answers
from airflow_provider_seedream.apixo.answers import NoAnswer, Reply
from airflow_provider_seedream.apixo.backoff import MAX_BACKOFF, compute_backoff
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.apixo.status import TaskStatus
from airflow_provider_seedream.apixo.watch import Watch
from airflow_provider_seedream.errors import (
    AmbiguousSubmitError,
    NotDeliveredError,
    RefusedError,
    SeedreamError,
    UnreadableAnswerError,
)

MAX_ATTEMPTS = 4
"""How often one call is sent at most."""

REPEATABLE_REFUSALS = frozenset({429, 500, 502, 503, 504})
"""Codes after which a submission is repeated, when APIXO itself sent them: it then bought nothing."""


@dataclass(frozen=True, slots=True)
class Send:
    """Perform one HTTP request and send back a :class:`Reply` or a :class:`NoAnswer`.

    :param path: below the base URL, already quoted.
    """

    method: str
    path: str
    json: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait and send back ``None``.

    :param seconds: how long.
    """

    seconds: float


T = TypeVar("T")
Exchange = Generator[Send | Sleep, Reply | NoAnswer | None, T]
Report = Callable[[str], None]
"""Takes a line for the task's log."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The clock and the dice, so that tests need neither.

    :param now: epoch seconds.
    :param uniform: a draw between two bounds.
    """

    now: Callable[[], float] = time.time
    uniform: Callable[[float, float], float] = random.uniform


BALANCE = Send("GET", "/apikeys/current-balance")
"""Reads the balance of the key, which is free."""

# --- the three calls ---------------------------------------------------------------------------------


def submit(request: GenerateRequest, *, timing: Timing, report: Report) -> Exchange[str]:
    """Submit a generation and return the taskId.

    The POST is repeated only where it certainly bought nothing: it never reached the API, was
    throttled, or APIXO refused it in its own JSON envelope with a code that may pass.

    :raises NotDeliveredError: the API could not be reached.
    :raises RefusedError: the API refused; nothing was charged.
    :raises AmbiguousSubmitError: the answer was lost or unreadable; a charge may have happened.
    """
    send = Send("POST", f"/generateTask/{quote(request.model, safe='')}", json=request.body)
    return (
        yield from _repeat(
            send,
            lambda answer: answers.read_submission(answer, timing.now()),
            _may_repeat_submission,
            timing,
            report,
        )
    )


def submit_with_balances(
    request: GenerateRequest, *, before: Decimal | None, read_balance: bool, timing: Timing, report: Report
) -> Exchange[str]:
    """Submit, and tell the balance before and after in the error where the answer is lost.

    :param before: the balance in USD, where it was just read.
    :param read_balance: whether to read it first where it was not.
    """
    if before is None and read_balance:
        before = yield from try_balance(timing=timing)
    try:
        return (yield from submit(request, timing=timing, report=report))
    except AmbiguousSubmitError as error:
        after = yield from try_balance(timing=timing)
        raise error.with_balances(before, after) from None


def try_balance(*, timing: Timing) -> Exchange[Decimal | None]:
    """Ask once for the balance in USD; ``None`` where it cannot be read."""
    answer = yield BALANCE
    amount = answers.read_balance(_expect(answer), timing.now())
    return None if isinstance(amount, SeedreamError) else amount


def fetch_status(task_id: str, model: str, *, timing: Timing, report: Report) -> Exchange[TaskStatus]:
    """Read a task's status, with retries.

    :raises PollFailedError: it could not be read.
    """
    send = _make_status_request(task_id, model)
    read = _make_status_reader(task_id, timing)
    return (yield from _repeat(send, read, _may_repeat_poll, timing, report))


def fetch_balance(*, timing: Timing, report: Report) -> Exchange[Decimal]:
    """Read the balance of the key in USD; free of charge.

    :raises NotDeliveredError: the API could not be reached.
    :raises RefusedError: the API refused or its answer could not be read.
    """
    return (
        yield from _repeat(
            BALANCE,
            lambda answer: answers.read_balance(answer, timing.now()),
            _may_repeat_poll,
            timing,
            report,
        )
    )


def watch(watches: Iterable[Watch], model: str, *, timing: Timing, report: Report) -> Exchange[None]:
    """Poll tasks until every watch has an outcome. Each poll is one request; the watch sets the pace."""
    pending = list(watches)
    while pending := [one for one in pending if one.outcome is None]:
        due = min(pending, key=lambda one: one.next_poll)
        delay = due.next_poll - timing.now()
        if delay > 0:
            yield Sleep(delay)
        yield from poll(due, model, timing=timing, report=report)


def poll(one: Watch, model: str, *, timing: Timing, report: Report) -> Exchange[None]:
    """Poll one task once and tell its watch."""
    answer = yield _make_status_request(one.task_id, model)
    status = _make_status_reader(one.task_id, timing)(_expect(answer))
    if isinstance(status, SeedreamError):
        one.add_failure(status, now=timing.now(), uniform=timing.uniform)
        report(f"Poll {one.polls} of task {one.task_id} failed: {status}")
        return
    one.add_status(status, now=timing.now(), uniform=timing.uniform)
    if one.changed:
        report(f"Task {one.task_id}: state {status.state}.")


def _make_status_request(task_id: str, model: str) -> Send:
    return Send("GET", f"/statusTask/{quote(model, safe='')}?taskId={quote(task_id, safe='')}")


def _make_status_reader(
    task_id: str, timing: Timing
) -> Callable[[Reply | NoAnswer], TaskStatus | SeedreamError]:
    return lambda answer: answers.read_status(answer, task_id, timing.now())


# --- repeating ---------------------------------------------------------------------------------------


def _repeat(
    send: Send,
    read: Callable[[Reply | NoAnswer], T | SeedreamError],
    may_repeat: Callable[[SeedreamError], bool],
    timing: Timing,
    report: Report,
) -> Exchange[T]:
    for attempt in range(1, MAX_ATTEMPTS + 1):
        outcome = read(_expect((yield send)))
        if not isinstance(outcome, SeedreamError):
            return outcome
        pause = _choose_pause(outcome, attempt, timing)
        if attempt == MAX_ATTEMPTS or pause is None or not may_repeat(outcome):
            raise outcome
        report(f"Attempt {attempt} of {MAX_ATTEMPTS} failed, next in {pause:.1f} s: {outcome}")
        yield Sleep(pause)
    raise AssertionError("unreachable")


def _expect(answer: Reply | NoAnswer | None) -> Reply | NoAnswer:
    if answer is None:
        raise TypeError("the driver must answer a Send with a Reply or a NoAnswer")
    return answer


def _choose_pause(error: SeedreamError, attempt: int, timing: Timing) -> float | None:
    """Return the seconds until the next attempt; ``None`` if the API asks for more than a worker may wait."""
    if error.retry_after is None:
        return compute_backoff(attempt, timing.uniform)
    return error.retry_after + timing.uniform(0, 1) if error.retry_after <= MAX_BACKOFF else None


def _may_repeat_submission(error: SeedreamError) -> bool:
    if isinstance(error, RefusedError):
        return error.code in REPEATABLE_REFUSALS
    return isinstance(error, NotDeliveredError)


def _may_repeat_poll(error: SeedreamError) -> bool:
    return error.retryable and not isinstance(error, UnreadableAnswerError)
