"""The form of the studio, whose limits must be those of the API."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_seedream.apixo.model import SEEDREAM_4_5
from airflow_provider_seedream.apixo.rules import NO_RATIO

STUDIO = Path(__file__).resolve().parents[2] / "dags_examples" / "studio.py"


@pytest.fixture(scope="module")
def form() -> dict[str, dict[str, Any]]:
    """The JSON schema of each field."""
    return {name: param.schema for name, param in runpy.run_path(str(STUDIO))["FORM"].items()}


class TestTheFormsLimits:
    """They are written out, so that the example can be read; they must be the API's all the same."""

    def test_of_choices_are_those_of_the_model(self, form: dict[str, dict[str, Any]]) -> None:
        assert form["resolution"]["enum"] == list(SEEDREAM_4_5.resolutions)
        assert form["aspect_ratio"]["enum"] == [NO_RATIO, *SEEDREAM_4_5.aspect_ratios]
        assert form["sequential_image_generation"]["enum"] == list(SEEDREAM_4_5.sequential_modes)

    def test_of_numbers_are_those_of_the_model(self, form: dict[str, dict[str, Any]]) -> None:
        images, prompt = SEEDREAM_4_5.images_per_task, SEEDREAM_4_5.prompt_length
        assert (form["max_images"]["minimum"], form["max_images"]["maximum"]) == (images.low, images.high)
        assert (form["prompt"]["minLength"], form["prompt"]["maxLength"]) == (prompt.low, prompt.high)
        assert form["image_urls"]["maxItems"] == SEEDREAM_4_5.reference_images.high
