"""A night's batch of product shots: APIXO calls Airflow when a picture is ready, and its task goes on.

Nobody polls over and over whether a picture is ready, which counts when hundreds are drawn at once. Needs
Airflow 3.3 (older ones refuse this file) and an api-server that APIXO can reach, see ``docs/callbacks.md``.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_seedream.operators.seedream import (
    SeedreamDownloadOperator,
    SeedreamGenerateOperator,
    SeedreamSubmitOperator,
)
from airflow_provider_seedream.sensors.seedream import SeedreamTaskSensor

DESTINATION = "{{ var.value.get('seedream_destination', 'file:///tmp/seedream') }}"


@task
def new_products() -> list[str]:
    """Return one prompt for each product that came in during the day."""
    products = ("a stoneware mug", "a brass reading lamp", "a linen cushion", "an oak stool")
    return [f"a clean product photo of {product} on soft stone, morning light" for product in products]


@task
def report(shots: list[dict[str, Any]], cover: dict[str, Any]) -> None:
    """Say what the night has cost."""
    results = [*shots, cover]
    print(f"{len(results)} pictures, {sum(result['cost_usd'] for result in results):.3f} USD")


with DAG("seedream_callback_mode", schedule=None, tags=["seedream"], doc_md=__doc__):
    shoot = SeedreamGenerateOperator.partial(
        task_id="shoot", request_type="callback", aspect_ratio="4:3", destination=f"{DESTINATION}/night/shots"
    ).expand(prompt=new_products())

    # The same in three steps: the callback resumes the sensor.
    submit_cover = SeedreamSubmitOperator(
        task_id="submit_cover",
        request_type="callback",
        prompt="the cover of a catalogue of homeware, four objects on a shelf",
        aspect_ratio="3:4",
    )
    wait_for_cover = SeedreamTaskSensor(
        task_id="wait_for_cover", seedream_task_id=submit_cover.output, deferrable=True
    )
    save_cover = SeedreamDownloadOperator(
        task_id="save_cover", result=wait_for_cover.output, destination=f"{DESTINATION}/night/cover"
    )
    report(shoot.output, save_cover.output)
