"""Tasks whose workers, submissions or waits meet with an accident, and are retried.

The sandbox of these tests draws a hundred times as fast: [[seconds:100000]] waits for the test to put its
clock forward.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator, SeedreamSubmitOperator
from airflow_provider_seedream.retry_policy import SeedreamRetryPolicy

DESTINATION = "{{ var.value.seedream_destination }}/{{ dag.dag_id }}"
QUICK = {"first_poll": 0, "poll_interval": 1}
SHORT_TIMEOUT = {"seedream_conn_id": "seedream_short_timeout"}
RETRIES = {"retries": 1, "retry_delay": timedelta(seconds=0)}
SLOW = "a fox [[seconds:100000]]"

with DAG("faults_killed_submitting", schedule=None, default_args=RETRIES):
    SeedreamGenerateOperator(
        task_id="generate", prompt="a fox [[seconds:0]]", max_images=2, **SHORT_TIMEOUT, **QUICK
    )

with DAG("faults_killed_submitting_resubmit", schedule=None, default_args=RETRIES):
    SeedreamSubmitOperator(
        task_id="generate", prompt="a fox [[seconds:0]]", on_ambiguous_submit="resubmit", **SHORT_TIMEOUT
    )

for dag_id in ("faults_killed_waiting", "faults_machine_lost", "faults_scheduler_killed"):
    with DAG(dag_id, schedule=None, default_args=RETRIES):
        SeedreamGenerateOperator(
            task_id="generate", prompt=SLOW, destination=DESTINATION, deferrable=False, **QUICK
        )

with DAG("faults_killed_saving", schedule=None, default_args=RETRIES):
    SeedreamGenerateOperator(
        task_id="generate", prompt="a fox [[seconds:0]]", max_images=3, destination=DESTINATION, **QUICK
    )

with DAG("faults_finished_then_cleared", schedule=None, default_args=RETRIES):
    SeedreamSubmitOperator(task_id="submit", prompt="a fox [[seconds:0]]")
    SeedreamGenerateOperator(
        task_id="generate", prompt="an owl [[seconds:0]]", destination=DESTINATION, **QUICK
    )

with DAG("faults_execution_timeout", schedule=None, default_args=RETRIES):
    SeedreamGenerateOperator(
        task_id="generate", prompt=SLOW, execution_timeout=timedelta(seconds=20), **QUICK
    )

with DAG("faults_throttled", schedule=None, default_args=RETRIES):
    SeedreamSubmitOperator(task_id="submit", prompt="a fox", retry_policy=SeedreamRetryPolicy())

with DAG("faults_stopped", schedule=None):
    SeedreamGenerateOperator(task_id="generate", prompt=SLOW, deferrable=False, **QUICK)

with DAG("faults_top_up", schedule=None):
    SeedreamGenerateOperator(
        task_id="generate",
        prompt="a fox [[deliver:2]] [[seconds:0]]",
        max_images=3,
        on_partial="top_up",
        destination=DESTINATION,
        **QUICK,
    )
