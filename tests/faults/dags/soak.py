"""Many tasks at once, for a bad day that lasts."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator
from airflow_provider_seedream.retry_policy import SeedreamRetryPolicy

with DAG("faults_soak", schedule=None, max_active_tasks=64):
    SeedreamGenerateOperator.partial(
        task_id="generate",
        destination="{{ var.value.seedream_destination }}/soak",
        on_ambiguous_submit="resubmit",
        first_poll=0,
        poll_interval=2,
        retries=5,
        retry_delay=timedelta(seconds=5),
        retry_policy=SeedreamRetryPolicy(max_delay=30),
    ).expand_kwargs(
        [{"prompt": f"fox {n} [[jpeg]] [[seconds:500]]", "max_images": 1 + n % 2} for n in range(300)]
    )
