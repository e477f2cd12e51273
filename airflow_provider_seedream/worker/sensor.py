"""Runs the sensor in a worker: polls where that is worth it, defers, and concludes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, PokeReturnValue

from airflow_provider_seedream.apixo.verdict import Verdict
from airflow_provider_seedream.errors import DeadlineError, SeedreamError
from airflow_provider_seedream.worker import waiting
from airflow_provider_seedream.worker.failures import advising, helps_to_ask_again
from airflow_provider_seedream.worker.submissions import conclude, find_submission, has_callback_come

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_seedream.apixo.records import Submission
    from airflow_provider_seedream.apixo.watch import Watch
    from airflow_provider_seedream.worker.tasks import WatchingTask


def wait(sensor: WatchingTask, context: Context) -> dict[str, Any]:
    """Free the worker slot until the task has ended; return the result for XCom, if it has already."""
    with _advising_or_skipping(sensor):
        deadline = waiting.find_deadline(context, sensor, sensor.give_up_after)
        return _defer(sensor, context, deadline=deadline)


def resume(sensor: WatchingTask, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
    """Go on with the trigger's event, or by a callback; return the result for XCom."""
    with _advising_or_skipping(sensor):
        if resumed := waiting.read_resume_event(event, sensor.log):
            deadline = resumed.deadline or waiting.find_deadline_of_try(context, sensor, sensor.give_up_after)
            return _defer(sensor, context, deadline=deadline, has_come=True)
        submission = _find(sensor, context)
        _, verdicts = Verdict.read_event(event)
        verdict = verdicts.get(submission.seedream_task_id) or _wait_here(sensor, submission, context)
        return conclude(submission, verdict).to_json()


def resume_without_trigger(
    sensor: WatchingTask, context: Context, failure: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Wait here for what is left of the wait, where the trigger was lost; return the result for XCom.

    :param failure: Airflow's ``error`` and ``traceback``.
    """
    with _advising_or_skipping(sensor):
        waiting.report_failed_deferral(sensor.log, failure)
        submission = _find(sensor, context)
        return conclude(submission, _wait_here(sensor, submission, context)).to_json()


def poke(sensor: WatchingTask, context: Context) -> PokeReturnValue | bool:
    """Poll once, if a poll is due; set ``poke_interval`` to the time until the next one."""
    if sensor.poked is None:
        submission = _find(sensor, context)
        if submission.callback_digest:
            sensor.log.info("No callback resumes a sensor that is not deferrable, so it polls as usual.")
        deadline = _find_start_of_pokes(sensor, context) + sensor.give_up_after
        sensor.poked = submission, _start_watch(sensor, submission, deadline)
    submission, watch = sensor.poked
    if watch.outcome is None and watch.next_poll <= time.time():
        sensor.hook.poll(watch, submission.model)
    if watch.outcome is not None:
        return PokeReturnValue(True, conclude(submission, Verdict.of(watch)).to_json())
    sensor.poke_interval = max(0.0, watch.next_poll - time.time())
    return False


@contextmanager
def poking(sensor: WatchingTask) -> Iterator[None]:
    """Poke within; our deadline tells what happened and what it cost, Airflow's is left as the backstop."""
    sensor.timeout = sensor.give_up_after + waiting.BACKSTOP_SECONDS
    with _advising_or_skipping(sensor):
        yield


@contextmanager
def _advising_or_skipping(sensor: WatchingTask) -> Iterator[None]:
    """End every failure with what a retry does, or with a skip, where the sensor is to fail softly.

    Airflow skips softly only for its own exceptions; what may pass is left to retries.
    """
    with advising(sensor.log, "polls for the same task again, and buys nothing"):
        try:
            yield
        except SeedreamError as error:
            is_final = not helps_to_ask_again(error) or isinstance(error, DeadlineError)
            if sensor.never_fail or (sensor.soft_fail and is_final):
                raise AirflowSkipException(f"Skipping: {error}") from error
            raise


def _defer(
    sensor: WatchingTask, context: Context, *, deadline: float, has_come: bool = False
) -> dict[str, Any]:
    """Free the worker slot, unless the task is known to have ended.

    :param deadline: epoch seconds at which the wait ends.
    :param has_come: whether a callback has come; what it says is checked with the API.
    """
    submission = _find(sensor, context)
    digest = submission.callback_digest
    # In this order: a callback that comes later finds the sensor, one that came before is found by it.
    is_registered = digest is not None and waiting.register_for_callback(context, digest, sensor.log)
    has_come = has_come or (
        digest is not None and is_registered and has_callback_come(context, sensor, digest)
    )
    watch = _start_watch(sensor, submission, deadline, awaits_callback=is_registered)
    if has_come or watch.next_poll <= time.time():
        # What is already finished is delivered without deferring.
        sensor.hook.poll(watch, submission.model)
    if watch.outcome is not None:
        return conclude(submission, Verdict.of(watch)).to_json()
    return waiting.defer_until_finished(
        sensor,
        [submission],
        watch.pace,
        deadline=watch.deadline,
        conn_id=sensor.seedream_conn_id,
        just_polled=watch.status is not None,
        awaits_callback=is_registered,
    )


def _wait_here(sensor: WatchingTask, submission: Submission, context: Context) -> Verdict:
    """Wait in the worker for what is left of this try's time."""
    pace = waiting.choose_pace(submission, sensor.first_poll, sensor.poll_interval)
    deadline = waiting.find_deadline_of_try(context, sensor, sensor.give_up_after)
    verdicts = waiting.wait_here(sensor.hook, [submission], pace, deadline=deadline)
    return verdicts[submission.seedream_task_id]


def _find(sensor: WatchingTask, context: Context) -> Submission:
    """Return what was bought, as recorded upstream or as far as the parameters tell."""
    sensor.check_parameters()
    return find_submission(
        context,
        sensor,
        sensor.hook,
        sensor.seedream_task_id,
        model=sensor.model,
        resolution=sensor.resolution,
    )


def _start_watch(
    sensor: WatchingTask, submission: Submission, deadline: float, *, awaits_callback: bool = False
) -> Watch:
    pace = waiting.choose_pace(
        submission, sensor.first_poll, sensor.poll_interval, awaits_callback=awaits_callback
    )
    return sensor.hook.start_watch(
        submission.seedream_task_id, pace, created_at=submission.submitted_at, deadline=deadline
    )


def _find_start_of_pokes(sensor: WatchingTask, context: Context) -> float:
    """Return the epoch seconds of this try's first poke; in reschedule mode another process has seen it."""
    first = context["ti"].get_first_reschedule_date(context) if sensor.reschedule else None
    return first.timestamp() if first else time.time()
