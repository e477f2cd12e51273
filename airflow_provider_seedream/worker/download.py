"""Runs Download in a worker: finds out which images are meant, and saves them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_provider_seedream.apixo.rules import show_value
from airflow_provider_seedream.errors import InvalidRequestError, Problem
from airflow_provider_seedream.parameters import check_task_id, parse_rendered, read_url_list
from airflow_provider_seedream.result import Result
from airflow_provider_seedream.storage.naming import make_urls_id
from airflow_provider_seedream.worker.failures import advising
from airflow_provider_seedream.worker.saving import open_target, save
from airflow_provider_seedream.worker.submissions import conclude_finished, find_submission

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_seedream.worker.tasks import DownloadingTask


def download(task: DownloadingTask, context: Context) -> dict[str, Any]:
    """Fetch, verify and place the images, then the manifest; return the result for XCom."""
    with advising(task.log, "fetches what is missing, at no cost"):
        result = _find_result(task, context)
        target = open_target(
            task.destination,
            task.storage_conn_id,
            task.filename,
            len(result.urls),
            has_fingerprint=bool(result.fingerprint),
        )
        return save(result, target, task.hook, context).to_json()


def _find_result(task: DownloadingTask, context: Context) -> Result:
    """Return the result whose images are meant."""
    if task.seedream_task_id is not None:
        return _read_finished(task, context)
    if task.urls is not None:
        urls = read_url_list(parse_rendered(task.urls), "urls")
        return Result(seedream_task_id=make_urls_id(urls), urls=tuple(urls), delivered=len(urls))
    given = parse_rendered(task.result)
    if not isinstance(given, Mapping) or not isinstance(given.get("seedream_task_id"), str):
        remedy = "Pass the sensor's output."
        raise InvalidRequestError(
            [Problem("result", show_value(given), "is no result of the sensor", remedy)]
        )
    urls = read_url_list(given.get("urls"), "result['urls']")
    return Result.from_json({"delivered": len(urls), **given, "urls": urls})


def _read_finished(task: DownloadingTask, context: Context) -> Result:
    """Ask for the result of a task that must have finished."""
    task_id = check_task_id(task.seedream_task_id)
    submission = find_submission(context, task, task.hook, task_id, model=task.model)
    return conclude_finished(submission, task.hook.get_status(task_id, submission.model))
