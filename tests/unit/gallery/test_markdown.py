from __future__ import annotations

import re
from typing import Any

import pytest

from airflow_provider_seedream.gallery.markdown import render_literal, render_thumbnails
from airflow_provider_seedream.urls import TaskAddress

TASK = TaskAddress("studio", "manual__2026-11-22T10:00:00+00:00", "generate")
ROOT = "/seedream/dags/studio/runs/manual__2026-11-22T10%3A00%3A00%2B00%3A00/tasks/generate/-1/images"


def result(images: int, prompt: str = "a fox") -> dict[str, Any]:
    return {"request": {"prompt": prompt}, "images": [{"index": index} for index in range(1, images + 1)]}


class TestThumbnails:
    def test_stand_under_their_numbers_and_lead_to_their_pages(self) -> None:
        assert render_thumbnails(TASK, result(2)).splitlines() == [
            "| **1** | **2** |",
            "| :---: | :---: |",
            f"| [![1\\: a fox]({ROOT}/1/thumbnail)]({ROOT}/1) "
            f"| [![2\\: a fox]({ROOT}/2/thumbnail)]({ROOT}/2) |",
        ]

    @pytest.mark.parametrize("images", [1, 2, 3, 4, 10])
    def test_are_all_there_in_rows_of_equal_length(self, images: int) -> None:
        rows = render_thumbnails(TASK, result(images)).splitlines()
        assert sum(row.count("/thumbnail") for row in rows) == images
        assert len({row.count("|") for row in rows}) == 1

    def test_are_found_below_the_base_path_of_airflow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.org/airflow/")
        assert f"(/airflow{ROOT}/1/thumbnail)" in render_thumbnails(TASK, result(1))

    def test_of_a_result_without_images_are_a_sentence(self) -> None:
        assert render_thumbnails(TASK, {"urls": ["https://x.example/1.png"]}) == "No image was saved."

    def test_of_plain_urls_have_no_prompt_to_show(self) -> None:
        assert "![1\\: Image]" in render_thumbnails(TASK, {"request": None, "images": [{"index": 1}]})


class TestAPromptIsText:
    @pytest.mark.parametrize(
        "prompt",
        [
            "](http://evil.example) ![",
            "a | b",
            "two\n\n# lines",
            "<img src=x onerror=alert(1)>",
            "*bold* `code` \\",
            "&lt;",
        ],
    )
    def test_in_a_thumbnails_description(self, prompt: str) -> None:
        row = render_thumbnails(TASK, result(1, prompt)).splitlines()[-1]
        description = re.fullmatch(r"\| \[!\[(.*)\]\([^()]*\)\]\([^()]*\) \|", row)
        assert description
        # What is not a word or a space has its backslash, so Markdown takes nothing of it for markup.
        assert re.fullmatch(r"(?:\\[!-/:-@\[-`{-~]|[\w ])*", description[1])
        assert re.sub(r"\\(.)", r"\1", description[1]) == f"1: {' '.join(prompt.split())}"

    def test_of_which_a_description_holds_the_beginning(self) -> None:
        assert len(render_thumbnails(TASK, result(1, "x" * 5000))) < 600

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("a fox", "` a fox `"),
            ("a `quoted` fox", "`` a `quoted` fox ``"),
            ("``` a\nfence", "```` ``` a fence ````"),
            ("<b> | http://evil.example", "` <b> | http://evil.example `"),
        ],
    )
    def test_where_it_is_shown_as_it_is(self, text: str, shown: str) -> None:
        assert render_literal(text) == shown
