"""Result URLs: public, resumable, exact in size, and gone when they expire."""

from __future__ import annotations

import asyncio
import io
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image

from airflow_provider_seedream.sandbox.image_cache import Gallery
from airflow_provider_seedream.sandbox.ranges import respond
from tests.unit.sandbox.users import Account, Clock, accepted


@pytest.fixture
def url(account: Account, clock: Clock) -> str:
    task = account.submit("a fox in watercolor style")
    clock.advance(60)
    return account.urls(task)[0]


class TestImages:
    def test_are_public_png_files_of_the_size_asked_for(
        self, account: Account, clock: Clock, http: httpx.Client
    ) -> None:
        task = account.submit(max_images=2, aspect_ratio="21:9")
        clock.advance(60)
        for url in account.urls(task):
            answer = http.get(url)
            assert answer.headers["content-type"] == "image/png"
            image = Image.open(io.BytesIO(answer.content))
            image.load()
            assert (image.format, image.size) == ("PNG", (3136, 1344))

    def test_of_one_task_differ(self, account: Account, clock: Clock, http: httpx.Client) -> None:
        task = account.submit(max_images=2)
        clock.advance(60)
        first, second = (http.get(url).content for url in account.urls(task))
        assert first != second

    def test_can_be_jpeg_under_the_name_of_a_png(
        self, account: Account, clock: Clock, http: httpx.Client
    ) -> None:
        task = account.submit("a fox [[jpeg]]")
        clock.advance(60)
        url = account.urls(task)[0]
        answer = http.get(url)
        assert url.endswith(".png")
        assert answer.headers["content-type"] == "image/png"
        assert Image.open(io.BytesIO(answer.content)).format == "JPEG"

    def test_are_not_there_before_the_task_has_ended(
        self, account: Account, clock: Clock, http: httpx.Client
    ) -> None:
        task = account.submit("a fox [[seconds:30]]")
        clock.advance(31)
        url = account.urls(task)[0]
        clock.advance(-2)
        assert http.get(url).status_code == 404

    def test_are_found_under_their_exact_address_only(self, url: str, http: httpx.Client) -> None:
        head, _, number = url.rpartition("/")
        task, _, token = head.rpartition("/")
        for wrong in (
            f"{head}/2.png",
            f"{head}/0.png",
            f"{head}/1",
            f"{task}/{'0' * len(token)}/{number}",
            f"{head}x/{number}",
        ):
            assert http.get(wrong).status_code == 404

    def test_have_the_address_by_which_the_client_came(
        self, account: Account, clock: Clock, http: httpx.Client
    ) -> None:
        task = account.submit()
        clock.advance(60)
        here = f"http://localhost:{urlsplit(account.server.origin).port}"
        answer = http.get(
            f"{here}/api/v1/statusTask/seedream-4-5",
            params={"taskId": task},
            headers={"Authorization": f"Bearer {account.key}"},
        )
        assert f"{here}/results/{task}/" in answer.json()["data"]["resultJson"]

    def test_expire_after_15_days(self, url: str, clock: Clock, http: httpx.Client) -> None:
        assert http.get(url).status_code == 200
        clock.advance(15 * 24 * 3600)
        assert http.get(url).status_code == 410

    def test_can_expire_at_once(self, account: Account, clock: Clock, http: httpx.Client) -> None:
        task = account.submit("a fox [[expire]]")
        clock.advance(60)
        assert http.get(account.urls(task)[0]).status_code == 410


class TestABrokenTransferCanResume:
    def test_head_announces_what_get_delivers(self, url: str, http: httpx.Client) -> None:
        head, whole = http.head(url), http.get(url)
        assert head.content == b""
        assert head.headers["accept-ranges"] == "bytes"
        assert int(head.headers["content-length"]) == len(whole.content)
        assert head.headers["etag"] == whole.headers["etag"]

    def test_the_rest_fits_to_the_beginning(self, url: str, http: httpx.Client) -> None:
        whole = http.get(url)
        rest = http.get(url, headers={"Range": "bytes=1000-", "If-Range": whole.headers["etag"]})
        assert rest.status_code == 206
        assert rest.headers["content-range"] == f"bytes 1000-{len(whole.content) - 1}/{len(whole.content)}"
        assert whole.content[:1000] + rest.content == whole.content

    def test_another_version_is_sent_whole(self, url: str, http: httpx.Client) -> None:
        whole = http.get(url)
        answer = http.get(url, headers={"Range": "bytes=1000-", "If-Range": '"another"'})
        assert (answer.status_code, answer.content) == (200, whole.content)

    @pytest.mark.parametrize(
        ("wanted", "status", "body"),
        [
            ("bytes=0-3", 206, b"0123"),
            ("bytes=8-99", 206, b"89"),
            ("bytes=-3", 206, b"789"),
            ("bytes=-99", 206, b"0123456789"),
            ("bytes=10-", 416, b""),
            ("bytes=-0", 416, b""),
            ("bytes=5-2", 200, b"0123456789"),
            ("bytes=-", 200, b"0123456789"),
            ("bytes=0-1,4-5", 200, b"0123456789"),
            ("pages=1-2", 200, b"0123456789"),
        ],
    )
    def test_ranges_are_read_as_the_rfc_says(self, wanted: str, status: int, body: bytes) -> None:
        answer = respond(b"0123456789", {"range": wanted}, "image/png")
        assert (answer.status_code, answer.body) == (status, body)


class TestDrawingIsBounded:
    async def test_an_image_that_many_ask_for_is_drawn_once(self) -> None:
        gallery, task = Gallery(), accepted()
        images = await asyncio.gather(*(gallery.image(task, 1) for _ in range(20)))
        gallery.close()
        assert len(set(images)) == 1
        assert gallery.report()["drawn"] == 1

    async def test_the_oldest_are_forgotten_and_drawn_again_the_same(self) -> None:
        gallery, task = Gallery(capacity=1), accepted(max_images=2)
        first = await gallery.image(task, 1)
        second = await gallery.image(task, 2)
        assert gallery.report() == {"drawn": 2, "kept_bytes": len(second)}
        assert await gallery.image(task, 1) == first
        gallery.close()


class TestManyTasksAtOnce:
    def test_500_in_flight_cost_no_drawing_and_the_books_are_exact(
        self, account: Account, clock: Clock
    ) -> None:
        tasks = [account.submit(f"product {n} [[deliver:1]]", max_images=2) for n in range(500)]
        clock.advance(60)
        states = [account.status(task)["state"] for task in tasks]
        report = account.ledger()
        assert states == ["success"] * 500
        assert report["accounts"][account.key] == {"balance": 82.5, "charged": 35, "refunded": 17.5}
        assert [entry["polls"] for entry in report["tasks"]] == [1] * 500
        assert len(report["requests"]) == 1000
        assert report["images"] == {"drawn": 0, "kept_bytes": 0}
