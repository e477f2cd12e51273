"""Finds what was bought in what other Airflow tasks have pushed, and concludes what only was watched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_seedream.apixo.model import DEFAULT_MODEL
from airflow_provider_seedream.apixo.records import SUBMISSION_KEY, Submission, result_record
from airflow_provider_seedream.apixo.status import TaskStatus
from airflow_provider_seedream.apixo.verdict import Verdict, task_failed
from airflow_provider_seedream.callbacks.delivery import DELIVERY_XCOM_KEY
from airflow_provider_seedream.errors import NotFinishedError, TaskFailedError
from airflow_provider_seedream.metrics import count

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_seedream.hooks.seedream import SeedreamHook


def recorded_submission(context: Context, pushed_by: str, seedream_task_id: str) -> Submission | None:
    """The record that a task of this DAG run pushed for a taskId, or ``None``.

    :param pushed_by: ``task_id`` of the Airflow task; looked up at the same map index, then unmapped, then at
        all map indexes, since lists get reordered.
    """
    for record in _pushed_records(context, pushed_by, SUBMISSION_KEY):
        if isinstance(record, Mapping) and record.get("seedream_task_id") == seedream_task_id:
            return Submission.from_json(record)
    return None


def _pushed_records(context: Context, pushed_by: str, key: str) -> Iterator[Any]:
    yield from _pushed_nearby(context, pushed_by, key)
    everywhere = context["ti"].xcom_pull(task_ids=pushed_by, key=key)
    yield from everywhere if isinstance(everywhere, list) else [everywhere]


def _pushed_nearby(context: Context, pushed_by: str, key: str) -> Iterator[Any]:
    """At the same map index, then where the task is not mapped."""
    ti = context["ti"]
    for map_index in dict.fromkeys((ti.map_index, -1)):
        yield ti.xcom_pull(task_ids=pushed_by, key=key, map_indexes=map_index)


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


def callback_came(context: Context, operator: BaseOperator, digest: str) -> bool:
    """Whether a callback has come for a purchase of one of an operator's upstream tasks.

    :param digest: of the callback's nonce.
    """
    try:
        for task_id in sorted(operator.upstream_task_ids):
            notes = _pushed_nearby(context, task_id, DELIVERY_XCOM_KEY)
            if any(isinstance(note, Mapping) and note.get("digest") == digest for note in notes):
                return True
    except Exception as error:  # noqa: BLE001 - a note only makes things quicker
        operator.log.warning("Airflow does not tell whether a callback has come: %s", error)
    return False


def conclude(submission: Submission, verdict: Verdict) -> dict[str, Any]:
    """The result record of a task that this Airflow task only watched, and that delivered.

    :raises ChargedError: it did not deliver.
    """
    try:
        result = result_record((submission, verdict.success()))
    except TaskFailedError as error:
        # A failed task stays failed, however often it is looked at.
        error.retry_helps = False
        raise
    count(result, polls=verdict.polls)
    return result


def conclude_finished(submission: Submission, status: TaskStatus) -> dict[str, Any]:
    """The result record of a task that was looked at once.

    :raises TaskFailedError: the API reports a failure.
    :raises NotFinishedError: it is still in progress.
    """
    if not status.finished:
        raise NotFinishedError(status.task_id, status.state)
    if not status.succeeded:
        error = task_failed(status)
        error.retry_helps = False
        raise error
    return result_record((submission, status))
