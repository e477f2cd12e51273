"""Tasks that wait for a callback, while the test decides what happens when.

The sandbox of these tests draws ten times as fast: [[seconds:100000]] waits for the test to put its clock
forward. No task but those of ``callbacks_polls`` and ``callbacks_sensor_first`` polls by itself in time.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG, task_group

from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator, SeedreamSubmitOperator
from airflow_provider_seedream.sensors.seedream import SeedreamTaskSensor

SLOW = "a fox [[seconds:100000]]"
PARAMS = {"prompt": SLOW, "connection": "seedream_default"}
ASKED = {
    "prompt": "{{ params.prompt }}",
    "seedream_conn_id": "{{ params.connection }}",
    "request_type": "callback",
}
HARDLY = {"first_poll": 1_500, "generation_timeout": 3_600}
HARDLY_POKED = {"first_poll": 1_500, "timeout": 3_600, "deferrable": True}
AT_ONCE = {"retries": 1, "retry_delay": timedelta(seconds=0)}
LATER = {"retries": 1, "retry_delay": timedelta(seconds=25)}

for dag_id in ("callbacks_generate", "callbacks_deleted"):
    with DAG(dag_id, schedule=None, params=PARAMS):
        SeedreamGenerateOperator(task_id="generate", **ASKED, **HARDLY)

with DAG("callbacks_killed", schedule=None, params=PARAMS, default_args=AT_ONCE):
    SeedreamGenerateOperator(task_id="generate", **ASKED, **HARDLY)

with DAG("callbacks_deadline", schedule=None, params=PARAMS, default_args=LATER):
    SeedreamGenerateOperator(task_id="generate", **ASKED, first_poll=15, generation_timeout=20)

with DAG("callbacks_polls", schedule=None, params=PARAMS):
    SeedreamGenerateOperator(task_id="generate", **ASKED, first_poll=20, poll_interval=10)

with DAG("callbacks_sensor", schedule=None, params=PARAMS):
    submit = SeedreamSubmitOperator(task_id="submit", **ASKED)
    SeedreamTaskSensor(task_id="wait", seedream_task_id=submit.output, **HARDLY_POKED)

with DAG("callbacks_sensor_first", schedule=None, params=PARAMS):
    submit = SeedreamSubmitOperator(task_id="submit", **ASKED)
    SeedreamTaskSensor(
        task_id="wait", seedream_task_id=submit.output, first_poll=0, poke_interval=1, deferrable=True
    )
    SeedreamGenerateOperator(task_id="other", **ASKED | {"prompt": SLOW}, **HARDLY)

with DAG("callbacks_groups", schedule=None):

    @task_group
    def shot(prompt: str) -> None:
        """One picture."""
        submit = SeedreamSubmitOperator(task_id="submit", prompt=prompt, request_type="callback")
        SeedreamTaskSensor(task_id="wait", seedream_task_id=submit.output, **HARDLY_POKED)

    shot.expand(prompt=[f"fox {n} [[seconds:{300 - 60 * n}]]" for n in range(3)])
