"""Finds what other Airflow tasks of the run have bought, and concludes what this one only watched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_seedream.apixo.model import DEFAULT_MODEL
from airflow_provider_seedream.apixo.records import SUBMISSION_KEY, Submission
from airflow_provider_seedream.apixo.verdict import Verdict, make_task_failed_error
from airflow_provider_seedream.callbacks.delivery import DELIVERY_XCOM_KEY, find_delivery
from airflow_provider_seedream.errors import NotFinishedError
from airflow_provider_seedream.metrics import count
from airflow_provider_seedream.result import Result

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_seedream.apixo.status import TaskStatus
    from airflow_provider_seedream.hooks.seedream import SeedreamHook
    from airflow_provider_seedream.worker.tasks import RunningTask


def find_submission(
    context: Context,
    task: RunningTask,
    hook: SeedreamHook,
    seedream_task_id: str,
    *,
    model: str = DEFAULT_MODEL,
    resolution: str = "2K",
) -> Submission:
    """Return the record of a taskId that an upstream task has pushed, or what is known without it.

    :param model: of a task that was submitted elsewhere; so is ``resolution``.
    """
    for task_id in sorted(task.upstream_task_ids):
        for record in _pull_pushed(context, task_id, SUBMISSION_KEY):
            if isinstance(record, Mapping) and record.get("seedream_task_id") == seedream_task_id:
                return Submission.from_json(record)
    price = hook.account.price_per_image
    return Submission.unrecorded(seedream_task_id, price_per_image=price, model=model, resolution=resolution)


def has_callback_come(context: Context, task: RunningTask, digest: str) -> bool:
    """Tell whether a callback has come for a purchase of one of a task's upstream tasks.

    :param digest: of the callback's nonce.
    """
    try:
        return any(
            find_delivery(_pull_nearby(context, task_id, DELIVERY_XCOM_KEY), digest)
            for task_id in sorted(task.upstream_task_ids)
        )
    except Exception as error:  # noqa: BLE001 - a callback only makes things quicker
        task.log.warning("Airflow does not tell whether a callback has come: %s", error)
        return False


def conclude(submission: Submission, verdict: Verdict) -> Result:
    """Return the result of a task that this Airflow task watched to its end, and count it.

    :raises ChargedError: it did not deliver.
    """
    result = Result.of((submission, verdict.require_success()))
    count(result, polls=verdict.polls)
    return result


def conclude_finished(submission: Submission, status: TaskStatus) -> Result:
    """Return the result of a task that was polled once.

    :raises TaskFailedError: the API reports a failure.
    :raises NotFinishedError: it is still in progress.
    """
    if not status.finished:
        raise NotFinishedError(status.task_id, status.state)
    if not status.succeeded:
        raise make_task_failed_error(status)
    return Result.of((submission, status))


def _pull_pushed(context: Context, pushed_by: str, key: str) -> Iterator[Any]:
    """Pull at the same map index, then unmapped, then at all map indexes, since lists get reordered."""
    yield from _pull_nearby(context, pushed_by, key)
    everywhere = context["ti"].xcom_pull(task_ids=pushed_by, key=key)
    yield from everywhere if isinstance(everywhere, list) else [everywhere]


def _pull_nearby(context: Context, pushed_by: str, key: str) -> Iterator[Any]:
    """Pull at the same map index, then where the task is not mapped."""
    ti = context["ti"]
    for map_index in dict.fromkeys((ti.map_index, -1)):
        yield ti.xcom_pull(task_ids=pushed_by, key=key, map_indexes=map_index)
