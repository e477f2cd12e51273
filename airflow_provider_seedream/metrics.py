"""What a finished generation adds to Airflow's metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.providers.common.compat.sdk import Stats

from airflow_provider_seedream.apixo.records import from_iso


def count(result: Mapping[str, Any], *, looks: int) -> None:
    """Add a result to the counters, tagged with model and resolution.

    ``seedream.images``: delivered images. ``seedream.cost_usd``: USD. ``seedream.polls``: status requests.
    ``seedream.wait_seconds``: seconds from creation to completion. Divide by the task's own success count
    for means.

    :param result: a result record.
    :param looks: status requests that it took.
    """
    tags = {"model": str(result["model"]), "resolution": str(result["resolution"])}
    created, completed = from_iso(result["created_at"]), from_iso(result["completed_at"])
    waited = max(0.0, completed - created) if created and completed else 0.0
    amounts = {
        "images": result["delivered"],
        "cost_usd": result["cost_usd"],
        "polls": looks,
        "wait_seconds": waited,
    }
    for name, amount in amounts.items():
        Stats.incr(f"seedream.{name}", amount, tags=tags)
