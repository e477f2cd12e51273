"""What is on the drawings: the prompt, to be read, whatever it is."""

from __future__ import annotations

import io

import pytest
from PIL import Image, ImageChops

from airflow_provider_seedream.sandbox.drawing import Drawing, draw

SMALL = (640, 480)


def pixels(title: str, number: int = 1) -> Image.Image:
    return Image.open(io.BytesIO(draw(Drawing(SMALL, title, "notes", number)))).convert("RGB")


class TestDrawings:
    def test_show_their_prompt(self) -> None:
        """White letters lie on the dark card, and more of them for a longer prompt."""
        white = [
            pixels(title).convert("L").histogram()[255] for title in ("a fox", "a fox and two owls in snow")
        ]
        assert 300 < white[0] < white[1]

    def test_of_two_prompts_and_of_two_numbers_differ_visibly(self) -> None:
        for one, other in ((pixels("a fox"), pixels("an owl")), (pixels("a fox", 1), pixels("a fox", 2))):
            difference = (
                ImageChops.difference(one, other).convert("L").point(lambda value: 255 * (value > 16))
            )
            assert difference.histogram()[255] > SMALL[0] * SMALL[1] * 0.02

    def test_are_always_the_same_bytes(self) -> None:
        subject = Drawing(SMALL, "a fox", "notes", 1)
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
