"""One exchange with the API as a generator of steps: what is sent, how an answer is read, what is repeated.

Nothing here does I/O. A driver (sync or async, see ``client``) performs each :class:`Send` and
:class:`Sleep` and sends the outcome back in, so both share every decision.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote

from airflow_provider_seedream.apixo.errors import (
    AmbiguousSubmitError,
    Cause,
    Kind,
    LookFailedError,
    NotDeliveredError,
    RefusedError,
    SeedreamError,
    UnreadableAnswerError,
    fail_cause,
    http_cause,
)
from airflow_provider_seedream.apixo.pace import MAX_BACKOFF, Watch, backoff
from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.apixo.task import TaskStatus
from airflow_provider_seedream.apixo.text import plain

MAX_ATTEMPTS = 4
"""How often one call is sent at most."""

REPEATABLE_REFUSALS = frozenset({429, 500, 502, 503, 504})
"""Codes after which a submission is repeated, when APIXO itself sent them: it then bought nothing."""

MAX_RETRY_AFTER = 24 * 3600.0
"""Seconds; an API that asks for more is taken to ask for this."""

MAX_CODE = 99_999
"""A body whose ``code`` is further from zero is not APIXO's."""

MAX_TASK_ID = 500
"""Characters of a taskId; the ones that were seen have 13 and 32."""

_WORDS = 500
"""Characters of each of the vendor's sentences that go into a message."""

_MAX_AMOUNT_DIGITS = 12
_MAX_AMOUNT_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Send:
    """Perform one HTTP request and send back a :class:`Reply` or a :class:`Fault`.

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


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer.

    :param headers: names in lower case.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Fault:
    """No answer came.

    :param delivered: ``False`` when the request certainly never reached the API.
    :param detail: what went wrong, for a person.
    """

    delivered: bool
    detail: str


T = TypeVar("T")
Steps = Generator[Send | Sleep, Reply | Fault | None, T]
Report = Callable[[str], None]
"""Takes a line for the task's log."""


@dataclass(frozen=True, slots=True)
class Luck:
    """The clock and the dice, so that tests need neither.

    :param now: epoch seconds.
    :param uniform: a draw between two bounds.
    """

    now: Callable[[], float] = time.time
    uniform: Callable[[float, float], float] = random.uniform


BALANCE = Send("GET", "/apikeys/current-balance")
"""Reads the balance of the key, which is free."""

# --- the three calls ---------------------------------------------------------------------------------


def submit(request: GenerateRequest, *, luck: Luck, report: Report) -> Steps[str]:
    """Submit a generation; returns the taskId.

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
            lambda answer: read_submission(answer, luck.now()),
            _submission_may_be_repeated,
            luck,
            report,
        )
    )


def submit_audited(
    request: GenerateRequest, *, before: Decimal | None, glance: bool, luck: Luck, report: Report
) -> Steps[str]:
    """As :func:`submit`; where the answer is lost, the error tells the balance before and after.

    :param before: the balance in USD, where it was just read.
    :param glance: whether to read it first where it was not.
    """
    if before is None and glance:
        before = yield from glance_at_balance(luck=luck)
    try:
        return (yield from submit(request, luck=luck, report=report))
    except AmbiguousSubmitError as error:
        after = yield from glance_at_balance(luck=luck)
        raise error.with_balances(before, after) from None


def glance_at_balance(*, luck: Luck) -> Steps[Decimal | None]:
    """The balance in USD, asked for once; ``None`` where it cannot be read."""
    answer = yield BALANCE
    amount = read_balance(_expect(answer), luck.now())
    return None if isinstance(amount, SeedreamError) else amount


def status(task_id: str, model: str, *, luck: Luck, report: Report) -> Steps[TaskStatus]:
    """Read a task's status, with retries.

    :raises LookFailedError: it could not be read.
    """
    send = _status_request(task_id, model)
    read = _status_reader(task_id, luck)
    return (yield from _repeat(send, read, _look_may_be_repeated, luck, report))


def balance(*, luck: Luck, report: Report) -> Steps[Decimal]:
    """Read the balance of the key in USD; free of charge.

    :raises NotDeliveredError: the API could not be reached.
    :raises RefusedError: the API refused or its answer could not be read.
    """
    return (
        yield from _repeat(
            BALANCE, lambda answer: read_balance(answer, luck.now()), _look_may_be_repeated, luck, report
        )
    )


def watch(watches: Iterable[Watch], model: str, *, luck: Luck, report: Report) -> Steps[None]:
    """Look at tasks until every watch has an outcome. Each look is one request; the watch sets the pace."""
    pending = list(watches)
    while pending := [one for one in pending if one.outcome is None]:
        due = min(pending, key=lambda one: one.next_look)
        delay = due.next_look - luck.now()
        if delay > 0:
            yield Sleep(delay)
        yield from look(due, model, luck=luck, report=report)


def look(one: Watch, model: str, *, luck: Luck, report: Report) -> Steps[None]:
    """Look at one task once and tell its watch."""
    answer = yield _status_request(one.task_id, model)
    verdict = _status_reader(one.task_id, luck)(_expect(answer))
    if isinstance(verdict, SeedreamError):
        one.missed(verdict, now=luck.now(), uniform=luck.uniform)
        report(f"Look {one.looks} at task {one.task_id} failed: {verdict}")
        return
    one.saw(verdict, now=luck.now(), uniform=luck.uniform)
    if one.changed:
        report(f"Task {one.task_id}: state {verdict.state}.")


def _status_request(task_id: str, model: str) -> Send:
    return Send("GET", f"/statusTask/{quote(model, safe='')}?taskId={quote(task_id, safe='')}")


def _status_reader(task_id: str, luck: Luck) -> Callable[[Reply | Fault], TaskStatus | SeedreamError]:
    return lambda answer: read_status(answer, task_id, luck.now())


# --- repeating ---------------------------------------------------------------------------------------


def _repeat(
    send: Send,
    read: Callable[[Reply | Fault], T | SeedreamError],
    may_be_repeated: Callable[[SeedreamError], bool],
    luck: Luck,
    report: Report,
) -> Steps[T]:
    for attempt in range(1, MAX_ATTEMPTS + 1):
        verdict = read(_expect((yield send)))
        if not isinstance(verdict, SeedreamError):
            return verdict
        pause = _pause(verdict, attempt, luck)
        if attempt == MAX_ATTEMPTS or pause is None or not may_be_repeated(verdict):
            raise verdict
        report(f"Attempt {attempt} of {MAX_ATTEMPTS} failed, next in {pause:.1f} s: {verdict}")
        yield Sleep(pause)
    raise AssertionError("unreachable")


def _expect(answer: Reply | Fault | None) -> Reply | Fault:
    if answer is None:
        raise TypeError("the driver must answer a Send with a Reply or a Fault")
    return answer


def _pause(error: SeedreamError, attempt: int, luck: Luck) -> float | None:
    """Seconds until the next attempt; ``None`` when the API asks for more than a worker should wait."""
    asked: float | None = getattr(error, "retry_after", None)
    if asked is None:
        return backoff(attempt, luck.uniform)
    return asked + luck.uniform(0, 1) if asked <= MAX_BACKOFF else None


def _submission_may_be_repeated(error: SeedreamError) -> bool:
    if isinstance(error, RefusedError):
        return error.code in REPEATABLE_REFUSALS
    return isinstance(error, NotDeliveredError)


def _look_may_be_repeated(error: SeedreamError) -> bool:
    return error.retryable and not isinstance(error, UnreadableAnswerError)


# --- reading -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Envelope:
    """APIXO's own JSON body: ``{"code", "message", "data"}``."""

    code: int
    message: str
    data: Any

    @property
    def accepts(self) -> bool:
        """Whether its code is a success; the vendor documents 200."""
        return 200 <= self.code < 300


def read_envelope(reply: Reply) -> Envelope | None:
    """The envelope in a reply, or ``None`` if the body is not APIXO's (HTML, empty, other JSON)."""
    try:
        body = json.loads(reply.body)
    except (ValueError, RecursionError):
        return None
    code = body.get("code") if isinstance(body, dict) else None
    if isinstance(code, bool) or not isinstance(code, int) or abs(code) > MAX_CODE:
        return None
    return Envelope(code, plain(body.get("message") or "", _WORDS), body.get("data"))


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is known of an answer that is not a success."""

    code: int
    text: str
    cause: Cause
    retry_after: float | None


def read_refusal(reply: Reply, envelope: Envelope | None, now: float) -> Refusal | None:
    """The refusal in an answer, or ``None`` for a success (in HTTP status and body code).

    A failCode in the body says more than the code, wherever it stands.
    """
    answered = 200 <= reply.status < 300
    if answered and envelope and envelope.accepts:
        return None
    code = envelope.code if answered and envelope else reply.status
    data = envelope.data if envelope and isinstance(envelope.data, Mapping) else {}
    fail_code = data.get("failCode")
    words = [plain(part, _WORDS) for part in (data.get("error"), fail_code, data.get("failMsg")) if part]
    message = envelope.message if envelope else f"no APIXO answer but {describe_body(reply.body)}"
    return Refusal(
        code=code,
        text=": ".join(part for part in (f"HTTP {reply.status}", message, *words) if part),
        cause=fail_cause(plain(fail_code, _WORDS)) if fail_code else _cause_of(code),
        retry_after=retry_after_seconds(reply.headers.get("retry-after"), now),
    )


_NOT_APIXO = Cause(Kind.UNKNOWN, "The answer is not APIXO's", "Check the connection's host.")


def _cause_of(code: int) -> Cause:
    return _NOT_APIXO if 200 <= code < 300 else http_cause(code)


def read_submission(answer: Reply | Fault, now: float) -> str | SeedreamError:
    """The taskId, or what went wrong and what it cost."""
    if isinstance(answer, Fault):
        return AmbiguousSubmitError(answer.detail) if answer.delivered else NotDeliveredError(answer.detail)
    envelope = read_envelope(answer)
    refusal = read_refusal(answer, envelope, now)
    task_id = _task_id_in(envelope)
    if refusal is None:
        return task_id or AmbiguousSubmitError("it was accepted, but the answer holds no usable taskId")
    if task_id:
        detail = f"{refusal.text}; it names task {task_id!r}, which can be waited for"
        return AmbiguousSubmitError(detail, seedream_task_id=task_id)
    if not _certainly_refused(answer.status, envelope):
        return AmbiguousSubmitError(refusal.text)
    message = f"APIXO refused the submission, nothing was charged: {refusal.text}. {refusal.cause.remedy}"
    return RefusedError(refusal.code, message, refusal.cause, refusal.retry_after)


def _task_id_in(envelope: Envelope | None) -> str | None:
    """A taskId that can be asked for, stored and printed; it is opaque apart from that."""
    task_id = envelope.data.get("taskId") if envelope and isinstance(envelope.data, Mapping) else None
    usable = isinstance(task_id, str) and 0 < len(task_id) <= MAX_TASK_ID and task_id.isprintable()
    return task_id if usable else None


def _certainly_refused(http_status: int, envelope: Envelope | None) -> bool:
    """Whether an answer that is no success proves that nothing was bought.

    APIXO's own refusal does, and so does any 3xx or 4xx; 408 apart, which a gateway sends when it lost
    track. A 2xx or 5xx without the envelope comes from something between us and APIXO, and proves nothing.
    """
    if envelope is not None and envelope.code >= 300:
        return True
    return 300 <= http_status < 500 and http_status != 408


def read_status(answer: Reply | Fault, task_id: str, now: float) -> TaskStatus | SeedreamError:
    """The task's status, or why it could not be read."""
    if isinstance(answer, Fault):
        cause = Cause(Kind.TRANSIENT, "The API could not be reached", "Look again later.")
        return LookFailedError(f"No answer about task {task_id}: {answer.detail}", cause)
    envelope = read_envelope(answer)
    refusal = read_refusal(answer, envelope, now)
    if refusal is not None:
        # A gateway's stray 4xx says nothing about a task that is paid for, so it is looked at again.
        foreign = envelope is None and 400 <= refusal.code < 500 and refusal.code not in (401, 402, 429)
        cause = _NOT_APIXO if foreign else refusal.cause
        message = f"APIXO did not tell the status of task {task_id}: {refusal.text}. {cause.remedy}"
        return LookFailedError(message, cause, code=refusal.code, retry_after=refusal.retry_after)
    try:
        return TaskStatus.from_data(envelope.data if envelope else None, task_id)
    except UnreadableAnswerError as error:
        return error


def read_balance(answer: Reply | Fault, now: float) -> Decimal | SeedreamError:
    """The balance in USD, or why it could not be read."""
    if isinstance(answer, Fault):
        return NotDeliveredError(answer.detail)
    envelope = read_envelope(answer)
    refusal = read_refusal(answer, envelope, now)
    if refusal is not None:
        message = f"APIXO did not tell the balance: {refusal.text}. {refusal.cause.remedy}"
        return RefusedError(refusal.code, message, refusal.cause, refusal.retry_after)
    amount = _money(envelope.data if envelope else None)
    if amount is None:
        cause = Cause(Kind.UNKNOWN, "No balance", "Contact support.")
        return RefusedError(200, "APIXO's answer holds no balance.", cause)
    return amount


def _money(value: Any) -> Decimal | None:
    """A finite amount, exact to the printed digits; what no account can hold is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = plain(value)
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    # Text such as 1e999999999 would fill the memory wherever it is printed.
    sane = len(text) <= _MAX_AMOUNT_CHARACTERS and abs(amount.adjusted()) < _MAX_AMOUNT_DIGITS
    return amount if amount.is_finite() and sane else None


def retry_after_seconds(header: str | None, now: float) -> float | None:
    """``Retry-After`` in seconds from ``now``; it holds seconds or an HTTP date (RFC 9110).

    :param header: the header's text.
    :param now: epoch seconds.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER)
    try:
        return min(max(0.0, parsedate_to_datetime(text).timestamp() - now), MAX_RETRY_AFTER)
    except (ValueError, TypeError, OverflowError):
        return None


def describe_body(body: bytes) -> str:
    """A foreign body in a few words."""
    if not body:
        return "an empty body"
    start = body[:60].decode("utf-8", "replace").split("\n", 1)[0].strip()
    return f"{len(body)} bytes starting with {start!r}"
