"""The prompt can be read on its image, be it short, long or without spaces."""

from __future__ import annotations

import pytest

from airflow_provider_seedream.sandbox.lettering import fit

BOX = (500, 240)


def words(text: str, **limits: int) -> tuple[list[str], float]:
    lettering = fit(text, BOX, largest=limits.get("largest", 60), smallest=limits.get("smallest", 10))
    return " ".join(lettering.lines).split(), lettering.font.size


class TestThePromptCanBeRead:
    @pytest.mark.parametrize("prompt", ["cat", "four connected storyboard frames of a small robot exploring"])
    def test_every_word_is_set_in_order(self, prompt: str) -> None:
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


class TestTextThatIsHardToSet:
    @pytest.mark.parametrize("text", ["", " ", "\n\n"])
    def test_nothing_takes_at_most_a_line(self, text: str) -> None:
        assert fit(text, BOX, largest=60, smallest=10).lines in ([], [""])

    def test_a_script_without_spaces_is_broken_between_any_two_characters(self) -> None:
        lines = fit("\u72d0" * 40, BOX, largest=60, smallest=60).lines
        assert len(lines) > 1
        assert set("".join(lines).rstrip("\u2026")) == {"\u72d0"}

    def test_what_cannot_be_printed_is_a_space(self) -> None:
        assert fit("a\x00fox", BOX, largest=60, smallest=10).lines == ["a fox"]
