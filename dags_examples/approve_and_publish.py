"""Nothing goes out unseen: a person sees the pictures in Airflow, and picks which are published.

One run is one round. Its pictures wait under *Browse > Required Actions* for one of three answers:

- *Publish* copies the chosen ones to the publishing place, and deletes the others if that is wished.
- *Another round* starts a run with the changed prompt and with what is left of the budget.
- *Publish nothing* keeps the drafts where they are; so does no answer within three days.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import DAG, Param, task

from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator

DAG_ID = "seedream_approve_and_publish"
DRAFTS = "{{ var.value.get('seedream_destination', 'file:///tmp/seedream') }}/drafts"
PUBLISHED = "{{ var.value.get('seedream_published', 'file:///tmp/seedream/published') }}"

PUBLISH, ANOTHER_ROUND, NOTHING = "Publish", "Another round", "Publish nothing"
NUMBERS = ["1", "2", "3", "4"]

FORM = {
    "prompt": Param(
        "a paper boat on a rain puddle, neon reflections",
        type="string",
        format="multiline",
        minLength=1,
        maxLength=5000,
        pattern=r"\S",
        title="Prompt",
    ),
    "max_images": Param(4, type="integer", minimum=1, maximum=4, title="Pictures a round"),
    "aspect_ratio": Param("4:3", type="string", enum=["1:1", "3:4", "4:3", "9:16", "16:9"], title="Ratio"),
    "budget_usd": Param(0.5, type="number", minimum=0.01, title="Budget of all rounds (USD)"),
}

# Airflow 3.1 mixes the form above into this one, so the names must differ.
ANSWER = {
    "images": Param(
        NUMBERS,
        type=["array", "null"],
        examples=NUMBERS,
        title="Pictures to publish",
        description="By their number; a number without a picture counts for nothing.",
    ),
    "delete_others": Param(False, type="boolean", title="Delete the others"),
    "next_prompt": Param(
        None,
        type=["string", "null"],
        format="multiline",
        maxLength=5000,
        title="Prompt of another round",
        description="If empty, the same prompt is drawn again.",
    ),
}


def money_left(result: dict[str, Any], budget_usd: float) -> float:
    """Return the USD of the budget that remain after a round."""
    return round(budget_usd - result["cost_usd"], 6)


def next_cost(result: dict[str, Any], max_images: int) -> float:
    """Return the USD that another round of so many pictures is charged in advance."""
    return round(max_images * result["price_per_image_usd"], 6)


@task
def describe(result: dict[str, Any], params: dict | None = None, ti: Any = None) -> str:
    """Return the text that the person reads, in Markdown."""
    from airflow_provider_seedream.gallery.markdown import render_literal, render_thumbnails
    from airflow_provider_seedream.urls import TaskAddress

    left, cost = money_left(result, params["budget_usd"]), next_cost(result, params["max_images"])
    verdict = "enough" if left >= cost else "too little"
    return "\n\n".join(
        [
            f"Drawn from {render_literal(params['prompt'])}:",
            render_thumbnails(TaskAddress(ti.dag_id, ti.run_id, "generate"), result),
            f"This round cost {result['cost_usd']:.3f} USD. {left:.3f} USD of the budget are left, {verdict} "
            f"for another round ({cost:.3f} USD).",
        ]
    )


@task.branch
def decide(answer: dict[str, Any]) -> str:
    """Return the task that carries out the answer."""
    return {PUBLISH: "publish", ANOTHER_ROUND: "next_round", NOTHING: "keep"}[answer["chosen_options"][0]]


@task
def publish(result: dict[str, Any], answer: dict[str, Any], destination: str) -> list[str]:
    """Copy the chosen pictures, verified; only then delete the others, if that was wished."""
    from airflow_provider_seedream.storage.publish import discard_images, publish_images

    wishes = answer["params_input"]
    numbers = wishes.get("images", NUMBERS) or []
    chosen = [image for image in result["images"] if str(image["index"]) in numbers]
    if not chosen:
        print(f"No picture was chosen: nothing is published, and all stay in {result['destination']}.")
        return []
    paths = publish_images({image["name"]: image for image in chosen}, destination)
    if wishes.get("delete_others"):
        discard_images(result, [image["index"] for image in result["images"] if image not in chosen])
    print(f"Published {len(paths)} of {len(result['images'])} pictures: {', '.join(paths)}")
    return paths


@task(multiple_outputs=True)
def next_round(
    result: dict[str, Any], answer: dict[str, Any], params: dict | None = None, dag_run: Any = None
) -> dict[str, Any]:
    """Return id and configuration of the next run; refused if the budget does not cover it."""
    left, cost = money_left(result, params["budget_usd"]), next_cost(result, params["max_images"])
    if left < cost:
        raise AirflowFailException(
            f"No further round: it would cost {cost:.3f} USD, and {left:.3f} USD of the budget are left. "
            f"Nothing is published; the pictures stay in {result['destination']}. To go on, trigger {DAG_ID} "
            "with a new budget."
        )
    first_run, _, number = dag_run.run_id.partition("__round_")
    prompt = answer["params_input"].get("next_prompt") or params["prompt"]
    return {
        # A repeated task finds the run that it has started, and does not pay for the round twice.
        "run_id": f"{first_run}__round_{int(number or 1) + 1}",
        "conf": {**{name: params[name] for name in FORM}, "prompt": prompt, "budget_usd": left},
    }


@task
def keep(result: dict[str, Any], answer: dict[str, Any]) -> str:
    """Say why nothing goes out."""
    who = answer["responded_by_user"]
    why = f"{who['name']} decided so" if who else "nobody answered in time"
    outcome = f"Nothing is published: {why}. The pictures stay in {result['destination']}."
    print(outcome)
    return outcome


with DAG(DAG_ID, schedule=None, tags=["seedream"], params=FORM, doc_md=__doc__):
    generate = SeedreamGenerateOperator(
        task_id="generate",
        prompt="{{ params.prompt }}",
        max_images="{{ params.max_images }}",
        aspect_ratio="{{ params.aspect_ratio }}",
        max_cost="{{ params.budget_usd }}",
        destination=DRAFTS,
    )
    review = HITLOperator(
        task_id="review",
        subject="Which of these pictures go out?",
        body=describe(generate.output),
        options=[PUBLISH, ANOTHER_ROUND, NOTHING],
        params=ANSWER,
        # Without a default, a review that nobody answers would fail.
        defaults=NOTHING,
        response_timeout=timedelta(days=3),
        # Airflow 3.1-3.3 can fail a task that is answered within its first seconds; then it asks once more.
        retries=2,
        retry_delay=timedelta(seconds=5),
    )
    following = next_round(generate.output, review.output)
    decide(review.output) >> [
        publish(generate.output, review.output, PUBLISHED),
        following,
        keep(generate.output, review.output),
    ]
    TriggerDagRunOperator(
        task_id="start_next_round",
        trigger_dag_id=DAG_ID,
        trigger_run_id=following["run_id"],
        conf=following["conf"],
        skip_when_already_exists=True,
    )
