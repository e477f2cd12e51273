"""Runs the same tasks twice: one half is told when they are finished, the other half is polled."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import Any

from airflow.sdk import DAG

from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator

TASKS = int(os.environ["BENCH_TASKS"])
SHORTEST, SPREAD = 25.0, 10.0


class TimedGenerate(SeedreamGenerateOperator):
    """A Generate that says when it was resumed."""

    def execute_complete(self, context: Any, event: Mapping[str, Any]) -> dict[str, Any]:
        """Push the time, and go on."""
        context["ti"].xcom_push(key="resumed_at", value=time.time())
        return super().execute_complete(context, event)


with DAG("callback_delay", schedule=None):
    prompts = [f"fox {n} [[jpeg]] [[seconds:{SHORTEST + SPREAD * n / TASKS:.2f}]]" for n in range(TASKS)]
    for request_type in ("callback", "async"):
        TimedGenerate.partial(task_id=request_type, request_type=request_type).expand(prompt=prompts)
