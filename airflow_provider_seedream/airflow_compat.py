"""Tells Airflow's versions apart: a function for each place where they differ, with the versions it is for.

It is imported while a DAG is parsed, so it imports nothing of Airflow but its version.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_provider_seedream.urls import TaskAddress

AIRFLOW_VERSION = __version__

DEFERRAL_FAILED = "__fail__"
"""``next_method`` of a task whose deferral failed (``TRIGGER_FAIL_REPR`` in Airflow 3.1-3.3)."""

_WITH_A_BROKEN_TEST_BUTTON = ("3.3.1", "3.3.2")


def is_at_least(major: int, minor: int) -> bool:
    """Tell whether this Airflow is of a version, or a later one; its pre-releases count as the version."""
    this_major, this_minor = AIRFLOW_VERSION.split(".")[:2]
    return (int(this_major), int(this_minor)) >= (major, minor)


def has_task_state_store() -> bool:
    """Tell whether what a task records outlasts its try (3.3+)."""
    return is_at_least(3, 3)


def find_task_state_store(context: Mapping[str, Any]) -> Any | None:
    """Return the store in which a running task records what outlasts its try (3.3+); ``None`` before."""
    return context.get("task_state_store")


def open_state_backend() -> Any:
    """Return the same store as the api-server reaches it, for all tasks (3.3+)."""
    from airflow.state import get_state_backend

    return get_state_backend()


def make_task_scope(task: TaskAddress) -> Any:
    """Return what names one task instance to that store (3.3+)."""
    from airflow.state import TaskScope

    return TaskScope(task.dag_id, task.run_id, task.task_id, task.map_index)


def import_task_state_model() -> Any:
    """Return the database model of that store's entries (3.3+)."""
    from airflow.models.task_state_store import TaskStateStoreModel

    return TaskStateStoreModel


def import_retry_policies() -> tuple[Any, Any]:
    """Return Airflow's ``RetryDecision`` and ``RetryPolicy`` (3.3+).

    :raises ImportError: this Airflow has none.
    """
    try:
        from airflow.providers.common.compat.sdk import RetryDecision, RetryPolicy
    except ImportError as error:
        raise ImportError(
            "SeedreamRetryPolicy needs Airflow 3.3 or later, which has retry policies."
        ) from error
    return RetryDecision, RetryPolicy


def find_start_of_try(ti: Any) -> float | None:
    """Return the epoch seconds at which a try began (3.2+), or what runs of it since it was last deferred.

    ``None`` where Airflow does not tell.
    """
    started = getattr(ti, "start_date", None)
    return started.timestamp() if isinstance(started, datetime) else None


def needs_connection_test_fix() -> bool:
    """Tell whether Airflow's *Test* button fails for a connection without a port (3.3.1 and 3.3.2).

    It sends port 0 for none (3.3.1: also an empty host), and the api-server takes that for another
    destination than the stored one: "Bad Request" (apache/airflow issues 72348 and 73298).
    """
    return AIRFLOW_VERSION in _WITH_A_BROKEN_TEST_BUTTON
