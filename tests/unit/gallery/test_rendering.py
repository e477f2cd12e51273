"""What the gallery's HTML promises; how its script behaves is shown in a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any
from zoneinfo import ZoneInfo

import pendulum
import pytest

from airflow_provider_seedream.gallery import rendering
from airflow_provider_seedream.gallery.view_models import (
    Filters,
    GalleryView,
    ImageView,
    MessageView,
    Placeholder,
    Progress,
    TileImage,
)
from airflow_provider_seedream.storage.manifest import Manifest, SavedImage
from airflow_provider_seedream.urls import TaskAddress

AT = pendulum.datetime(2026, 11, 22, 12, 3, 10)
TASK = TaskAddress("refresh", "manual__2026-11-22T12:00:00+00:00", "generate")
RUN = replace(TASK, task_id="")
PREFIX = {"root": "/airflow/seedream", "airflow_root": "/airflow"}
TILE = TileImage(
    task=TASK,
    index=2,
    of=4,
    prompt="a lighthouse at dusk",
    name="art/lighthouse-2.png",
    width=2848,
    height=1600,
    cost_usd=0.035,
    reused=False,
    at=AT,
)
GENERATING = Placeholder(
    task=TASK, progress=Progress.GENERATING, prompt="a fox", images=3, charged_usd=0.105, at=AT
)
FAILED = replace(GENERATING, progress=Progress.FAILED)
NOT_KEPT = replace(GENERATING, progress=Progress.NOT_KEPT)
IMAGE = SavedImage(
    index=2,
    path="s3://aws@bucket/art/lighthouse-2.png",
    name="art/lighthouse-2.png",
    url="https://r2.apixo.ai/2.png",
    bytes=4_200_000,
    sha256="ab" * 32,
    format="png",
    width=2848,
    height=1600,
)
MANIFEST = Manifest(
    seedream_task_id="task_123",
    model="seedream-4-5",
    request={"prompt": "a lighthouse at dusk", "max_images": 4, "aspect_ratio": "16:9"},
    cost_usd=0.105,
    created_at="2026-11-22T12:00:00+00:00",
    saved_at="2026-11-22T12:01:00+00:00",
    dag_id=TASK.dag_id,
    run_id=TASK.run_id,
    task_id=TASK.task_id,
    images=(IMAGE, IMAGE, IMAGE),
)


class Document(HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self._texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._texts.append("" if tag == "wbr" else " ")

    def handle_data(self, data: str) -> None:
        self._texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self._texts).split())

    @property
    def shape(self) -> list[tuple[str, list[str]]]:
        """Tags with the names of their attributes."""
        return [(tag, list(attributes)) for tag, attributes in self.elements]

    def values(self, *names: str) -> list[str]:
        """Of attributes, wherever they are."""
        return [found[name] for _, found in self.elements for name in names if name in found]

    def all(self, tag: str) -> list[dict[str, str]]:
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]


def browse(*tiles: Any, **view: Any) -> Document:
    return Document(
        rendering.render_gallery(
            GalleryView(tiles=tiles, **{**PREFIX, "filters": Filters(), "dag_ids": ["refresh"], **view})
        )
    )


def scoped(scope: TaskAddress, *tiles: Any, **view: Any) -> Document:
    return Document(rendering.render_gallery(GalleryView(tiles=tiles, scope=scope, **PREFIX, **view)))


def image_page(**view: Any) -> Document:
    known = {"task": TASK, "manifest": MANIFEST, "image": IMAGE, "previous": 1, "next": 3, **PREFIX}
    return Document(rendering.render_image(ImageView(index=2, of=4, **{**known, **view})))


def pages_with(text: str) -> Iterator[Document]:
    """All pages, with a text in every field that a user, a DAG or a storage fills."""
    task = TaskAddress(text, text, text, 3)
    tile = replace(TILE, task=task, prompt=text, name=text)
    tiles = [tile, *(replace(tile, task=task, prompt=text) for tile in (GENERATING, FAILED, NOT_KEPT))]
    filters = Filters(dag_id=text, text=text)
    yield browse(*tiles, filters=filters, dag_ids=[text], notice=text)
    yield browse(*tiles, filters=filters, dag_ids=["another"])
    yield scoped(task, *tiles)
    yield image_page(task=task, manifest=manifest_with(text), image=image_with(text))
    yield image_page(task=task, problem=text)
    yield Document(rendering.render_message(MessageView(root="/seedream", title=text, text=text)))


def image_with(text: str) -> SavedImage:
    return replace(IMAGE, path=text, name=text, url=text, sha256=text, format=text)


def manifest_with(text: str) -> Manifest:
    fields = ("seedream_task_id", "model", "fingerprint", "created_at", "completed_at", "saved_at")
    request = {"prompt": text, "image_urls": [text], "mode": text, "odd": {"nested": [text]}}
    ids = dict.fromkeys(("dag_id", "run_id", "task_id"), text)
    return replace(
        MANIFEST,
        **dict.fromkeys(fields, text),
        **ids,
        request=request,
        top_up_task_ids=[text],
        images=(image_with(text),),
    )


HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "</textarea></title></template><h1>",
    "{{ 7 * 7 }}{% raw %}",
    "../../etc/passwd",
]


class TestTextIsNeverMarkup:
    @pytest.mark.parametrize("text", HOSTILE)
    def test_it_adds_no_element_and_no_attribute(self, text: str) -> None:
        for hostile, harmless in zip(pages_with(text), pages_with("harmless"), strict=True):
            assert hostile.shape == harmless.shape

    @pytest.mark.parametrize("text", HOSTILE)
    def test_it_is_shown_as_it_was_written(self, text: str) -> None:
        assert all(text in page.text for page in pages_with(text))

    @pytest.mark.parametrize("text", ["\ud800 alone", "nul \x00", "escape \x1b[31m"])
    def test_what_no_document_may_hold_is_replaced(self, text: str) -> None:
        page = rendering.render_gallery(GalleryView(tiles=[replace(TILE, prompt=text)], scope=RUN, **PREFIX))
        assert b"\xef\xbf\xbd" in page.encode()
        assert not re.search(r"[\x00\x1b]", page)

    def test_line_ends_of_a_form_are_line_ends(self) -> None:
        manifest = replace(MANIFEST, request={"prompt": "one\r\ntwo"})
        assert "\ufffd" not in image_page(manifest=manifest).text

    def test_a_prompt_may_run_from_right_to_left(self) -> None:
        assert {"class": "prompt", "dir": "auto"} in browse(TILE).all("p")

    def test_a_tile_holds_the_beginning_of_a_long_prompt(self) -> None:
        prompt = next(text for text in browse(replace(TILE, prompt="x" * 5000)).text.split() if "xx" in text)
        assert len(prompt) == 300
        assert prompt.endswith("…")


class TestTheContentSecurityPolicyIsKept:
    """Nothing inline, nothing of another origin."""

    @pytest.fixture(params=["harmless", *HOSTILE])
    def documents(self, request: pytest.FixtureRequest) -> list[Document]:
        return list(pages_with(request.param))

    def test_no_style_and_no_script_is_inline(self, documents: list[Document]) -> None:
        for page in documents:
            names = {name for _, names in page.shape for name in names}
            assert not [name for name in names if name == "style" or name.startswith("on")]
            assert not page.all("style")
            assert all(script["src"].endswith("/seedream/static/gallery.js") for script in page.all("script"))

    def test_every_address_is_below_the_mount_points(self, documents: list[Document]) -> None:
        for page in documents:
            own = ("/seedream/", "/airflow/")
            assert all(address.startswith((*own, "#tiles")) for address in page.values("href", "action"))
            assert all(address.startswith(own) for address in page.values("src"))

    def test_no_link_opens_a_window_which_the_frame_forbids(self, documents: list[Document]) -> None:
        assert not any(page.values("target") for page in documents)


class TestAddressesBeginWithThePrefix:
    """``[api] base_url = http://host/airflow``."""

    def test_a_tile_opens_its_image(self) -> None:
        assert {"class": "open frame", "href": f"/airflow/seedream{TASK.make_image_path(2)}"} in browse(
            TILE
        ).all("a")

    def test_a_tile_shows_its_thumbnail_and_never_the_file(self) -> None:
        page = browse(TILE)
        assert [img["src"] for img in page.all("img")] == [f"/airflow/seedream{TASK.make_thumbnail_path(2)}"]

    def test_a_tile_leads_to_the_task_in_airflow(self) -> None:
        links = [link["href"] for link in browse(TILE).all("a") if "data-airflow" in link]
        assert links == [f"/airflow{TASK.airflow_path}"]

    def test_pages_lead_to_older_and_newest_images(self) -> None:
        page = browse(TILE, older="/?cursor=x&text=a", newest="/?text=a")
        assert "/airflow/seedream/?cursor=x&text=a" in page.values("href")
        assert "/airflow/seedream/?text=a" in page.values("href")

    def test_at_the_root_of_a_host_there_is_none(self) -> None:
        page = browse(TILE, root="/seedream", airflow_root="")
        assert TASK.airflow_path in page.values("href")
        assert page.all("form")[0]["action"] == "/seedream/"


class TestAnImageIsDescribed:
    def test_by_its_prompt_and_its_place(self) -> None:
        assert browse(TILE).values("alt") == ["a lighthouse at dusk, image 2 of 4"]

    def test_a_single_image_has_no_place(self) -> None:
        assert browse(replace(TILE, index=1, of=1)).values("alt") == ["a lighthouse at dusk"]

    def test_by_its_file_where_the_prompt_is_not_known(self) -> None:
        assert browse(replace(TILE, prompt="")).values("alt") == ["art/lighthouse-2.png, image 2 of 4"]

    def test_not_by_thousands_of_characters(self) -> None:
        (alt,) = browse(replace(TILE, prompt="a fox\n" * 900)).values("alt")
        assert alt.startswith("a fox a fox")
        assert alt.endswith("…, image 2 of 4")
        assert len(alt) < 150

    def test_its_pixels_cost_and_time_are_told(self) -> None:
        text = browse(TILE).text
        assert "2848 × 1600 0.035 USD 2026-11-22 12:03:10 UTC refresh manual__2026" in text  # noqa: RUF001

    def test_a_reused_image_cost_nothing(self) -> None:
        assert "reused, 0 USD" in browse(replace(TILE, reused=True, cost_usd=0)).text

    def test_what_is_not_known_is_not_told(self) -> None:
        text = browse(replace(TILE, width=0, height=0, cost_usd=None)).text
        assert "×" not in text  # noqa: RUF001
        assert "USD" not in text

    def test_times_are_in_utc(self) -> None:
        assert "12:03:10 UTC" in browse(replace(TILE, at=AT.astimezone(ZoneInfo("Asia/Tokyo")))).text


class TestATileSaysWhereItComesFrom:
    def test_under_browse_its_dag_and_run(self) -> None:
        assert f"{TASK.dag_id} {TASK.run_id}" in browse(TILE).text

    def test_on_a_run_its_task(self) -> None:
        assert "UTC generate[7]" in scoped(RUN, replace(TILE, task=replace(TASK, map_index=7))).text

    def test_on_a_task_its_map_index(self) -> None:
        assert "UTC generate[7]" in scoped(TASK, replace(TILE, task=replace(TASK, map_index=7))).text

    def test_nothing_that_the_page_says_already(self) -> None:
        mapped = replace(TASK, map_index=7)
        assert not scoped(TASK, TILE).values("data-airflow")
        assert not scoped(mapped, replace(TILE, task=mapped)).values("data-airflow")


class TestATaskWithoutImagesSaysWhy:
    def test_generating(self) -> None:
        text = scoped(RUN, GENERATING).text
        assert "Generating 3 images 0.105 USD reserved since 12:03:10 UTC" in text

    def test_generating_before_anything_was_bought(self) -> None:
        text = scoped(RUN, replace(GENERATING, images=None, charged_usd=None)).text
        assert "Generating images since" in text

    def test_without_script_a_reload_shows_them(self) -> None:
        assert "reload this page" in scoped(RUN, GENERATING).text
        assert "reload this page" not in scoped(RUN, TILE, FAILED, NOT_KEPT).text

    def test_failed_with_the_way_to_the_log(self) -> None:
        page = scoped(TASK, FAILED)
        assert "Failed: no images The task’s log says why" in page.text  # noqa: RUF001
        assert {"data-airflow": "", "href": f"/airflow{TASK.airflow_path}"} in page.all("a")

    def test_not_kept_with_what_is_known(self) -> None:
        text = scoped(RUN, NOT_KEPT).text
        assert "No saved images None of this task are known." in text
        assert "A task without destination returns URLs only, which work for 15 days." in text


class TestATileIsReplacedWhenItsContentChanges:
    """The script compares these keys."""

    def key(self, tile: TileImage | Placeholder) -> str:
        (tag,) = scoped(RUN, tile).values("data-key")
        return tag

    def test_an_image_that_was_made_anew(self) -> None:
        assert self.key(TILE) == self.key(replace(TILE))
        assert self.key(TILE) != self.key(replace(TILE, at=AT.add(minutes=1)))

    @pytest.mark.parametrize("change", [{"progress": Progress.FAILED}, {"images": 2}, {"charged_usd": None}])
    def test_a_task_that_went_on(self, change: dict[str, Any]) -> None:
        assert self.key(GENERATING) != self.key(replace(GENERATING, **change))

    def test_a_task_that_waits_stays_as_it_is(self) -> None:
        assert self.key(GENERATING) == self.key(replace(GENERATING, at=AT.add(seconds=5)))

    def test_all_tiles_of_a_page_differ(self) -> None:
        page = scoped(RUN, TILE, replace(TILE, index=3), GENERATING)
        assert len(set(page.values("data-key"))) == 3


class TestAnEmptyPageSaysWhatToDo:
    def test_nothing_yet(self) -> None:
        text = browse().text
        assert "No images yet" in text
        assert "Trigger a DAG" in text
        assert "destination=" in text

    def test_nothing_matches(self) -> None:
        page = browse(filters=Filters(text="fox"))
        assert "No image matches" in page.text
        assert "Clear the filters" in page.text

    def test_a_run_without_images(self) -> None:
        assert "No images in this run" in scoped(RUN).text

    def test_a_task_that_is_not_of_seedream(self) -> None:
        text = scoped(TASK).text
        assert "No Seedream images here" in text
        assert "This tab is on every task" in text

    def test_beyond_the_last_page(self) -> None:
        page = browse(newest="/", filters=Filters(text="fox"))
        assert "No older images" in page.text
        assert "/airflow/seedream/" in page.values("href")

    def test_a_page_with_tiles_says_none_of_this(self) -> None:
        assert not browse(TILE).all("h2")


class TestTheFilters:
    def test_keep_what_was_chosen(self) -> None:
        chosen = Filters(
            dag_id="refresh",
            text="a fox",
            since=pendulum.date(2026, 11, 1),
            until=pendulum.date(2026, 11, 22),
        )
        page = browse(TILE, filters=chosen, dag_ids=["other", "refresh"])
        assert [field["value"] for field in page.all("input")] == ["a fox", "2026-11-01", "2026-11-22"]
        assert [option for option in page.all("option") if "selected" in option] == [{"selected": ""}]
        assert "All DAGs other refresh" in page.text

    def test_show_a_chosen_dag_that_is_not_offered(self) -> None:
        page = browse(filters=Filters(dag_id="gone"))
        assert {"selected": ""} in page.all("option")
        assert "All DAGs gone refresh" in page.text

    def test_are_skipped_by_keyboard(self) -> None:
        page = browse(TILE)
        assert page.all("a")[0] == {"class": "skip", "href": "#tiles"}
        assert "tiles" in page.values("id")

    def test_are_under_browse_only(self) -> None:
        assert not scoped(RUN, TILE).all("form")


class TestTheSummary:
    def test_adds_up_a_run(self) -> None:
        assert "3 images · 0.105 USD" in scoped(RUN, TILE, TILE, TILE, FAILED).text

    def test_claims_no_cost_that_is_not_known(self) -> None:
        text = scoped(RUN, replace(TILE, cost_usd=None), TILE).text
        assert "2 images" in text
        assert "2 images ·" not in text

    def test_is_not_made_from_a_part(self) -> None:
        assert "1 image" not in scoped(RUN, TILE, older="/?cursor=x").text.replace("image 2 of 4", "")


class TestThePageOfAnImage:
    def test_shows_the_image_and_keeps_its_place(self) -> None:
        (image,) = image_page().all("img")
        assert image["src"] == f"/airflow/seedream{TASK.make_file_path(2)}"
        assert (image["width"], image["height"]) == ("2848", "1600")
        assert image["alt"] == "a lighthouse at dusk"

    def test_tells_the_facts(self) -> None:
        text = image_page().text
        assert "Pixels 2848 × 1600 Size 4.2 MB (4,200,000 bytes) Format PNG" in text  # noqa: RUF001
        assert "Cost 0.105 USD for 3 images" in text
        assert "Created 2026-11-22 12:00:00 UTC" in text
        assert "max_images 4 aspect_ratio 16:9" in text
        assert f"SHA-256 {IMAGE.sha256}" in text
        assert '"seedream_task_id": "task_123"' in text

    def test_tells_where_a_reused_image_comes_from(self) -> None:
        assert "Comes from" not in image_page().text
        text = image_page(manifest=replace(MANIFEST, dag_id="studio")).text
        assert f"Comes from DAG studio, run {TASK.run_id}, task generate" in text

    def test_shows_reference_images_as_text_only(self) -> None:
        url = "https://example.com/a.png"
        page = image_page(manifest=replace(MANIFEST, request={"image_urls": [url]}))
        assert url in page.text
        assert url not in page.values("href", "src")

    def test_leads_to_the_images_beside_it(self) -> None:
        def neighbours(page: Document) -> dict[str, str]:
            return {link["rel"]: link["href"] for link in page.all("a") if "rel" in link}

        here = "/airflow/seedream"
        assert neighbours(image_page()) == {
            "prev": here + TASK.make_image_path(1),
            "next": here + TASK.make_image_path(3),
        }
        assert neighbours(image_page(previous=None, next=None)) == {}

    def test_leads_back_to_its_tile(self) -> None:
        (tile,) = scoped(TASK, TILE).all("li")
        assert f"/airflow/seedream{TASK.path}#{tile['id']}" in image_page().values("href")

    def test_offers_the_file_under_its_own_name(self) -> None:
        assert image_page().values("download") == ["lighthouse-2.png"]

    def test_a_problem_is_told_beside_what_is_known(self) -> None:
        page = image_page(problem="The image was deleted.")
        assert "The image was deleted." in page.text
        assert "SHA-256" in page.text
        assert not page.all("img")

    def test_a_problem_with_the_manifest_leaves_the_way_to_the_task(self) -> None:
        page = image_page(problem="The manifest is broken.", manifest=None, image=None)
        assert "The manifest is broken." in page.text
        assert f"/airflow{TASK.airflow_path}" in page.values("href")

    @pytest.mark.parametrize("request_sent", [None, {}, {"prompt": ["odd"], "image_urls": "odd"}])
    def test_odd_manifests_are_shown_as_far_as_they_go(self, request_sent: dict[str, Any] | None) -> None:
        manifest = replace(MANIFEST, request=request_sent, saved_at="yesterday", cost_usd=None)
        assert "Saved yesterday" in image_page(manifest=manifest).text


class TestHeadingsAreInOrder:
    @pytest.mark.parametrize("page", list(pages_with("x")))
    def test_one_first_and_none_skipped(self, page: Document) -> None:
        # The refusal lies in a template until it is needed.
        levels = [tag for tag, _ in page.elements if re.fullmatch(r"h\d", tag)][:-1]
        assert levels[0] == "h1"
        assert set(levels[1:]) <= {"h2"}

    @pytest.mark.parametrize("page", list(pages_with("x")))
    def test_language_and_width_are_declared(self, page: Document) -> None:
        assert page.all("html") == [{"lang": "en"}]
        assert "width=device-width, initial-scale=1" in page.values("content")
