"""Advises the person on call: what is charged, what a retry does, and how to finish at no cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from airflow_provider_seedream.apixo.records import Submission
from airflow_provider_seedream.apixo.status import FAILED, TaskStatus
from airflow_provider_seedream.errors import (
    AmbiguousSubmitError,
    InterruptedJobError,
    PollFailedError,
    RecordError,
    SeedreamError,
    TaskFailedError,
)


@dataclass(frozen=True, slots=True)
class Advice:
    """Charge and retry, for the person on call: whole sentences without their opening."""

    charged: str
    retry: str

    def __str__(self) -> str:
        return f"Charged: {self.charged} Retry: {self.retry}"


def advise(
    error: SeedreamError, bought: Sequence[Submission], *, record_lasts: bool, perhaps: Decimal | None = None
) -> Advice:
    """Return what is charged, and what can be done, where a task buys.

    :param error: what happened.
    :param bought: what this Airflow task has bought.
    :param record_lasts: whether a retry of the Airflow task finds what was bought.
    :param perhaps: USD that submissions without an answer may have cost.
    """
    retry = _describe_retry(error, bought, record_lasts, perhaps)
    if bought and not isinstance(error, TaskFailedError):
        ids = [one.seedream_task_id for one in bought]
        retry += f" Clearing this Airflow task buys anew; {describe_free_finish(ids)}"
    return Advice(_describe_charge(error, bought, perhaps), retry)


def advise_watching(error: SeedreamError, a_retry: str) -> Advice:
    """Return what is charged, and what can be done, where a task buys nothing.

    :param a_retry: what it does where it can help.
    """
    if error.retryable:
        retry = a_retry
    elif isinstance(error, TaskFailedError) and error.cause.retryable:
        retry = "none, the task stays failed; clear the submitting task to submit again"
    else:
        retry = "none, it could not help"
    return Advice("nothing by this Airflow task.", f"{retry}.")


def describe_task_left(task_id: str, status: TaskStatus | None, problem: str) -> str:
    """Return what becomes of a task that is no longer waited for, and of the money, in words.

    :param status: ``None`` where it could not be read.
    :param problem: why it could not be read.
    """
    if status is not None and status.state == FAILED:
        return f"Task {task_id} has failed; APIXO refunds its pre-charge."
    collect = describe_free_finish([task_id])
    if status is not None and status.succeeded:
        return f"Task {task_id} has delivered {len(status.urls)} image(s), which are billed. {collect}"
    state = f"in state {status.state}" if status else f"in a state that could not be read ({problem})"
    billed = "APIXO tasks cannot be cancelled: it will still be billed when it delivers."
    return f"Task {task_id} is {state}. {billed} {collect}"


def describe_wait_ended(task_id: str) -> str:
    """Return what becomes of a task whose wait was ended by a callback or a user, nobody knows by which."""
    return (
        "The wait in the triggerer has ended: a callback resumes the task, or a user has ended it. "
        f"In that case task {task_id} goes on at APIXO: it cannot be cancelled, and is billed when it "
        f"delivers. {describe_free_finish([task_id])}"
    )


def describe_free_finish(task_ids: Sequence[str]) -> str:
    """Return how to finish without paying again, as a whole sentence.

    :param task_ids: of the API, at least one.
    """
    ids = " and ".join(f"seedream_task_id={task_id!r}" for task_id in task_ids)
    return f"SeedreamTaskSensor and SeedreamDownloadOperator with {ids} finish the job at no cost."


def _describe_charge(error: SeedreamError, bought: Sequence[Submission], perhaps: Decimal | None) -> str:
    lost = f"perhaps {perhaps} USD for a submission whose answer was lost" if perhaps else ""
    if isinstance(error, TaskFailedError):
        known = "nothing for the task that failed"
    elif bought:
        amount = sum((one.charged for one in bought if one.charged is not None), Decimal(0))
        most = f"at most {amount} USD" if amount else "the delivered images"
        known = f"{most} for {_name_tasks(bought)}, less what APIXO refunds for images that do not come"
    else:
        known = "" if lost else "nothing by this try"
    return f"{', and '.join(part for part in (known, lost) if part)}."


def _describe_retry(
    error: SeedreamError, bought: Sequence[Submission], record_lasts: bool, perhaps: Decimal | None
) -> str:
    if not error.retryable:
        return f"none, {_explain_no_retry(error, bought, record_lasts)}."
    if isinstance(error, RecordError):
        return "reads the record again, and then carries on or buys."
    if isinstance(error, AmbiguousSubmitError) and error.callback_may_tell:
        return "buys nothing: it carries on if a callback has told the taskId by then."
    if isinstance(error, AmbiguousSubmitError):
        return "submits again, since on_ambiguous_submit is 'resubmit'."
    if perhaps and not bought and isinstance(error, PollFailedError):
        return "polls the task that a callback has named."
    if bought and not isinstance(error, TaskFailedError):
        return "carries on with what was bought for this request, and buys nothing again."
    if perhaps and isinstance(error, InterruptedJobError):
        return "finds a submission without an answer, and does what on_ambiguous_submit says."
    return "submits anew."


def _explain_no_retry(error: SeedreamError, bought: Sequence[Submission], record_lasts: bool) -> str:
    if isinstance(error, AmbiguousSubmitError):
        return "it might pay twice; on_ambiguous_submit='resubmit' or a clear of this task submits again"
    if isinstance(error, TaskFailedError):
        return "it could not help"
    if not record_lasts and (bought or error.cause.retryable):
        return "it would buy again, since no record of the purchase outlasts this try"
    return "it could not help"


def _name_tasks(bought: Sequence[Submission]) -> str:
    ids = ", ".join(one.seedream_task_id for one in bought)
    return f"task {ids}" if len(bought) == 1 else f"tasks {ids}"
