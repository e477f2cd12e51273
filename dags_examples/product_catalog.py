"""A picture for every row of a catalogue: one mapped task per product.

Rows are checked one by one: a mistake in one row fails that row's task before anything is bought for it, and
leaves the others alone.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator

DESTINATION = "{{ var.value.get('seedream_destination', 'file:///tmp/seedream') }}"
CATALOGUE = Path(__file__).with_name("products.csv")


@task
def read_catalogue() -> list[dict[str, Any]]:
    """Return one set of operator arguments per product."""
    with CATALOGUE.open(newline="") as file:
        return [
            {
                "prompt": f"a clean product photo of {row['product']} on soft stone, morning light",
                "max_images": int(row["images"]),
                "aspect_ratio": row["aspect_ratio"],
                "filename": f"{row['sku']}-{{index}}",
            }
            for row in csv.DictReader(file)
        ]


@task
def report(results: list[dict[str, Any]]) -> None:
    """Say what the refresh has cost."""
    images = sum(result["delivered"] for result in results)
    print(f"{images} images for {len(results)} products, {sum(r['cost_usd'] for r in results):.3f} USD")


with DAG("seedream_product_catalog", schedule=None, tags=["seedream"], doc_md=__doc__):
    generate = SeedreamGenerateOperator.partial(
        task_id="generate", destination=f"{DESTINATION}/products", max_active_tis_per_dag=8
    ).expand_kwargs(read_catalogue())
    report(generate.output)
