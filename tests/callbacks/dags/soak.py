"""Many tasks at once that wait for callbacks: shuffled ones, doubled ones, lost ones."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator

TASKS = 200


def prompt(n: int) -> str:
    """10 to 60 s of generation, in no order; every tenth callback is lost, every fifth doubled.

    All deliver one image: where two were asked for, one is refunded.
    """
    fate = {0: "[[callback:lost]]", 1: "[[callback:twice]]", 6: "[[callback:twice]]"}.get(n % 10, "")
    return f"fox {n} [[jpeg]] [[deliver:1]] [[seconds:{100 + n * 37 % 500}]] {fate}"


with DAG("callbacks_soak", schedule=None, max_active_tasks=64):
    SeedreamGenerateOperator.partial(
        task_id="generate",
        request_type="callback",
        destination="{{ var.value.seedream_destination }}/soak",
    ).expand_kwargs([{"prompt": prompt(n), "max_images": 1 + n % 2} for n in range(TASKS)])
