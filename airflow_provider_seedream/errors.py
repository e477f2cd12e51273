"""Names every way a generation can fail: what happened, what it cost, and what a retry would do.

Two roots tell the person on call about money: :class:`NotChargedError` (nothing was bought) and
:class:`ChargedError` (a POST was accepted, or may have been).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

ASK_SUPPORT = "Retry, or contact support with the taskId."


class Kind(Enum):
    """The one who can make a failure go away; decides whether a retry can help.

    ``AMBIGUOUS`` may already have been paid for, so a retry would not help but might pay twice.
    """

    INPUT = "input"
    CONTENT = "content"
    KEY = "key"
    BALANCE = "balance"
    PERMISSION = "permission"
    NOT_FOUND = "not_found"
    RATE_LIMIT = "rate_limit"
    TRANSIENT = "transient"
    AMBIGUOUS = "ambiguous"
    UNKNOWN = "unknown"

    @property
    def retryable(self) -> bool:
        """True if the same request may succeed later without anybody changing anything."""
        return self in (Kind.RATE_LIMIT, Kind.TRANSIENT, Kind.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Cause:
    """The meaning of a code of the API.

    :param kind: who can make it go away.
    :param meaning: what happened, in words.
    :param remedy: what the user can do about it.
    """

    kind: Kind
    meaning: str
    remedy: str

    @property
    def retryable(self) -> bool:
        """True if a retry can help."""
        return self.kind.retryable


INSUFFICIENT_BALANCE = Cause(
    Kind.BALANCE, "Insufficient balance or quota", "Add balance, or use another account or key."
)


class SeedreamError(Exception):
    """Any failure of this provider.

    :param message: what happened, for a person.
    :param cause: meaning, remedy and whether a retry can help.
    :param retry_after: seconds after which the API asks to be called again, if it said so.
    """

    retry_helps: bool | None = None
    """Set where the situation decides whether a retry can help, and not the cause alone."""

    def __init__(self, message: str, cause: Cause, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.cause = cause
        self.retry_after = retry_after

    @property
    def retryable(self) -> bool:
        """True if a retry can help."""
        return self.cause.retryable if self.retry_helps is None else self.retry_helps

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle by content: the constructors take other arguments than the message."""
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[SeedreamError], args: tuple[object, ...], state: dict[str, object]) -> SeedreamError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class NotChargedError(SeedreamError):
    """A failure of something that spends no money; an earlier step may have."""


class ChargedError(SeedreamError):
    """A failure after money was spent, or may have been spent."""


# --- before money was spent --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """One broken rule of a request: the field, its value, the rule, and the remedy."""

    field: str
    value: str
    rule: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.field}={self.value}: {self.rule}. {self.remedy}"


class InvalidRequestError(NotChargedError, ValueError):
    """The request breaks rules of the vendor's page; it was not sent.

    :param problems: every broken rule, at least one.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        cause = Cause(Kind.INPUT, "The request is invalid", "Correct the field named above.")
        super().__init__(
            "Invalid Seedream request, it was not sent. " + " ".join(map(str, self.problems)),
            cause,
        )


class ConnectionConfigError(NotChargedError, ValueError):
    """The Airflow connection lacks something or holds something unusable.

    :param about: which connection, where the message does not name it.
    """

    def __init__(self, message: str, remedy: str, kind: Kind = Kind.KEY, *, about: str = "") -> None:
        opening = f"{about}: " if about else ""
        super().__init__(f"{opening}{message} {remedy}", Cause(kind, message, remedy))


class NotDeliveredError(NotChargedError):
    """The request never reached the API: name lookup, connect or TLS failed."""

    def __init__(self, detail: str) -> None:
        cause = Cause(
            Kind.TRANSIENT, "The API could not be reached", "Check the connection's host and network."
        )
        super().__init__(f"The request never reached APIXO, so nothing was charged: {detail}", cause)


class RefusedError(NotChargedError):
    """The API refused the request, in its own JSON envelope or with a 3xx or 4xx.

    :param code: HTTP status, or the ``code`` of the body where that differs.
    """

    def __init__(self, code: int, message: str, cause: Cause, retry_after: float | None = None) -> None:
        super().__init__(message, cause, retry_after=retry_after)
        self.code = code


class DestinationError(NotChargedError):
    """The destination cannot be used; found before anything was bought or fetched.

    :param retryable: whether the store may merely be out of reach for now.
    """

    def __init__(self, message: str, remedy: str, *, retryable: bool = False) -> None:
        kind = Kind.TRANSIENT if retryable else Kind.INPUT
        super().__init__(f"{message} {remedy}", Cause(kind, message, remedy))


class BudgetError(NotChargedError):
    """The submission would cost more than ``max_cost`` allows.

    :param needed: USD that it would have taken in all.
    :param limit: USD that are allowed.
    """

    def __init__(self, needed: Decimal, limit: Decimal, already_spent: Decimal) -> None:
        before = f", {already_spent} USD of them for what was bought before" if already_spent else ""
        remedy = "Raise max_cost, or order fewer images."
        super().__init__(
            f"max_cost={limit} USD does not cover the submission, which takes it to {needed} USD{before}; "
            f"it was not sent. {remedy}",
            Cause(Kind.INPUT, "The budget does not cover the submission", remedy),
        )


class BalanceError(NotChargedError):
    """The key's balance does not cover the submission, which was not sent.

    :param needed: USD of its pre-charge.
    :param balance: USD that are left.
    """

    def __init__(self, needed: Decimal, balance: Decimal) -> None:
        super().__init__(
            f"The balance of {balance} USD does not cover the pre-charge of {needed} USD; "
            f"the submission was not sent. {INSUFFICIENT_BALANCE.remedy}",
            INSUFFICIENT_BALANCE,
        )


class RecordError(NotChargedError):
    """The record of what this Airflow task has bought cannot be read or written, so it buys nothing.

    :param retryable: whether the store may merely be out of reach for now.
    """

    def __init__(self, message: str, remedy: str, *, retryable: bool) -> None:
        kind = Kind.TRANSIENT if retryable else Kind.AMBIGUOUS
        super().__init__(f"{message} {remedy}", Cause(kind, message, remedy))


class OccupiedError(NotChargedError):
    """``if_exists="fail"``, and the destination already holds such images.

    :param what: the file that is in the way.
    """

    def __init__(self, what: str) -> None:
        remedy = "Use another destination or filename, or if_exists='reuse' or 'replace'."
        message = f"The destination already holds {what}, and if_exists is 'fail'; nothing was bought."
        super().__init__(f"{message} {remedy}", Cause(Kind.INPUT, message, remedy))


# --- after money was spent, or may have been ---------------------------------------------------------


class AmbiguousSubmitError(ChargedError):
    """The answer to a submission was lost or unreadable: it may have been accepted and charged.

    :param detail: what happened to the answer.
    :param before: USD on the key before the submission, where it could be read.
    :param after: USD on the key afterwards, where it could be read.
    :param seedream_task_id: the task that the answer names all the same, if it does.

    A retry cannot help unless ``callback_may_tell``, where it may find what became of it in a callback, or
    ``resubmits``, where the user has chosen to submit again.
    """

    def __init__(
        self,
        detail: str,
        before: Decimal | None = None,
        after: Decimal | None = None,
        seedream_task_id: str | None = None,
    ) -> None:
        self.detail = detail
        self.before = before
        self.after = after
        self.seedream_task_id = seedream_task_id
        self.callback_may_tell = False
        self.resubmits = False
        cause = Cause(
            Kind.AMBIGUOUS,
            "The answer to the submission was lost",
            "Compare the balance of your APIXO account before submitting again.",
        )
        lost = f"its answer was lost: {detail.rstrip('.')}."
        super().__init__(
            f"APIXO may have accepted and charged this submission, but {lost} "
            f"{_describe_balances(before, after)} {cause.remedy}",
            cause,
        )

    @property
    def retryable(self) -> bool:
        """True if a retry can help."""
        if self.retry_helps is not None:
            return self.retry_helps
        return self.callback_may_tell or self.resubmits

    def with_balances(self, before: Decimal | None, after: Decimal | None) -> AmbiguousSubmitError:
        """Return the same error, telling the balance before and after."""
        return type(self)(self.detail, before, after, self.seedream_task_id)


def _describe_balances(before: Decimal | None, after: Decimal | None) -> str:
    shown = [f"{amount} USD" if amount is not None else "not known" for amount in (before, after)]
    return f"Balance before: {shown[0]}; after: {shown[1]} (whatever else uses the key changes it, too)."


class PollFailedError(ChargedError):
    """A task's status could not be read; the task itself is not affected.

    :param code: HTTP status or body code, ``None`` where no answer came.
    """

    def __init__(
        self, message: str, cause: Cause, *, code: int | None = None, retry_after: float | None = None
    ) -> None:
        super().__init__(message, cause, retry_after=retry_after)
        self.code = code


class UnreadableAnswerError(PollFailedError):
    """APIXO answered a poll with something that makes no sense; it may be a passing glitch."""

    def __init__(self, detail: str, task_id: str) -> None:
        cause = Cause(Kind.UNKNOWN, "The answer could not be read", ASK_SUPPORT)
        what = f"The status of task {task_id} could not be read: {detail}. The task is not affected."
        super().__init__(f"{what} {cause.remedy}", cause)


class TaskFailedError(ChargedError):
    """The API reports that the task failed; its pre-charge is refunded.

    :param retry_helps: what the user says of this failCode; ``None`` leaves it to the cause.
    """

    def __init__(
        self, message: str, cause: Cause, *, fail_code: str | None, retry_helps: bool | None = None
    ) -> None:
        super().__init__(message, cause)
        self.fail_code = fail_code
        self.retry_helps = retry_helps


class DeadlineError(ChargedError):
    """The task did not finish before its deadline. It may still finish, and then it is billed."""

    def __init__(self, message: str) -> None:
        cause = Cause(Kind.TRANSIENT, "The deadline passed", "Poll again later, or allow more time.")
        super().__init__(message, cause)


class NotFinishedError(ChargedError):
    """A result was asked for while the task is still in progress."""

    def __init__(self, task_id: str, state: str) -> None:
        cause = Cause(Kind.TRANSIENT, "The task is still in progress", "Put a sensor before this task.")
        super().__init__(
            f"Task {task_id} is {state}; there is nothing to download yet. {cause.remedy}", cause
        )


class InterruptedJobError(ChargedError):
    """Something that this provider did not foresee ended the job when money was, or may have been, spent.

    :param reason: what it was.
    """

    def __init__(self, reason: str) -> None:
        cause = Cause(Kind.UNKNOWN, "The job was interrupted", "See the log.")
        super().__init__(f"The job was interrupted: {reason}.", cause)


class TooFewImagesError(ChargedError):
    """Fewer images came than ``min_images``; those that came are saved and paid for.

    :param delivered: number of images.
    :param wanted: ``min_images``.
    :param where: the manifest, or ``None`` where nothing was to be saved.
    :param obstacle: what kept the missing images from being bought, where that was tried.
    """

    def __init__(
        self, delivered: int, wanted: int, where: str | None, obstacle: SeedreamError | None = None
    ) -> None:
        remedy = f"The rest could not be bought: {obstacle}" if obstacle else "Lower min_images, or top up."
        kept = f"They are saved, see {where}." if where else "Their URLs are in the log."
        message = f"{delivered} image(s) were delivered, min_images={wanted}. {kept}"
        # Another poll finds the same images; only what is bought in addition can help.
        kind = obstacle.cause.kind if obstacle else Kind.INPUT
        super().__init__(f"{message} {remedy}", Cause(kind, message, remedy))


class DownloadError(ChargedError):
    """A finished image could not be fetched, verified or stored; the generation itself is paid."""

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        kind = Kind.TRANSIENT if retryable else Kind.INPUT
        super().__init__(message, Cause(kind, "The download failed", "Run the download again."))


class ResultExpiredError(DownloadError):
    """The result host no longer serves the image (HTTP 403, 404 or 410)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=False)
