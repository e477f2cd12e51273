"""Pictures at the press of *Trigger*: a form asks for everything, and refuses what APIXO would refuse.

The first line of the task's log says what the run may cost, the last one where its pictures are. They are
also behind the task's button *Gallery*, and under *Browse > Seedream images*.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_provider_seedream.operators.seedream import SeedreamGenerateOperator

FORM = {
    "prompt": Param(
        "a lighthouse at dusk, waves breaking on the rocks, oil painting",
        type="string",
        format="multiline",
        minLength=1,
        maxLength=5000,
        pattern=r"\S",
        title="Prompt",
        description="What to draw, in up to 5000 characters.",
    ),
    "image_urls": Param(
        None,
        type=["array", "null"],
        items={"type": "string", "pattern": r"^(https://[^\s/]+\S*)?$"},
        maxItems=14,
        title="Reference pictures",
        description="Up to 14 public https addresses, one a line. Without any, the prompt alone is drawn.",
    ),
    "max_images": Param(
        1,
        type="integer",
        minimum=1,
        maximum=10,
        title="Pictures",
        description="1 to 10. Each one is paid for.",
    ),
    "resolution": Param("2K", type="string", enum=["2K", "4K"], title="Resolution"),
    "aspect_ratio": Param(
        "1:1",
        type="string",
        enum=["none", "1:1", "2:3", "3:2", "3:4", "4:3", "9:16", "16:9", "21:9"],
        values_display={"none": "none: the shape is left to the provider"},
        title="Ratio",
        description="Width to height.",
    ),
    "sequential_image_generation": Param(
        "disabled",
        type="string",
        enum=["disabled", "auto"],
        values_display={
            "disabled": "independent pictures",
            "auto": "a connected set, perhaps of fewer pictures",
        },
        title="Sequence",
    ),
    "destination": Param(
        None,
        type=["string", "null"],
        pattern=r"^(file:///|(?!file:|https?:)[a-z][a-z0-9+.-]*://[^\s/])",
        title="Destination",
        description="A folder such as s3://aws_default@bucket/art or file:///data/art. "
        "If empty: studio/ below the Airflow variable seedream_destination.",
    ),
    "max_cost": Param(
        0.5,
        type="number",
        minimum=0.01,
        title="Cost ceiling (USD)",
        description="What would cost more is not bought.",
    ),
}


def references(urls: list[str] | None) -> list[str]:
    """Return the lines of the form's text box that are not blank."""
    return [url for url in urls or [] if url]


with DAG(
    "seedream_studio",
    schedule=None,
    tags=["seedream"],
    params=FORM,
    user_defined_macros={"references": references},
    doc_md=__doc__,
):
    SeedreamGenerateOperator(
        task_id="generate",
        prompt="{{ params.prompt }}",
        # A list that renders to nothing is taken for a loss, unless the mode says that there may be none.
        image_urls="{{ references(params.image_urls) | tojson }}",
        mode="{{ 'image-to-image' if references(params.image_urls) else 'text-to-image' }}",
        max_images="{{ params.max_images }}",
        resolution="{{ params.resolution }}",
        aspect_ratio="{{ params.aspect_ratio }}",
        sequential_image_generation="{{ params.sequential_image_generation }}",
        max_cost="{{ params.max_cost }}",
        destination="{{ params.destination or "
        "var.value.get('seedream_destination', 'file:///tmp/seedream') ~ '/studio' }}",
    )
