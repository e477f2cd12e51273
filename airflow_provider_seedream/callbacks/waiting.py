"""What a waiting task does about callbacks on the worker: it says that it waits, and how it was resumed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_provider_seedream.callbacks.delivery import Resumption, waiter_key
from airflow_provider_seedream.metrics import count_resumption

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.sdk.types import Logger


def register(context: Context, digest: str, log: Logger) -> bool:
    """Tell the api-server that this task waits for another task's purchase; whether that worked.

    :param digest: of the purchase's callback.
    """
    store = context.get("task_state_store")
    if store is None:
        return False
    try:
        store.set(waiter_key(digest), True)
    except Exception as error:  # noqa: BLE001 - looking at the usual pace costs less than a failed task
        log.warning("Airflow does not keep that this task waits for a callback, so it looks: %s", error)
        return False
    return True


def read_resumption(event: Any, log: Logger) -> Resumption | None:
    """What the api-server says, where it has resumed this task in place of a trigger; logged and counted."""
    resumption = Resumption.from_event(event)
    if resumption is not None:
        delay = max(0.0, time.time() - resumption.delivered_at)
        log.info("Resumed by a callback of APIXO, %.1f s after it came.", delay)
        count_resumption(delay)
    return resumption
