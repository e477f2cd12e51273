"""Backgrounds belong to their prompt, and vary within it."""

from __future__ import annotations

import pytest

from airflow_provider_seedream.sandbox.scenes import paint

SIZE = (160, 120)


class TestABackground:
    def test_is_the_same_for_the_same_seed_and_number(self) -> None:
        assert paint(SIZE, "a fox", 1).tobytes() == paint(SIZE, "a fox", 1).tobytes()

    def test_differs_from_number_to_number(self) -> None:
        one, other = paint(SIZE, "a fox", 1), paint(SIZE, "a fox", 2)
        assert one.tobytes() != other.tobytes()

    @pytest.mark.parametrize("seed", [f"prompt {number}" for number in range(12)])
    def test_fills_its_size_whatever_the_scene(self, seed: str) -> None:
        for size in (SIZE, (90, 160)):
            image = paint(size, seed, 1)
            assert (image.mode, image.size) == ("RGB", size)
            assert len(image.getcolors(size[0] * size[1]) or []) > 5
