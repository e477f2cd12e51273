"""One task for each way to fail that a person meets, in a DAG that only the administrator may read."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator

DESTINATION = "{{ var.value.seedream_destination }}/failing"

with DAG("gallery_failing", schedule=None, default_args={"retries": 0}):
    SeedreamGenerateOperator(task_id="wrong_key", prompt="a fox", seedream_conn_id="seedream_wrong_key")
    SeedreamGenerateOperator(task_id="no_connection", prompt="a fox", seedream_conn_id="nobody")
    SeedreamGenerateOperator(
        task_id="refused_content", prompt="a fox [[fail:SensitiveContentDetected]]", first_poll=0
    )
    SeedreamGenerateOperator(task_id="unwritable", prompt="a fox", destination="file:///proc/seedream")
    SeedreamGenerateOperator(task_id="over_budget", prompt="a fox", max_images=2, max_cost=0.05)
    SeedreamGenerateOperator(
        task_id="too_late", prompt="a fox [[seconds:9000]]", first_poll=0, generation_timeout=15
    )
    SeedreamGenerateOperator(
        task_id="expired", prompt="a fox [[expire]]", first_poll=0, destination=DESTINATION
    )
    SeedreamGenerateOperator(
        task_id="too_few", prompt="a fox [[deliver:1]]", first_poll=0, max_images=2, min_images=2,
        destination=DESTINATION,
    )  # fmt: skip
