"""The button on a task that opens what it made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey


class SeedreamResultLink(BaseOperatorLink):
    """Opens the first image at the vendor's result host, as long as that keeps it (15 days)."""

    name = "First image"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The URL of the first image; empty while there is none."""
        # XCom drags in Airflow's database models, which every parsing of a DAG would pay.
        from airflow.providers.common.compat.sdk import XCom

        result = XCom.get_value(ti_key=ti_key, key="return_value")
        urls = result.get("urls") if isinstance(result, dict) else None
        return str(urls[0]) if urls else ""
