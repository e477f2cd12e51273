"""What is on the pictures: the prompt, to be read, whatever it is."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image, ImageChops

from airflow_provider_seedream.apixo.model import SEEDREAM_4_5
from airflow_provider_seedream.sandbox import tasks
from airflow_provider_seedream.sandbox.checks import read_order
from airflow_provider_seedream.sandbox.directives import Directives
from airflow_provider_seedream.sandbox.drawing import Picture, draw
from airflow_provider_seedream.sandbox.image_cache import picture
from airflow_provider_seedream.sandbox.lettering import fit
from tests.unit.sandbox.users import text_to_image

SMALL = (640, 480)
BOX = (500, 240)


def words(text: str, **limits: int) -> tuple[list[str], float]:
    lettering = fit(text, BOX, largest=limits.get("largest", 60), smallest=limits.get("smallest", 10))
    return " ".join(lettering.lines).split(), lettering.font.size


class TestThePromptCanBeRead:
    @pytest.mark.parametrize("prompt", ["cat", "four connected storyboard frames of a small robot exploring"])
    def test_every_word_stands_in_the_picture_in_order(self, prompt: str) -> None:
        assert words(prompt)[0] == prompt.split()

    def test_a_short_prompt_is_large_and_a_long_one_smaller(self) -> None:
        assert words("cat")[1] == 60
        assert 10 < words("a robot exploring a greenhouse " * 6)[1] < 60

    def test_no_line_is_wider_and_no_text_higher_than_its_box(self) -> None:
        for text in (
            "a robot exploring a greenhouse " * 8,
            "x" * 300,
            "狐" * 200,
            "Donaudampfschifffahrt " * 9,
        ):
            lettering = fit(text, BOX, largest=60, smallest=10)
            assert all(lettering.font.getlength(line) <= BOX[0] * 1.02 for line in lettering.lines)
            assert lettering.height <= BOX[1]

    def test_a_prompt_that_never_fits_ends_in_an_ellipsis(self) -> None:
        shown, size = words("a robot exploring a greenhouse " * 160)
        assert size == 10
        assert shown[-1].endswith("\u2026")

    def test_directives_are_not_shown(self) -> None:
        assert a_picture("a fox [[deliver:2]] in snow [[jpeg]]").title == "a fox in snow"

    def test_small_print_tells_which_picture_it_is(self) -> None:
        notes = a_picture("a fox", max_images=4, aspect_ratio="16:9", resolution="4K").notes
        for fact in ("image 2 of 4", "5504 x 3040", "text-to-image", "4K 16:9", "task_"):
            assert fact in notes

    def test_small_print_counts_the_references(self) -> None:
        urls = ["https://example.com/1.png", "https://example.com/2.png"]
        assert "2 reference images" in a_picture("a fox", mode="image-to-image", image_urls=urls).notes


def a_picture(prompt: str, **fields: object) -> Picture:
    body = {"input": text_to_image(prompt, **fields)}
    order = read_order(json.dumps(body).encode(), SEEDREAM_4_5)
    return picture(tasks.accept(order, Directives(), key="k", origin="", now=0, time_scale=1), 2)


def pixels(title: str, number: int = 1) -> Image.Image:
    return Image.open(io.BytesIO(draw(Picture(SMALL, title, "notes", number)))).convert("RGB")


class TestPictures:
    def test_show_their_prompt(self) -> None:
        """White letters lie on the dark card, and more of them for a longer prompt."""
        white = [
            pixels(title).convert("L").histogram()[255] for title in ("a fox", "a fox and two owls in snow")
        ]
        assert 300 < white[0] < white[1]

    def test_of_two_prompts_and_of_two_numbers_differ_at_a_glance(self) -> None:
        for one, other in ((pixels("a fox"), pixels("an owl")), (pixels("a fox", 1), pixels("a fox", 2))):
            difference = (
                ImageChops.difference(one, other).convert("L").point(lambda value: 255 * (value > 16))
            )
            assert difference.histogram()[255] > SMALL[0] * SMALL[1] * 0.02

    def test_are_always_the_same_bytes(self) -> None:
        subject = Picture(SMALL, "a fox", "notes", 1)
        assert draw(subject) == draw(subject)

    @pytest.mark.parametrize(
        "title",
        [
            "x" * 5000,
            "word " * 1000,
            "一只水彩风格的狐狸",
            "🦊",
            "\u202eabc",
            "\ud800",
            "\x00",
            "\n\n",
            " ",
            "ﷺ" * 50,
        ],
    )
    def test_are_drawn_whatever_the_prompt(self, title: str) -> None:
        assert pixels(title).size == SMALL
