"""Adds to Airflow's metrics: finished generations, and the callbacks that arrive."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Stats

from airflow_provider_seedream.times import from_iso

if TYPE_CHECKING:
    from airflow_provider_seedream.result import Result


def count(result: Result, *, polls: int) -> None:
    """Add a result to the counters, tagged with model and resolution.

    ``seedream.images``: delivered images. ``seedream.cost_usd``: USD. ``seedream.polls``: status requests.
    ``seedream.wait_seconds``: seconds from creation to completion. Divide by the task's own success count
    for means.

    :param polls: status requests that it took.
    """
    tags = {"model": str(result.model), "resolution": str(result.resolution)}
    created, completed = from_iso(result.created_at), from_iso(result.completed_at)
    waited = max(0.0, completed - created) if created and completed else 0.0
    amounts: dict[str, Any] = {
        "images": result.delivered,
        "cost_usd": result.cost_usd,
        "polls": polls,
        "wait_seconds": waited,
    }
    for name, amount in amounts.items():
        Stats.incr(f"seedream.{name}", amount, tags=tags)


def count_resume(delay: float) -> None:
    """Add to the timer ``seedream.callback.delay``: from a callback's arrival to the resumed task, in ms.

    :param delay: seconds.
    """
    with suppress(Exception):  # a metrics fault must not fail what was paid for
        Stats.timing("seedream.callback.delay", timedelta(seconds=delay))


def count_delivery(outcome: str) -> None:
    """Add to the counter ``seedream.callback.deliveries``, tagged with what became of a callback.

    :param outcome: ``resumed``: its task goes on; ``parked``: recorded, its task is not ready or needs
        nothing; ``repeated``: it had been recorded before; ``unfinished``: not recorded, since it says that
        the generation goes on.
    """
    _count_callback("deliveries", {"outcome": outcome})


def count_refusal(reason: str) -> None:
    """Add to the counter ``seedream.callback.refusals``, tagged with why a request was no callback.

    :param reason: ``token``: not one of ours; ``ended``: its task was cleared, failed, or its run is over;
        ``other_task``: it names another taskId; ``body``: not JSON, too long, too slow or cut off; ``busy``
        and ``database``: the sender was asked to repeat.
    """
    _count_callback("refusals", {"reason": reason})


def _count_callback(name: str, tags: dict[str, str]) -> None:
    # A delivery that is not counted is still a delivery.
    with suppress(Exception):
        Stats.incr(f"seedream.callback.{name}", tags=tags)
