"""A picture drawn from another: the first task's result is the second task's reference.

The first task keeps no files; its result URL, which APIXO can fetch, is all that the second one needs.
"""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator

DESTINATION = "{{ var.value.get('seedream_destination', 'file:///tmp/seedream') }}"

with DAG("seedream_image_to_image", schedule=None, tags=["seedream"], doc_md=__doc__):
    draw = SeedreamGenerateOperator(
        task_id="draw", prompt="a quiet harbour at night, fishing boats, oil painting", aspect_ratio="3:2"
    )
    restyle = SeedreamGenerateOperator(
        task_id="restyle",
        prompt="turn this scene into a warm sunrise illustration",
        image_urls="{{ ti.xcom_pull(task_ids='draw')['urls'] }}",
        aspect_ratio="3:2",
        destination=f"{DESTINATION}/harbour",
    )
    draw >> restyle
