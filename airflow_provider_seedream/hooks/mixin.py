"""Gives operators and sensors their hook, imported when a task runs and not when a DAG is parsed."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_provider_seedream.hooks.seedream import SeedreamHook


class UsesSeedreamHook:
    """For operators and sensors that have a parameter ``seedream_conn_id``."""

    seedream_conn_id: str

    @cached_property
    def hook(self) -> SeedreamHook:
        """The hook of this task's connection."""
        from airflow_provider_seedream.hooks.seedream import SeedreamHook

        return SeedreamHook(self.seedream_conn_id)
