"""Routes: who is let in, and what each answers. Result URLs are public, exact in size, and expire."""

from __future__ import annotations

import io
import json
from urllib.parse import urlsplit

import httpx
import pytest
from PIL import Image

from tests.unit.sandbox.users import Account, Clock, error_of, text_to_image


class TestTheKeyIsChecked:
    @pytest.mark.parametrize("header", ["", "Bearer", "Bearer invalid", "Basic abc", "key-without-scheme"])
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/generateTask/seedream-4-5"),
            ("GET", "/statusTask/seedream-4-5?taskId=task_1"),
            ("GET", "/apikeys/current-balance"),
        ],
    )
    def test_no_key_and_wrong_key_get_401_everywhere(
        self, account: Account, method: str, path: str, header: str
    ) -> None:
        answer = account.call(method, path, headers={"Authorization": header})
        assert "Bearer" in error_of(answer, 401)

    def test_any_other_key_is_an_account(self, account: Account) -> None:
        assert account.balance() == 100


class TestABody:
    def test_another_content_type_is_refused(self, account: Account) -> None:
        answer = account.post_raw("prompt=a+fox", content_type="application/x-www-form-urlencoded")
        assert error_of(answer, 400) == "Content-Type must be application/json"

    def test_a_charset_after_the_content_type_is_fine(self, account: Account) -> None:
        answer = account.post_raw(
            json.dumps({"input": text_to_image()}), content_type="application/json; charset=utf-8"
        )
        assert answer.status_code == 200

    def test_a_huge_body_is_refused_without_reading_all_of_it(self, account: Account) -> None:
        answer = account.post({"input": text_to_image("x" * 5 * 1024**2)})
        assert "longer than 1048576 bytes" in error_of(answer, 413)
        assert account.balance() == 100


class TestUnknownPlaces:
    def test_an_unknown_model_is_404(self, account: Account) -> None:
        assert "Unknown model" in error_of(account.post({"input": text_to_image()}, model="seedream-9"), 404)
        assert "Unknown model" in error_of(account.poll("task_1", model="seedream-9"), 404)

    def test_an_unknown_path_is_404_and_a_wrong_method_405(self, account: Account) -> None:
        error_of(account.call("GET", "/nothing-here"), 404)
        error_of(account.call("GET", "/generateTask/seedream-4-5"), 405)


class TestAPoll:
    def test_no_task_id_is_400(self, account: Account) -> None:
        assert account.call("GET", "/statusTask/seedream-4-5").status_code == 400


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


class TestResetStartsAfresh:
    def test_no_task_account_fault_or_request_is_left(self, account: Account) -> None:
        account.submit()
        account.fault("/statusTask", {"status": 500})
        account.control("POST", "/reset")
        report = account.ledger()
        assert (report["accounts"], report["tasks"], report["requests"]) == ({}, [], [])
        assert account.poll("task_1").status_code == 404
