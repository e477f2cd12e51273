"""Product pictures that keep up with the catalogue: each week, only what changed is drawn and published.

A few new pictures go out by themselves. If there are many, or if one is missing, a person is asked, under
*Browse > Required Actions*. The report at the end says what it cost, and fails where pictures are missing.

It runs in the pool ``seedream``, which must exist:

    airflow pools set seedream 4 "APIXO generations at a time" --include-deferred
"""

from __future__ import annotations

import csv
from datetime import timedelta
from pathlib import Path
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.standard.operators.hitl import HITLBranchOperator
from airflow.sdk import DAG, task

from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator

CATALOGUE = Path(__file__).with_name("products.csv")
DRAFTS = "{{ var.value.get('seedream_destination', 'file:///tmp/seedream') }}/products"
PUBLISHED = "{{ var.value.get('seedream_published', 'file:///tmp/seedream/published') }}/products"

MOST_UNSEEN = 3
"""New pictures that go out without a person having seen them."""

MONDAYS_AT_SIX = "0 6 * * MON"

PUBLISH, DRAW_ANEW, NOT_NOW = "Publish", "Delete them, draw new ones next week", "Not now"


@task
def read_catalogue() -> list[dict[str, Any]]:
    """Return one set of operator arguments per product."""
    with CATALOGUE.open(newline="") as file:
        return [
            {
                "prompt": f"studio photo of {row['product']}, soft shadow on a light grey ground",
                "max_images": int(row["images"]),
                "aspect_ratio": row["aspect_ratio"],
                # The fingerprint changes with whatever shapes the picture: what was drawn for another text is
                # never overwritten, and costs nothing when the text changes back.
                "filename": f"{row['sku']}/{{fingerprint}}-{{index}}",
            }
            for row in csv.DictReader(file)
        ]


def sku_of(image: dict[str, Any]) -> str:
    """Return the product that an image shows."""
    return image["name"].partition("/")[0]


def publishing_names(images: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return images by their published names, which stay the same from week to week: ``bag-03-2.png``."""
    return {f"{sku_of(image)}-{image['index']}{Path(image['name']).suffix}": image for image in images}


# A product that fails must not hold up the others: the results of those that came are surveyed all the same.
@task(trigger_rule="all_done")
def survey(rows: list[dict], results: list[dict] | None, published: str) -> dict[str, Any]:
    """Sum up what came, what it cost, and which results hold pictures that are not published."""
    from airflow_provider_seedream.storage.publish import find_unpublished

    skus = [row["filename"].partition("/")[0] for row in rows]
    came = [{**result, "map_index": skus.index(sku_of(result["images"][0]))} for result in results or []]
    complete = {skus[result["map_index"]] for result in came if result["delivered"] == result["requested"]}
    new = [find_unpublished(publishing_names(result["images"]), published) for result in came]
    return {
        "missing": [sku for sku in skus if sku not in complete],
        "images": sum(len(result["images"]) for result in came),
        "reused": sum(len(result["images"]) for result in came if result["reused"]),
        "cost_usd": sum(result["cost_usd"] for result in came),
        # Not the same as those drawn this week: what was left for later then is new once more.
        "new": sum(map(len, new)),
        "results": [result for result, names in zip(came, new, strict=True) if names],
    }


@task.branch
def decide(found: dict[str, Any]) -> str:
    """Apply the rule: few new pictures, and none missing, need nobody's eyes."""
    if not found["new"]:
        return "report"
    return "publish" if found["new"] <= MOST_UNSEEN and not found["missing"] else "describe"


@task
def describe(found: dict[str, Any], ti: Any = None) -> str:
    """Return the text that the person reads, in Markdown."""
    from airflow_provider_seedream.gallery.markdown import render_literal, render_thumbnails
    from airflow_provider_seedream.urls import TaskAddress

    parts = [f"New pictures: {found['new']}."]
    if found["missing"]:
        parts.append(f"Without pictures, or without some: {render_literal(', '.join(found['missing']))}.")
    for result in found["results"]:
        address = TaskAddress(ti.dag_id, ti.run_id, "generate", result["map_index"])
        parts += [render_literal(sku_of(result["images"][0])), render_thumbnails(address, result)]
    return "\n\n".join(parts)


@task(trigger_rule="none_failed_min_one_success")
def publish(found: dict[str, Any], destination: str) -> int:
    """Copy the new pictures, verified, and return how many."""
    from airflow_provider_seedream.storage.publish import publish_images

    for result in found["results"]:
        publish_images(publishing_names(result["images"]), destination)
    return found["new"]


@task
def discard(found: dict[str, Any]) -> None:
    """Delete the refused drafts; while they were there, they would be reused."""
    from airflow_provider_seedream.storage.publish import discard_images

    for result in found["results"]:
        discard_images(result, [image["index"] for image in result["images"]])


@task(trigger_rule="none_failed")
def report(found: dict[str, Any], published: int | None) -> None:
    """Say what the week has brought and cost."""
    print(
        f"{found['images']} images, {found['reused']} of them reused, {found['cost_usd']:.3f} USD; "
        f"{published or 0} of {found['new']} new ones published."
    )
    if found["missing"]:
        raise AirflowFailException(f"Without pictures, or without some: {', '.join(found['missing'])}.")


with DAG(
    "seedream_weekly_refresh",
    schedule=MONDAYS_AT_SIX,
    # The schedule is in this time zone.
    start_date=pendulum.datetime(2026, 1, 5, tz="Europe/Berlin"),
    # Missed weeks need no pictures of their own.
    catchup=False,
    # Two runs would buy the same pictures, since neither sees yet what the other buys.
    max_active_runs=1,
    # What spends money on a schedule begins when somebody switches it on: at once, with the latest Monday.
    is_paused_upon_creation=True,
    tags=["seedream"],
    doc_md=__doc__,
):
    catalogue = read_catalogue()
    generate = SeedreamGenerateOperator.partial(
        task_id="generate",
        destination=DRAFTS,
        if_exists="reuse",
        # A waiting generation holds no worker, so only a pool that counts deferred tasks (include_deferred)
        # bounds how many are out at once, over all DAGs. APIXO limits the rate of requests per key.
        pool="seedream",
        # For one product, in all its tries and top-ups: whatever goes wrong, the week costs at most this much
        # times the number of products.
        max_cost=0.25,
        # With Airflow 3.3, a retry carries on with what was bought instead of buying again; before, what goes
        # wrong after the purchase is not retried. So retries cost nothing but time.
        retries=2,
        retry_delay=timedelta(minutes=2),
    ).expand_kwargs(catalogue)
    found = survey(catalogue, generate.output, PUBLISHED)
    described = describe(found)
    review = HITLBranchOperator(
        task_id="review",
        subject="New product pictures",
        body=described,
        options=[PUBLISH, DRAW_ANEW, NOT_NOW],
        options_mapping={PUBLISH: "publish", DRAW_ANEW: "discard", NOT_NOW: "report"},
        # The next week asks again.
        defaults=NOT_NOW,
        response_timeout=timedelta(days=5),
        # Airflow 3.1-3.3 can fail a task that is answered within its first seconds; then it asks once more.
        retries=2,
        retry_delay=timedelta(seconds=5),
    )
    published = publish(found, PUBLISHED)
    reported = report(found, published)
    decide(found) >> [published, described, reported]
    discarded = discard(found)
    review >> [published, discarded, reported]
    discarded >> reported
