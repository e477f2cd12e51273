"""The whole job in one task: draw two pictures and keep them.

Needs a connection ``seedream_default`` (password: your APIXO key). The pictures go to the folder that the
Airflow variable ``seedream_destination`` names, any object storage path such as ``s3://aws_default@bucket/art``.
"""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator

DESTINATION = "{{ var.value.get('seedream_destination', 'file:///tmp/seedream') }}"

with DAG("seedream_quickstart", schedule=None, tags=["seedream"], doc_md=__doc__):
    SeedreamGenerateOperator(
        task_id="generate",
        prompt="a cozy cyberpunk cafe with warm neon lights, ultra detailed",
        max_images=2,
        aspect_ratio="16:9",
        destination=f"{DESTINATION}/quickstart",
    )
