"""DAGs that must fail in a particular way."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator

RETRIES = {"retries": 2, "retry_delay": timedelta(seconds=0)}

with DAG("e2e_content_refused", schedule=None, default_args=RETRIES):
    SeedreamGenerateOperator(
        task_id="generate", prompt="x [[fail:SensitiveContentDetected]]", first_poll=0, poll_interval=1
    )

with DAG("e2e_wrong_key", schedule=None, default_args=RETRIES):
    SeedreamGenerateOperator(task_id="generate", prompt="x", seedream_conn_id="seedream_wrong_key")

with DAG("e2e_unwritable", schedule=None, default_args=RETRIES):
    SeedreamGenerateOperator(task_id="generate", prompt="x", destination="file:///proc/seedream")
