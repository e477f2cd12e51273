"""Images are drawn once, kept within bounds, and say what they are."""

from __future__ import annotations

import asyncio
import json

import pytest

from airflow_provider_seedream.apixo.model import SEEDREAM_4_5
from airflow_provider_seedream.sandbox import tasks
from airflow_provider_seedream.sandbox.checks import read_order
from airflow_provider_seedream.sandbox.directives import Directives
from airflow_provider_seedream.sandbox.drawing import Drawing, draw
from airflow_provider_seedream.sandbox.envelope import RefusedCall
from airflow_provider_seedream.sandbox.image_cache import ImageCache, plan_drawing
from tests.unit.sandbox.users import accepted, text_to_image


class TestDrawingIsBounded:
    async def test_an_image_that_many_ask_for_is_drawn_once(self) -> None:
        cache, task = ImageCache(), accepted()
        images = await asyncio.gather(*(cache.get_image(task, 1) for _ in range(20)))
        cache.close()
        assert len(set(images)) == 1
        assert cache.report()["drawn"] == 1

    async def test_the_least_recently_used_are_forgotten_and_drawn_again_the_same(self) -> None:
        task = accepted(max_images=3)
        first, second, third = (draw(plan_drawing(task, number)) for number in (1, 2, 3))
        cache = ImageCache(capacity=len(first) + len(second) + len(third) - 1)
        for number in (1, 2, 1, 3):
            await cache.get_image(task, number)
        # The second has not been asked for since the first was.
        assert cache.report() == {"drawn": 3, "kept_bytes": len(first) + len(third)}
        assert await cache.get_image(task, 1) == first
        assert cache.report()["drawn"] == 3
        assert await cache.get_image(task, 2) == second
        assert cache.report()["drawn"] == 4
        cache.close()

    async def test_nothing_is_left_when_it_is_cleared(self) -> None:
        cache = ImageCache()
        await cache.get_image(accepted(), 1)
        cache.clear()
        assert cache.report() == {"drawn": 0, "kept_bytes": 0}
        cache.close()

    async def test_who_asks_after_the_end_is_refused(self) -> None:
        cache = ImageCache()
        cache.close()
        with pytest.raises(RefusedCall, match="shutting down") as refused:
            await cache.get_image(accepted(), 1)
        assert refused.value.code == 503


def plan(prompt: str, **fields: object) -> Drawing:
    body = {"input": text_to_image(prompt, **fields)}
    order = read_order(json.dumps(body).encode(), SEEDREAM_4_5)
    return plan_drawing(tasks.accept(order, Directives(), key="k", origin="", now=0, time_scale=1), 2)


class TestADrawingSays:
    def test_the_prompt_without_its_directives(self) -> None:
        assert plan("a fox [[deliver:2]] in snow [[jpeg]]").title == "a fox in snow"

    def test_which_image_it_is_in_small_print(self) -> None:
        notes = plan("a fox", max_images=4, aspect_ratio="16:9", resolution="4K").notes
        for fact in ("image 2 of 4", "5504 x 3040", "text-to-image", "4K 16:9", "task_"):
            assert fact in notes

    def test_how_many_references_there_were(self) -> None:
        urls = ["https://example.com/1.png", "https://example.com/2.png"]
        assert "2 reference images" in plan("a fox", mode="image-to-image", image_urls=urls).notes

    def test_its_number_in_a_badge_where_there_are_several(self) -> None:
        assert plan("a fox", max_images=4).badge == "2/4"
        assert plan("a fox", max_images=1).badge == ""
