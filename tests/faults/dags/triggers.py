"""Tasks that wait in the triggerer.

The sandbox of these tests draws a hundred times as fast: [[seconds:100000]] waits for the test to put its
clock forward by 1000 s, [[seconds:900000]] for 9000 s.
"""

from __future__ import annotations

from airflow.sdk import DAG, task

from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator
from airflow_provider_seedream.sensors.seedream import SeedreamTaskSensor

DESTINATION = "{{ var.value.seedream_destination }}"
QUICK = {"first_poll": 0, "poll_interval": 1}

with DAG("faults_many_wait", schedule=None):
    SeedreamGenerateOperator.partial(
        task_id="generate", destination=f"{DESTINATION}/many_wait", **QUICK
    ).expand(prompt=[f"fox {n} [[jpeg]] [[seconds:100000]]" for n in range(50)])

with DAG("faults_deadline", schedule=None):
    SeedreamGenerateOperator(
        task_id="generate", prompt="x [[seconds:900000]]", generation_timeout=45, **QUICK
    )

with DAG("faults_connection_deleted", schedule=None):
    SeedreamGenerateOperator(
        task_id="generate", prompt="x [[seconds:900000]]", seedream_conn_id="seedream_doomed", **QUICK
    )

for dag_id in ("faults_marked_failed", "faults_cleared"):
    with DAG(dag_id, schedule=None):
        SeedreamGenerateOperator(task_id="generate", prompt="x [[seconds:900000]]", **QUICK)

with DAG("faults_finished_before_the_sensors", schedule=None):

    @task
    def task_ids(params: dict[str, list[str]]) -> list[str]:
        """The tasks that the test has bought."""
        return params["seedream_task_ids"]

    SeedreamTaskSensor.partial(task_id="wait", deferrable=True).expand(seedream_task_id=task_ids())

with DAG("faults_finished_at_once", schedule=None):
    SeedreamGenerateOperator.partial(task_id="generate", **QUICK).expand(
        prompt=[f"fox {n} [[seconds:0]]" for n in range(200)]
    )
