"""What the sandbox accepts and refuses: every rule of the vendor's page, and input that means harm."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_seedream.apixo.model import SEEDREAM_4_5
from airflow_provider_seedream.sandbox.checks import read_order
from airflow_provider_seedream.sandbox.envelope import Refusal
from tests.unit.sandbox.users import Account, text_to_image

URL = "https://example.com/reference.png"


def image_to_image(urls: Any) -> dict[str, Any]:
    return text_to_image(mode="image-to-image", image_urls=urls)


def error_of(answer: httpx.Response, code: int) -> str:
    """The text of a refusal, whose envelope is checked on the way."""
    body = answer.json()
    assert answer.status_code == code, answer.text
    assert body["code"] == code
    assert set(body) == {"code", "message", "data"}
    return str(body["data"]["error"])


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


class TestTheBodyMustBeJson:
    def test_another_content_type_is_refused(self, account: Account) -> None:
        answer = account.post_raw("prompt=a+fox", content_type="application/x-www-form-urlencoded")
        assert error_of(answer, 400) == "Content-Type must be application/json"

    def test_a_charset_after_the_content_type_is_fine(self, account: Account) -> None:
        answer = account.post_raw(
            json.dumps({"input": text_to_image()}), content_type="application/json; charset=utf-8"
        )
        assert answer.status_code == 200

    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"<html>",
            b"{",
            b"\xff\xfe",
            b'{"input": \xe9}',
            b"[" * 100_000,
            b'{"input":' * 50_000,
            b"1" * 9999,
        ],
        ids=["empty", "html", "cut", "utf-16", "latin-1", "deep list", "deep object", "huge number"],
    )
    def test_what_is_not_json_is_refused(self, account: Account, raw: bytes) -> None:
        answer = account.post_raw(raw)
        assert error_of(answer, 400) == "The body is not valid JSON"

    def test_a_huge_body_is_refused_without_reading_all_of_it(self, account: Account) -> None:
        answer = account.post({"input": text_to_image("x" * 5 * 1024**2)})
        assert "longer than 1048576 bytes" in error_of(answer, 413)
        assert account.balance() == 100


class TestEveryRuleOfThePage:
    @pytest.mark.parametrize(
        ("body", "error"),
        [
            ([], "request body must be an object"),
            ({}, "Missing required field: input"),
            ({"input": "a fox"}, "input must be an object"),
            (
                {"request_type": "sync", "input": text_to_image()},
                "request_type must be one of async, callback",
            ),
            (
                {"provider": "cheap", "input": text_to_image()},
                "provider must be one of auto, value, official",
            ),
        ],
    )
    def test_of_the_top_level(self, account: Account, body: Any, error: str) -> None:
        assert error in error_of(account.post(body), 400)

    @pytest.mark.parametrize("field", ["mode", "prompt", "max_images"])
    def test_of_required_fields(self, account: Account, field: str) -> None:
        fields = text_to_image()
        del fields[field]
        assert error_of(account.post({"input": fields}), 400) == f"Missing required field: input.{field}"

    @pytest.mark.parametrize(
        ("field", "value", "error"),
        [
            ("mode", "text", "must be one of text-to-image, image-to-image"),
            ("mode", ["text-to-image"], "must be one of"),
            ("prompt", "", "must have 1-5000 characters, not 0"),
            ("prompt", "x" * 5001, "must have 1-5000 characters, not 5001"),
            ("prompt", 7, "must be a string"),
            ("prompt", None, "must be a string"),
            ("max_images", 0, "must be 1-10, not 0"),
            ("max_images", 11, "must be 1-10, not 11"),
            ("max_images", "3", "must be an integer"),
            ("max_images", True, "must be an integer"),
            ("max_images", 2.0, "must be an integer"),
            ("max_images", None, "must be an integer"),
            ("resolution", "8K", "must be one of 2K, 4K"),
            ("resolution", None, "must be one of 2K, 4K"),
            ("aspect_ratio", "5:4", "must be one of 1:1, 2:3, 3:2, 3:4, 4:3, 9:16, 16:9, 21:9"),
            ("aspect_ratio", None, "must be one of"),
            ("sequential_image_generation", "on", "must be one of disabled, auto"),
            ("sequential_image_generation", False, "must be one of disabled, auto"),
            ("image_urls", [URL], "not allowed for text-to-image"),
        ],
    )
    def test_of_each_field(self, account: Account, field: str, value: Any, error: str) -> None:
        text = error_of(account.post({"input": text_to_image() | {field: value}}), 400)
        assert f"input.{field}" in text
        assert error in text

    @pytest.mark.parametrize(
        ("urls", "error"),
        [
            ([], "1-14 URLs, not 0"),
            ([URL] * 15, "1-14 URLs, not 15"),
            (URL, "must be a list"),
            ([7], "image_urls[0]"),
            ([URL, "photo.png"], "image_urls[1]"),
            (["/home/me/photo.png"], "http(s) URL"),
            (["file:///etc/passwd"], "http(s) URL"),
            (["https://"], "http(s) URL"),
            (["https://exa mple.com/a.png"], "http(s) URL"),
            (["https://[::1"], "http(s) URL"),
            (["https://example.com:99999/a.png"], "http(s) URL"),
            (["data:image/png;base64,AAAA"], "http(s) URL"),
        ],
    )
    def test_of_reference_images(self, account: Account, urls: Any, error: str) -> None:
        assert error in error_of(account.post({"input": image_to_image(urls)}), 400)

    def test_image_to_image_needs_references(self, account: Account) -> None:
        answer = account.post({"input": text_to_image(mode="image-to-image")})
        assert error_of(answer, 400) == "Missing required field: input.image_urls"

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            ({}, "Missing required field: callback_url"),
            ({"callback_url": 7}, "public HTTPS URL"),
            ({"callback_url": "ftp://127.0.0.1/x"}, "public HTTPS URL"),
            ({"callback_url": "http://example.com/hook"}, "public HTTPS URL"),
            ({"callback_url": "https://example.com/hook"}, "only calls loopback"),
            ({"callback_url": "https://127.0.0.1.example.com/hook"}, "only calls loopback"),
            ({"callback_url": "https://127.0.0.1@example.com/hook"}, "only calls loopback"),
            ({"callback_url": "https://10.0.0.1/hook"}, "only calls loopback"),
        ],
    )
    def test_of_callbacks(self, account: Account, fields: dict[str, Any], error: str) -> None:
        body = {"request_type": "callback", "input": text_to_image(), **fields}
        assert error in error_of(account.post(body), 400)

    @pytest.mark.parametrize(
        "directive", ["deliver:x", "deliver:-1", "deliver", "seconds:nan", "fail:", "jpeg:1"]
    )
    def test_a_directive_that_cannot_be_read_is_refused_not_ignored(
        self, account: Account, directive: str
    ) -> None:
        answer = account.post({"input": text_to_image(f"a fox [[{directive}]]")})
        assert f"[[{directive.partition(':')[0]}]] takes" in error_of(answer, 400)

    def test_a_refusal_charges_nothing(self, account: Account) -> None:
        account.post({"input": text_to_image(max_images=11)})
        assert account.balance() == 100
        assert account.ledger()["tasks"] == []


class TestWhatThePageLeavesOpenIsAccepted:
    @pytest.mark.parametrize("prompt", ["x", "x" * 5000, "一只狐狸", "\ud83e\udd8a", "\ud800", "\x00", " "])
    def test_any_text_of_1_to_5000_characters(self, account: Account, prompt: str) -> None:
        raw = json.dumps({"input": text_to_image(prompt)})
        answer = account.post_raw(raw)
        assert answer.status_code == 200

    def test_unknown_fields(self, account: Account) -> None:
        answer = account.post({"trace": 1, "input": text_to_image(seed=7, web_search=None)})
        assert answer.status_code == 200

    def test_one_and_fourteen_references(self, account: Account) -> None:
        for count in (1, 14):
            assert account.post({"input": image_to_image([URL] * count)}).status_code == 200

    def test_no_ratio_and_no_resolution_mean_a_2k_image(self) -> None:
        order = read_order(json.dumps({"input": text_to_image()}).encode(), SEEDREAM_4_5)
        assert (order.resolution, order.aspect_ratio, order.size) == ("2K", None, (2048, 2048))

    def test_an_async_request_may_carry_a_callback_url(self, account: Account) -> None:
        body = {"request_type": "async", "callback_url": "nonsense", "input": text_to_image()}
        assert account.post(body).status_code == 200


class TestUnknownPlaces:
    def test_an_unknown_model_is_404(self, account: Account) -> None:
        assert "Unknown model" in error_of(account.post({"input": text_to_image()}, model="seedream-9"), 404)
        assert "Unknown model" in error_of(account.poll("task_1", model="seedream-9"), 404)

    def test_an_unknown_path_is_404_and_a_wrong_method_405(self, account: Account) -> None:
        error_of(account.call("GET", "/nothing-here"), 404)
        error_of(account.call("GET", "/generateTask/seedream-4-5"), 405)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
FIELDS = [
    "mode",
    "prompt",
    "max_images",
    "image_urls",
    "resolution",
    "aspect_ratio",
    "sequential_image_generation",
]


class TestHostileBodies:
    @settings(deadline=None, max_examples=60)
    @given(changes=st.dictionaries(st.sampled_from(FIELDS), JSON), top=st.dictionaries(st.text(), JSON))
    def test_whatever_json_comes_it_is_an_order_or_a_refusal(self, changes: Any, top: Any) -> None:
        raw = json.dumps({"input": text_to_image() | changes, **top}).encode()
        try:
            read_order(raw, SEEDREAM_4_5)
        except Refusal as error:
            refusal = error
        else:
            refusal = Refusal(400, "")
        assert refusal.code == 400
        assert refusal.error.isascii()
