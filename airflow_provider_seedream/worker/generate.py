"""Runs Submit and Generate in a worker: buys, waits, saves, and buys what is missing."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_provider_seedream.errors import TooFewImagesError
from airflow_provider_seedream.links.seedream import offer_gallery
from airflow_provider_seedream.metrics import count
from airflow_provider_seedream.parameters import check_image_count
from airflow_provider_seedream.purchases.purchases import Purchases
from airflow_provider_seedream.settings import read_min_deferral_seconds
from airflow_provider_seedream.times import describe_distance, from_iso
from airflow_provider_seedream.worker import waiting
from airflow_provider_seedream.worker.failures import advising_on_charges
from airflow_provider_seedream.worker.saving import Target, check_unoccupied, find_reusable, open_target, save

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_seedream.apixo.model import Pace
    from airflow_provider_seedream.apixo.request import GenerateRequest
    from airflow_provider_seedream.result import Result
    from airflow_provider_seedream.worker.tasks import BuyingTask, GeneratingTask


def submit(task: BuyingTask, context: Context) -> str:
    """Submit, unless an earlier try did, and return the API's taskId; this spends money."""
    with _buying(task, context) as purchases:
        purchases.load()
        request = task.read_request()
        if not purchases.find_again(request):
            purchases.buy(request)
        offer_gallery(context["ti"], task.log)
        return purchases.submissions[0].seedream_task_id


def generate(task: GeneratingTask, context: Context) -> dict[str, Any]:
    """Check everything that is free, submit unless an earlier try did, and wait.

    :returns: the result for XCom; the submission, where the task does not wait.
    """
    with _buying(task, context) as purchases:
        return _Generation(task, context, purchases).start()


def resume(task: GeneratingTask, context: Context, event: Mapping[str, Any]) -> dict[str, Any]:
    """Go on with the trigger's event, or by a callback, and return the result for XCom."""
    with _buying(task, context) as purchases:
        purchases.resume(event)
        resumed = waiting.read_resume_event(event, task.log)
        deadline = resumed.deadline if resumed else None
        return _Generation(task, context, purchases).finish(deadline).to_json()


def resume_without_trigger(
    task: GeneratingTask, context: Context, failure: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Wait here for what is left of the wait, where the trigger was lost, and return the result for XCom.

    :param failure: Airflow's ``error`` and ``traceback``.
    """
    with _buying(task, context) as purchases:
        waiting.report_failed_deferral(task.log, failure)
        purchases.resume()
        generation = _Generation(task, context, purchases)
        generation.wait_here(waiting.find_deadline_of_try(context, task, task.generation_timeout))
        return generation.finish().to_json()


@contextmanager
def _buying(task: BuyingTask, context: Context) -> Iterator[Purchases]:
    """Give what a task buys; within, every failure ends with what is charged and what a retry does."""
    purchases = Purchases(task.hook, context, task.make_terms())
    task.report_kill = purchases.report_kill
    with advising_on_charges(purchases):
        yield purchases


class _Generation:
    """One segment of a Generate task: a try up to its deferral, or from there on."""

    def __init__(self, task: GeneratingTask, context: Context, purchases: Purchases) -> None:
        self._task = task
        self._context = context
        self._purchases = purchases

    def start(self) -> dict[str, Any]:
        """Buy, unless it is bought or saved already, and go on from there."""
        task, purchases = self._task, self._purchases
        purchases.load()
        request = task.read_request()
        check_image_count("min_images", task.min_images, request.max_images)
        read_min_deferral_seconds()
        is_bought = purchases.find_again(request)
        if is_bought:
            offer_gallery(self._context["ti"], task.log)
        target = self._open_target(request.max_images) if task.saves_images else None
        if not is_bought:
            if target and (saved := self._find_existing(target, purchases.add_routing(request))):
                return saved.to_json()
            purchases.buy(request)
            offer_gallery(self._context["ti"], task.log)
        if not task.wait_for_completion:
            return purchases.submissions[0].to_json()
        return self.finish().to_json()

    def finish(self, deadline: float | None = None) -> Result:
        """Wait for what was bought, save it, and buy what is missing, until nothing is left to do.

        :param deadline: epoch seconds at which a wait ends that had begun before.
        """
        task, purchases = self._task, self._purchases
        is_in_progress = purchases.poll_delivered()
        if purchases.pending:
            self._wait(deadline, just_polled=is_in_progress)
        result = purchases.make_result()
        if task.saves_images:
            # Before a top-up, so that whatever becomes of that, these are kept.
            result = save(result, self._open_target(result.delivered), task.hook, self._context)
        if result.missing and self._has_time_for_top_up() and purchases.top_up(result.missing):
            return self.finish()
        if result.delivered < task.min_images:
            task.log.info("URLs%s: %s", _describe_expiry(result), list(result.urls))
            raise TooFewImagesError(result.delivered, task.min_images, result.manifest, purchases.refusal)
        count(result, polls=purchases.polls)
        return result

    def wait_here(self, deadline: float) -> None:
        """Wait in the worker for all that was bought.

        :param deadline: epoch seconds.
        """
        purchases = self._purchases
        purchases.verdicts |= waiting.wait_here(
            self._task.hook, purchases.submissions, self._choose_pace(), deadline=deadline
        )

    def _wait(self, deadline: float | None, *, just_polled: bool) -> None:
        task, purchases = self._task, self._purchases
        purchases.keep_record()
        if deadline is None:
            deadline = waiting.find_deadline(self._context, task, task.generation_timeout)
        if not task.deferrable:
            self.wait_here(deadline)
            return
        awaits_callback = purchases.awaits_callback
        waiting.defer_until_finished(
            task,
            purchases.submissions,
            self._choose_pace(awaits_callback=awaits_callback),
            deadline=deadline,
            conn_id=task.seedream_conn_id,
            just_polled=just_polled,
            awaits_callback=awaits_callback,
        )

    def _has_time_for_top_up(self) -> bool:
        """Tell whether missing images are to be bought, and there is time to wait for them."""
        task = self._task
        if task.on_partial != "top_up":
            return False
        deadline = waiting.find_deadline(self._context, task, task.generation_timeout)
        left, needed = deadline - time.time(), self._choose_pace().first_poll
        if left <= needed:
            task.log.warning("%.0f s are left, which is too little for a top-up.", max(0.0, left))
        return left > needed

    def _choose_pace(self, *, awaits_callback: bool = False) -> Pace:
        task = self._task
        return waiting.choose_pace(
            self._purchases.submissions[-1],
            task.first_poll,
            task.poll_interval,
            awaits_callback=awaits_callback,
        )

    def _open_target(self, images: int) -> Target:
        task = self._task
        return open_target(task.destination, task.storage_conn_id, task.filename, images)

    def _find_existing(self, target: Target, request: GenerateRequest) -> Result | None:
        """Return the result that lies at the target already, where ``if_exists`` asks for it."""
        task = self._task
        if task.if_exists == "fail":
            check_unoccupied(request, target, task.hook)
        if task.if_exists != "reuse":
            return None
        must_be_whole = request.sequential_image_generation != "auto" and task.on_partial == "top_up"
        wanted = request.max_images if must_be_whole else task.min_images
        return find_reusable(request, target, wanted, task.hook, self._context)


def _describe_expiry(result: Result) -> str:
    expires_at = from_iso(result.expires_at)
    return f" (they expire {describe_distance(expires_at, time.time())})" if expires_at else ""
