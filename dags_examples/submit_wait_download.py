"""The three steps as tasks of their own, for DAGs that do something between them.

The submitted taskId is in XCom before anything else happens; the wait holds no worker slot; the download can
be run again at no cost as long as the result URLs live (15 days).
"""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_seedream.operators.seedream import SeedreamDownloadOperator, SeedreamSubmitOperator
from airflow_provider_seedream.sensors.seedream import SeedreamTaskSensor

DESTINATION = "{{ var.value.get('seedream_destination', 'file:///tmp/seedream') }}"

with DAG("seedream_submit_wait_download", schedule=None, tags=["seedream"], doc_md=__doc__):
    submit = SeedreamSubmitOperator(
        task_id="submit",
        prompt="four connected storyboard frames of a small robot exploring a greenhouse",
        max_images=4,
        aspect_ratio="16:9",
        sequential_image_generation="auto",
    )
    wait = SeedreamTaskSensor(task_id="wait", seedream_task_id=submit.output, deferrable=True)
    SeedreamDownloadOperator(
        task_id="download",
        result=wait.output,
        destination=f"{DESTINATION}/storyboard",
        filename="{seedream_task_id}/frame-{index:02d}",
    )
