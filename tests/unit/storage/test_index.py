from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_seedream.storage.index import MOST_IMAGES, MOST_USD, IndexedImage, IndexEntry
from airflow_provider_seedream.storage.manifest import Manifest, SavedImage

DESTINATION = "s3://aws@bucket/art"


def saved_image(index: int) -> SavedImage:
    name = f"task_1-{index}.png"
    return SavedImage(
        index=index, path=f"{DESTINATION}/{name}", name=name, url="https://cdn.example/a.png", bytes=10,
        sha256="0" * 64, format="png", width=2048, height=1024,
    )  # fmt: skip


def make_entry(*, reused: bool = False, **fields: Any) -> IndexEntry:
    fields = {"request": {"prompt": "a fox"}, "cost_usd": 0.07, **fields}
    manifest = Manifest(seedream_task_id="task_1", images=(saved_image(1), saved_image(2)), **fields)
    return IndexEntry.of(manifest, destination=DESTINATION, path=f"{DESTINATION}/m.json", reused=reused)


class TestAnEntrySaysWhatTheGalleryShows:
    def test_of_the_task_and_each_image(self) -> None:
        entry = make_entry()
        assert (entry.seedream_task_id, entry.prompt, entry.cost_usd) == ("task_1", "a fox", 0.07)
        assert (entry.destination, entry.manifest) == (DESTINATION, f"{DESTINATION}/m.json")
        assert entry.find_image(2) == IndexedImage(
            index=2, name="task_1-2.png", sha256="0" * 64, width=2048, height=1024
        )
        assert entry.find_image(3) is None

    def test_images_that_were_reused_cost_nothing(self) -> None:
        assert make_entry(reused=True).cost_usd == 0

    @pytest.mark.parametrize("cost_usd", [0.07, None])
    def test_a_cost_that_is_not_known_stays_so(self, cost_usd: float | None) -> None:
        assert make_entry(cost_usd=cost_usd).cost_usd == cost_usd

    @pytest.mark.parametrize("request_", [None, {}, {"prompt": None}, "a fox", ["a fox"]])
    def test_a_record_without_a_prompt_has_none(self, request_: Any) -> None:
        assert make_entry(request=request_).prompt == ""


class TestAnEntryTravelsAsJson:
    def test_and_comes_back_as_it_was(self) -> None:
        entry = make_entry()
        assert IndexEntry.from_json(json.loads(json.dumps(entry.to_json()))) == entry

    @pytest.mark.parametrize("value", [None, "x", 7, [], {}])
    def test_anything_else_is_none(self, value: Any) -> None:
        assert IndexEntry.from_json(value) is None

    @pytest.mark.parametrize(
        "change",
        [
            {"prompt": "x" * 20_001},
            {"destination": "x" * 4_097},
            {"cost_usd": MOST_USD * 2},
            {"cost_usd": -0.01},
            {"cost_usd": float("nan")},
            {"manifest": None},
            {"images": [{"index": 0}]},
        ],
    )
    def test_so_is_what_no_task_would_save(self, change: dict[str, Any]) -> None:
        assert IndexEntry.from_json(make_entry().to_json() | change) is None

    @pytest.mark.parametrize("index", [0, MOST_IMAGES + 1])
    def test_so_is_an_image_out_of_all_bounds(self, index: int) -> None:
        record = make_entry().to_json()
        record["images"][0]["index"] = index
        assert IndexEntry.from_json(record) is None

    def test_so_are_more_images_than_a_page_can_bear(self) -> None:
        record = make_entry().to_json()
        assert IndexEntry.from_json(record | {"images": record["images"] * 101}) is None
