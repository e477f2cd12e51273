"""Runs that see the API key of a stored connection, good and bad."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_seedream.operators.seedream import (
    SeedreamDownloadOperator,
    SeedreamGenerateOperator,
    SeedreamSubmitOperator,
)
from airflow_provider_seedream.sensors.seedream import SeedreamTaskSensor

CONNECTION = {"seedream_conn_id": "seedream_stored"}
QUICK = {"first_poll": 0, **CONNECTION}
PROMPT = "{{ params.prompt }}"
DESTINATION = "{{ var.value.seedream_destination }}/{{ params.folder }}"
PARAMS = {"prompt": "a fox", "folder": "key", "seedream_task_id": ""}

with DAG("faults_key", schedule=None, params=PARAMS):
    submit = SeedreamSubmitOperator(task_id="submit", prompt=PROMPT, **CONNECTION)
    wait = SeedreamTaskSensor(
        task_id="wait", seedream_task_id=submit.output, deferrable=True, poke_interval=1, **QUICK
    )
    SeedreamDownloadOperator(task_id="download", result=wait.output, destination=DESTINATION, **CONNECTION)
    SeedreamGenerateOperator(
        task_id="generate", prompt=PROMPT, destination=DESTINATION, poll_interval=1, **QUICK
    )

with DAG("faults_key_generate", schedule=None, params=PARAMS):
    SeedreamGenerateOperator(task_id="generate", prompt=PROMPT, poll_interval=1, **QUICK)

with DAG("faults_key_download", schedule=None, params=PARAMS):
    SeedreamDownloadOperator(
        task_id="download",
        seedream_task_id="{{ params.seedream_task_id }}",
        destination=DESTINATION,
        **CONNECTION,
    )
