"""The steps of a request that operators and sensor share: submit, defer, conclude."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowTaskTimeout,
    BaseOperator,
    conf,
)

from airflow_provider_seedream.apixo.errors import (
    Cause,
    Kind,
    LookFailedError,
    NotFinishedError,
    PaidTaskError,
    SeedreamError,
    TaskFailedError,
)
from airflow_provider_seedream.apixo.model import DEFAULT_MODEL, Pace
from airflow_provider_seedream.apixo.records import Submission, result_record
from airflow_provider_seedream.apixo.task import TaskStatus
from airflow_provider_seedream.apixo.verdict import Verdict, task_failed

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_seedream.apixo.request import GenerateRequest
    from airflow_provider_seedream.hooks.seedream import SeedreamHook

SUBMISSION_KEY = "submission"
"""XCom key of :meth:`Submission.to_json`, pushed as soon as the API has accepted the task."""

DEFERRAL_FAILED = "__fail__"
"""``next_method`` of a task whose deferral failed (``TRIGGER_FAIL_REPR`` in Airflow 3.1-3.3)."""

BACKSTOP_SECONDS = 120
"""Airflow's own deferral timeout comes this much after ours, so that ours tells what happened."""

DEFAULT_MIN_DEFERRAL_SECONDS = 6.0


@contextmanager
def hopeless_failures_end_the_task() -> Iterator[None]:
    """Turn a failure that no retry can help into one that Airflow does not retry."""
    try:
        yield
    except SeedreamError as error:
        if error.retryable:
            raise
        raise AirflowFailException(str(error)) from error


@contextmanager
def nothing_is_bought_again(seedream_task_id: str) -> Iterator[None]:
    """For what follows a purchase in the same Airflow task, where a retry would start with buying again.

    A task that APIXO reports as failed is refunded, so that may be retried; all else ends the Airflow task.

    :raises PaidTaskError: says how the job can be finished at no cost.
    """
    try:
        yield
    except TaskFailedError:
        raise
    except (Exception, AirflowTaskTimeout) as error:
        raise PaidTaskError(f"{type(error).__name__}: {error}", seedream_task_id) from error


def submit(hook: SeedreamHook, request: GenerateRequest, context: Context) -> Submission:
    """Submit and record what was bought before anything else happens."""
    account = hook.account
    if request.provider is None and account.provider is not None:
        request = replace(request, provider=account.provider)
    hook.log.info(
        "Submitting %d image(s), %s %s, to %s; at most %s USD.",
        request.max_images,
        request.resolution,
        request.mode,
        request.model,
        request.max_cost(account.price_per_image),
    )
    task_id = hook.submit(request)
    submission = Submission.of(request, task_id, price_per_image=account.price_per_image, now=time.time())
    # Logged first: if the record cannot be pushed, the log still has the taskId.
    hook.log.info("APIXO accepted task %s and pre-charged %s USD.", task_id, submission.charged)
    with nothing_is_bought_again(task_id):
        context["ti"].xcom_push(key=SUBMISSION_KEY, value=submission.to_json())
    return submission


def recorded_submission(context: Context, pushed_by: str, seedream_task_id: str) -> Submission | None:
    """The record that a task of this DAG run pushed for a taskId, or ``None``.

    :param pushed_by: ``task_id`` of the Airflow task; looked up at the same map index, then unmapped, then at
        all map indexes, since lists get reordered.
    """
    for record in _pushed_records(context, pushed_by):
        if isinstance(record, Mapping) and record.get("seedream_task_id") == seedream_task_id:
            return Submission.from_json(record)
    return None


def _pushed_records(context: Context, pushed_by: str) -> Iterator[Any]:
    ti = context["ti"]
    for map_index in dict.fromkeys((ti.map_index, -1)):
        yield ti.xcom_pull(task_ids=pushed_by, key=SUBMISSION_KEY, map_indexes=map_index)
    everywhere = ti.xcom_pull(task_ids=pushed_by, key=SUBMISSION_KEY)
    yield from everywhere if isinstance(everywhere, list) else [everywhere]


def own_submission(context: Context) -> Submission:
    """The record that this very task pushed before it deferred.

    :raises LookFailedError: it is gone.
    """
    ti = context["ti"]
    record = ti.xcom_pull(task_ids=ti.task_id, key=SUBMISSION_KEY, map_indexes=ti.map_index)
    if isinstance(record, Mapping):
        return Submission.from_json(record)
    cause = Cause(Kind.AMBIGUOUS, "The record is gone", "The taskId is in the log of this task.")
    raise LookFailedError(f"What was submitted is no longer in XCom. {cause.remedy}", cause)


def foreign_submission(
    hook: SeedreamHook, seedream_task_id: str, *, model: str = DEFAULT_MODEL, resolution: str = "2K"
) -> Submission:
    """What is known of a task whose submission nobody recorded here."""
    return Submission(
        seedream_task_id=seedream_task_id,
        price_per_image=hook.account.price_per_image,
        model=model,
        resolution=resolution,
    )


def find_submission(context: Context, operator: BaseOperator, seedream_task_id: str) -> Submission | None:
    """The record of a taskId that one of an operator's upstream tasks pushed, or ``None``."""
    for task_id in sorted(operator.upstream_task_ids):
        if submission := recorded_submission(context, task_id, seedream_task_id):
            return submission
    return None


def paced(submission: Submission, first_poll: float | None, poll_interval: float | None) -> Pace:
    """The model's pace, with the user's own seconds where given."""
    pace = submission.pace
    if first_poll is not None:
        pace = replace(pace, first_look=first_poll)
    if poll_interval is not None:
        pace = replace(pace, interval_low=poll_interval, interval_high=poll_interval)
    return pace


def min_deferral_seconds() -> float:
    """The setting ``[seedream] min_deferral_seconds``; it may be wrong, so read it before money is spent."""
    return float(conf.getfloat("seedream", "min_deferral_seconds", fallback=DEFAULT_MIN_DEFERRAL_SECONDS))


def defer_until_finished(
    operator: BaseOperator, submission: Submission, pace: Pace, *, deadline: float, conn_id: str
) -> NoReturn:
    """Free the worker slot; ``operator.execute_complete`` is called with the trigger's event."""
    # airflow.triggers costs some 80 ms to import, which every parsing of a DAG would pay.
    from airflow_provider_seedream.triggers.seedream import SeedreamTaskTrigger

    now = time.time()
    dwell = min_deferral_seconds()
    operator.defer(
        trigger=SeedreamTaskTrigger(
            seedream_task_ids=[submission.seedream_task_id],
            deadline=deadline,
            first_look=pace.first_look,
            interval_low=pace.interval_low,
            interval_high=pace.interval_high,
            created_at=submission.submitted_at,
            not_before=now + dwell,
            model=submission.model,
            seedream_conn_id=conn_id,
        ),
        method_name="execute_complete",
        timeout=timedelta(seconds=max(0.0, deadline - now) + dwell + BACKSTOP_SECONDS),
    )


def wait(hook: SeedreamHook, submission: Submission, pace: Pace, *, deadline: float) -> Verdict:
    """Watch a task to its end, holding the worker slot."""
    watch = hook.start_watch(
        submission.seedream_task_id, pace, created_at=submission.submitted_at, deadline=deadline
    )
    hook.watch([watch], submission.model)
    return Verdict.of(watch)


def look_after_failed_deferral(
    hook: SeedreamHook, submission: Submission, failure: Mapping[str, Any] | None
) -> Verdict:
    """One last look, for a task whose trigger was lost or ended by Airflow's own timeout.

    :param failure: Airflow's ``error`` and ``traceback``.
    """
    reason = dict(failure or {})
    hook.log.warning(
        "%s. %s", reason.get("error", "The trigger failed"), "\n".join(reason.get("traceback") or [])
    )
    return wait(hook, submission, submission.pace, deadline=time.time())


def verdict_of(event: Mapping[str, Any]) -> Verdict:
    """The verdict in an event of a trigger that watched one task."""
    return Verdict.from_json(event["verdicts"][0])


def conclude(submission: Submission, verdict: Verdict, *, retry_submits: bool) -> dict[str, Any]:
    """The result record of a task that delivered.

    :param retry_submits: whether a retry of the Airflow task starts with a new submission, as in Generate, or
        looks at the same task again, as in the sensor.
    :raises ChargedError: it did not deliver; the last words say what a retry does.
    """
    try:
        return result_record(submission, verdict.success())
    except SeedreamError as error:
        failed = isinstance(error, TaskFailedError)
        if failed and not retry_submits:
            error.final = True
        if words := _what_a_retry_does(error, failed=failed, submits=retry_submits):
            error.args = (f"{error} {words}",)
        raise


def _what_a_retry_does(error: SeedreamError, *, failed: bool, submits: bool) -> str:
    if not error.cause.retryable:
        return "A retry cannot help."
    if failed and submits:
        return "A retry submits anew, and is charged only if it delivers."
    if failed:
        return "A retry would look at the same task; clear the submitting task to submit again."
    # What Generate has paid for ends in PaidTaskError, which has its own last words.
    return "" if submits else "A retry looks at the same task again and buys nothing."


def conclude_finished(submission: Submission, status: TaskStatus) -> dict[str, Any]:
    """The result record of a task that was looked at once.

    :raises TaskFailedError: the API reports a failure.
    :raises NotFinishedError: it is still in progress.
    """
    if not status.finished:
        raise NotFinishedError(status.task_id, status.state)
    if not status.succeeded:
        error = task_failed(status)
        # A failed task stays failed, however often it is looked at.
        error.final = True
        raise error
    return result_record(submission, status)
