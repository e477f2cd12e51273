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
    BaseOperator,
    conf,
)

from airflow_provider_seedream.apixo.errors import (
    NotFinishedError,
    SeedreamError,
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
    context["ti"].xcom_push(key=SUBMISSION_KEY, value=submission.to_json())
    hook.log.info("APIXO accepted task %s and pre-charged %s USD.", task_id, submission.charged)
    return submission


def recorded_submission(context: Context, pushed_by: str, seedream_task_id: str) -> Submission | None:
    """The record that a task of this DAG run pushed for a taskId, or ``None``.

    :param pushed_by: ``task_id`` of the Airflow task; looked up at the same map index, then unmapped.
    """
    ti = context["ti"]
    for map_index in dict.fromkeys((ti.map_index, -1)):
        record = ti.xcom_pull(task_ids=pushed_by, key=SUBMISSION_KEY, map_indexes=map_index)
        if isinstance(record, Mapping) and record.get("seedream_task_id") == seedream_task_id:
            return Submission.from_json(record)
    return None


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


def defer_until_finished(
    operator: BaseOperator, submission: Submission, pace: Pace, *, deadline: float, conn_id: str
) -> NoReturn:
    """Free the worker slot; ``operator.execute_complete`` is called with the trigger's event."""
    # airflow.triggers costs some 80 ms to import, which every parsing of a DAG would pay.
    from airflow_provider_seedream.triggers.seedream import SeedreamTaskTrigger

    now = time.time()
    dwell = conf.getfloat("seedream", "min_deferral_seconds", fallback=DEFAULT_MIN_DEFERRAL_SECONDS)
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


def verdict_of(event: Mapping[str, Any]) -> Verdict:
    """The verdict in an event of a trigger that watched one task."""
    return Verdict.from_json(event["verdicts"][0])


def conclude(submission: Submission, verdict: Verdict, *, retry: str) -> dict[str, Any]:
    """The result record of a task that delivered.

    :param retry: what a retry of the Airflow task does, for the error's last words.
    :raises ChargedError: it did not deliver.
    """
    try:
        return result_record(submission, verdict.success())
    except SeedreamError as error:
        error.args = (f"{error} {retry}" if error.retryable else f"{error} A retry cannot help.",)
        raise


def conclude_finished(submission: Submission, status: TaskStatus) -> dict[str, Any]:
    """The result record of a task that was looked at once.

    :raises TaskFailedError: the API reports a failure.
    :raises NotFinishedError: it is still in progress.
    """
    if not status.finished:
        raise NotFinishedError(status.task_id, status.state)
    if not status.succeeded:
        raise task_failed(status)
    return result_record(submission, status)
