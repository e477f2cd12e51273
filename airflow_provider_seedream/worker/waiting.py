"""Waits for what was bought: at the right pace, until the right time, in the triggerer or here."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from airflow_provider_seedream.airflow_compat import find_start_of_try, find_task_state_store
from airflow_provider_seedream.apixo.model import Pace
from airflow_provider_seedream.apixo.records import Submission
from airflow_provider_seedream.apixo.verdict import Verdict
from airflow_provider_seedream.callbacks.delivery import ResumeEvent, make_waiter_key
from airflow_provider_seedream.metrics import count_resume
from airflow_provider_seedream.settings import read_min_deferral_seconds

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.sdk.types import Logger

    from airflow_provider_seedream.hooks.seedream import SeedreamHook
    from airflow_provider_seedream.worker.tasks import RunningTask

BACKSTOP_SECONDS = 120
"""Airflow's own deferral timeout comes this much after ours, so that ours tells what happened."""

EXECUTION_MARGIN_SECONDS = 5.0
"""Our wait ends this much before ``execution_timeout``, or a tenth of it where that is less."""

CALLBACK_POLL_SECONDS = 60.0
"""Between two polls while a callback is expected: they find only those tasks whose callback was lost."""


def choose_pace(
    submission: Submission,
    first_poll: float | None,
    poll_interval: float | None,
    *,
    awaits_callback: bool = False,
) -> Pace:
    """Return the model's pace, with the user's own seconds where given.

    :param awaits_callback: whether a callback is expected.
    """
    pace = submission.pace
    interval = CALLBACK_POLL_SECONDS if awaits_callback and poll_interval is None else poll_interval
    if first_poll is not None:
        pace = replace(pace, first_poll=first_poll)
    if interval is not None:
        pace = replace(pace, interval_low=interval, interval_high=interval)
    return pace


def find_deadline(context: Context, task: RunningTask, timeout: float) -> float:
    """Return the epoch seconds at which a wait ends that begins now.

    Airflow 3.1-3.3 do not enforce ``execution_timeout`` while a task is deferred, so it is done here. It
    counts from the start of the try, which Airflow keeps across deferrals (3.2+), and ends a little
    earlier, so that our error tells what happened.

    :param timeout: seconds from now.
    """
    now = time.time()
    if task.execution_timeout is None:
        return now + timeout
    allowed = task.execution_timeout.total_seconds()
    limit = _find_start_of_try(context) + allowed - min(EXECUTION_MARGIN_SECONDS, allowed / 10)
    if limit < now + timeout:
        task.log.info("execution_timeout leaves %.0f s to wait for the result.", max(0.0, limit - now))
    return min(now + timeout, limit)


def find_deadline_of_try(context: Context, task: RunningTask, timeout: float) -> float:
    """Return what :func:`find_deadline` does, for a wait that began with this try.

    :param timeout: seconds from the beginning of the try.
    """
    return find_deadline(context, task, _find_start_of_try(context) + timeout - time.time())


def _find_start_of_try(context: Context) -> float:
    started = find_start_of_try(context["ti"])
    return time.time() if started is None else started


def defer_until_finished(
    task: RunningTask,
    submissions: Sequence[Submission],
    pace: Pace,
    *,
    deadline: float,
    conn_id: str,
    just_polled: bool,
    awaits_callback: bool,
) -> NoReturn:
    """Free the worker slot; ``execute_complete`` is called with the trigger's event, or by a callback.

    :param submissions: of one model; the pace is that of the last, which is the youngest.
    :param deadline: epoch seconds.
    :param just_polled: whether APIXO has just said that it is in progress, so that the trigger need not ask
        before one interval is over.
    :param awaits_callback: whether a callback is expected.
    """
    # airflow.triggers costs some 80 ms to import, and Submit and Download never defer.
    from airflow_provider_seedream.triggers.seedream import SeedreamTaskTrigger

    now = time.time()
    dwell = read_min_deferral_seconds()
    created_at = now + pace.interval_high - pace.first_poll if just_polled else submissions[-1].submitted_at
    task.defer(
        trigger=SeedreamTaskTrigger(
            seedream_task_ids=[submission.seedream_task_id for submission in submissions],
            deadline=deadline,
            first_poll=pace.first_poll,
            interval_low=pace.interval_low,
            interval_high=pace.interval_high,
            created_at=created_at,
            not_before=now + dwell,
            awaits_callback=awaits_callback,
            model=submissions[-1].model,
            seedream_conn_id=conn_id,
        ),
        method_name="execute_complete",
        timeout=timedelta(seconds=max(0.0, deadline - now) + dwell + BACKSTOP_SECONDS),
    )


def wait_here(
    hook: SeedreamHook, submissions: Sequence[Submission], pace: Pace, *, deadline: float
) -> dict[str, Verdict]:
    """Watch tasks of one model to their end, holding the worker slot; return the verdicts by taskId.

    :param deadline: epoch seconds.
    """
    watches = [
        hook.start_watch(one.seedream_task_id, pace, created_at=one.submitted_at, deadline=deadline)
        for one in submissions
    ]
    hook.watch(watches, submissions[-1].model)
    return {watch.task_id: Verdict.of(watch) for watch in watches}


def report_failed_deferral(log: Logger, failure: Mapping[str, Any] | None) -> None:
    """Say why a trigger was lost, or that Airflow's own timeout ended it.

    :param failure: Airflow's ``error`` and ``traceback``.
    """
    reason = dict(failure or {})
    log.warning("%s. %s", reason.get("error", "The trigger failed"), "\n".join(reason.get("traceback") or []))


def register_for_callback(context: Context, digest: str, log: Logger) -> bool:
    """Tell the api-server that this task waits for another task's purchase; return whether that worked.

    :param digest: of the purchase's callback.
    """
    store = find_task_state_store(context)
    if store is None:
        return False
    try:
        store.set(make_waiter_key(digest), True)
    except Exception as error:  # noqa: BLE001 - polling at the usual pace costs less than a failed task
        log.warning("Airflow does not keep that this task waits for a callback, so it polls: %s", error)
        return False
    return True


def read_resume_event(event: Any, log: Logger) -> ResumeEvent | None:
    """Return what the api-server says if it has resumed this task in place of a trigger; log and count it."""
    resumed = ResumeEvent.from_event(event)
    if resumed is not None:
        delay = max(0.0, time.time() - resumed.delivered_at)
        log.info("Resumed by a callback of APIXO, %.1f s after it came.", delay)
        count_resume(delay)
    return resumed
