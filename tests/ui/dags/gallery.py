"""One DAG that the viewer of the tests may read, and one that only the administrator may."""

from __future__ import annotations

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator

for dag_id in ("gallery_shared", "gallery_secret"):
    with DAG(dag_id, schedule=None, params={"prompt": "a fox in the snow"}):
        SeedreamGenerateOperator(
            task_id="generate",
            prompt="{{ params.prompt }}",
            destination="{{ var.value.seedream_destination }}",
        )
        SeedreamGenerateOperator.partial(
            task_id="generate_many", destination="{{ var.value.seedream_destination }}"
        ).expand(prompt=["a fox", "an owl"])
        EmptyOperator(task_id="nothing_of_ours")
