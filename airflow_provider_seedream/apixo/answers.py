"""Reads the API's answers: what an HTTP reply, or none, says of a submission, a task, a balance."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from airflow_provider_seedream.apixo.causes import find_fail_cause, find_http_cause
from airflow_provider_seedream.apixo.status import TaskStatus, is_task_id
from airflow_provider_seedream.apixo.text import make_printable
from airflow_provider_seedream.errors import (
    AmbiguousSubmitError,
    Cause,
    Kind,
    NotDeliveredError,
    PollFailedError,
    RefusedError,
    SeedreamError,
    UnreadableAnswerError,
)
from airflow_provider_seedream.times import from_http_date

MAX_RETRY_AFTER = 24 * 3600.0
"""Seconds; an API that asks for more is taken to ask for this."""

MAX_CODE = 99_999
"""A body whose ``code`` is further from zero is not APIXO's."""

_WORDS = 500
"""Characters of each of the vendor's sentences that go into a message."""

_MAX_AMOUNT_DIGITS = 12

_MAX_AMOUNT_CHARACTERS = 40


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer.

    :param headers: names in lower case.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """No answer came.

    :param delivered: ``False`` when the request certainly never reached the API.
    :param detail: what went wrong, for a person.
    """

    delivered: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Envelope:
    """APIXO's own JSON body: ``{"code", "message", "data"}``."""

    code: int
    message: str
    data: Any

    @property
    def accepts(self) -> bool:
        """True if its code is a success; the vendor documents 200."""
        return 200 <= self.code < 300


def read_envelope(reply: Reply) -> Envelope | None:
    """Return the envelope in a reply, or ``None`` if the body is not APIXO's (HTML, empty, other JSON)."""
    try:
        body = json.loads(reply.body)
    except (ValueError, RecursionError):
        return None
    code = body.get("code") if isinstance(body, dict) else None
    if isinstance(code, bool) or not isinstance(code, int) or abs(code) > MAX_CODE:
        return None
    return Envelope(code, make_printable(body.get("message") or "", _WORDS), body.get("data"))


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is not a success: its code, its words and what they mean."""

    code: int
    text: str
    cause: Cause
    retry_after: float | None


def read_refusal(reply: Reply, envelope: Envelope | None, now: float) -> Refusal | None:
    """Return the refusal in an answer, or ``None`` for a success (in HTTP status and body code).

    A failCode in the body says more than the code, wherever it stands.
    """
    answered = 200 <= reply.status < 300
    if answered and envelope and envelope.accepts:
        return None
    code = envelope.code if answered and envelope else reply.status
    data = envelope.data if envelope and isinstance(envelope.data, Mapping) else {}
    fail_code = data.get("failCode")
    words = [
        make_printable(part, _WORDS) for part in (data.get("error"), fail_code, data.get("failMsg")) if part
    ]
    message = envelope.message if envelope else f"no APIXO answer but {describe_body(reply.body)}"
    return Refusal(
        code=code,
        text=": ".join(part for part in (f"HTTP {reply.status}", message, *words) if part),
        cause=find_fail_cause(make_printable(fail_code, _WORDS)) if fail_code else _find_cause(code),
        retry_after=read_retry_after(reply.headers.get("retry-after"), now),
    )


_NOT_APIXO = Cause(Kind.UNKNOWN, "The answer is not APIXO's", "Check the connection's host.")


def _find_cause(code: int) -> Cause:
    return _NOT_APIXO if 200 <= code < 300 else find_http_cause(code)


def read_submission(answer: Reply | NoAnswer, now: float) -> str | SeedreamError:
    """Return the taskId, or what went wrong and what it cost."""
    if isinstance(answer, NoAnswer):
        return AmbiguousSubmitError(answer.detail) if answer.delivered else NotDeliveredError(answer.detail)
    envelope = read_envelope(answer)
    refusal = read_refusal(answer, envelope, now)
    task_id = _find_task_id(envelope)
    if refusal is None:
        return task_id or AmbiguousSubmitError("it was accepted, but the answer holds no usable taskId")
    if task_id:
        detail = f"{refusal.text}; it names task {task_id!r}, which can be waited for"
        return AmbiguousSubmitError(detail, seedream_task_id=task_id)
    if not _proves_refusal(answer.status, envelope):
        return AmbiguousSubmitError(refusal.text)
    message = f"APIXO refused the submission, nothing was charged: {refusal.text}. {refusal.cause.remedy}"
    return RefusedError(refusal.code, message, refusal.cause, refusal.retry_after)


def _find_task_id(envelope: Envelope | None) -> str | None:
    task_id = envelope.data.get("taskId") if envelope and isinstance(envelope.data, Mapping) else None
    return task_id if is_task_id(task_id) else None


def _proves_refusal(http_status: int, envelope: Envelope | None) -> bool:
    """Tell whether an answer that is no success proves that nothing was bought.

    APIXO's own refusal does, and so does any 3xx or 4xx; 408 apart, which a gateway sends when it lost
    track. A 2xx or 5xx without the envelope comes from something between us and APIXO, and proves nothing.
    """
    if envelope is not None and envelope.code >= 300:
        return True
    return 300 <= http_status < 500 and http_status != 408


def read_status(answer: Reply | NoAnswer, task_id: str, now: float) -> TaskStatus | SeedreamError:
    """Return the task's status, or why it could not be read."""
    if isinstance(answer, NoAnswer):
        cause = Cause(Kind.TRANSIENT, "The API could not be reached", "Poll again later.")
        return PollFailedError(f"No answer about task {task_id}: {answer.detail}", cause)
    envelope = read_envelope(answer)
    refusal = read_refusal(answer, envelope, now)
    if refusal is not None:
        # A gateway's stray 4xx says nothing about a task that is paid for, so it is polled again.
        foreign = envelope is None and 400 <= refusal.code < 500 and refusal.code not in (401, 402, 429)
        cause = _NOT_APIXO if foreign else refusal.cause
        message = f"APIXO did not tell the status of task {task_id}: {refusal.text}. {cause.remedy}"
        return PollFailedError(message, cause, code=refusal.code, retry_after=refusal.retry_after)
    try:
        return TaskStatus.from_data(envelope.data if envelope else None, task_id)
    except UnreadableAnswerError as error:
        return error


def read_balance(answer: Reply | NoAnswer, now: float) -> Decimal | SeedreamError:
    """Return the balance in USD, or why it could not be read."""
    if isinstance(answer, NoAnswer):
        return NotDeliveredError(answer.detail)
    envelope = read_envelope(answer)
    refusal = read_refusal(answer, envelope, now)
    if refusal is not None:
        message = f"APIXO did not tell the balance: {refusal.text}. {refusal.cause.remedy}"
        return RefusedError(refusal.code, message, refusal.cause, refusal.retry_after)
    amount = _read_amount(envelope.data if envelope else None)
    if amount is None:
        cause = Cause(Kind.UNKNOWN, "No balance", "Contact support.")
        return RefusedError(200, "APIXO's answer holds no balance.", cause)
    return amount


def _read_amount(value: Any) -> Decimal | None:
    """Read a finite amount, exact to the printed digits; what no account can hold is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    text = make_printable(value)
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return None
    # Text such as 1e999999999 would fill the memory wherever it is printed.
    sane = len(text) <= _MAX_AMOUNT_CHARACTERS and abs(amount.adjusted()) < _MAX_AMOUNT_DIGITS
    return amount if amount.is_finite() and sane else None


def read_retry_after(header: str | None, now: float) -> float | None:
    """Return ``Retry-After`` in seconds from ``now``; it holds seconds or an HTTP date (RFC 9110).

    :param header: the header's text.
    :param now: epoch seconds.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER)
    try:
        return min(max(0.0, from_http_date(text) - now), MAX_RETRY_AFTER)
    except (ValueError, TypeError, OverflowError):
        return None


def describe_body(body: bytes) -> str:
    """Return a foreign body in a few words."""
    if not body:
        return "an empty body"
    start = body[:60].decode("utf-8", "replace").split("\n", 1)[0].strip()
    return f"{len(body)} bytes starting with {start!r}"
