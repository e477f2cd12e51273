"""What the sandbox accepts and refuses: every rule of the vendor's page, and input that means harm."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_seedream.apixo.model import SEEDREAM_4_5
from airflow_provider_seedream.sandbox.checks import Order, read_order
from airflow_provider_seedream.sandbox.envelope import RefusedCall
from tests.unit.sandbox.users import Account, error_of, text_to_image

URL = "https://example.com/reference.png"


def image_to_image(urls: Any) -> dict[str, Any]:
    return text_to_image(mode="image-to-image", image_urls=urls)


class TestTheBodyMustBeJson:
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


def read(body: dict[str, Any]) -> Order:
    return read_order(json.dumps(body).encode(), SEEDREAM_4_5)


class TestAnOrderSaysWhatWasAskedFor:
    def test_of_the_image(self) -> None:
        fields = {"resolution": "4K", "aspect_ratio": "21:9", "sequential_image_generation": "auto"}
        order = read({"input": text_to_image("a fox", max_images=3, **fields)})
        assert (order.mode, order.prompt, order.max_images) == ("text-to-image", "a fox", 3)
        assert (order.resolution, order.aspect_ratio, order.sequential) == ("4K", "21:9", "auto")
        assert order.size == SEEDREAM_4_5.resolutions["4K"].sizes["21:9"]

    def test_of_its_references(self) -> None:
        assert read({"input": text_to_image()}).references == 0
        assert read({"input": image_to_image([URL] * 3)}).references == 3

    @pytest.mark.parametrize("url", ["http://127.0.0.1:8/hook", "https://localhost/x", "http://[::1]:8/hook"])
    def test_of_its_delivery(self, url: str) -> None:
        body = {"callback_url": url, "input": text_to_image()}
        assert read(body).callback_url is None
        assert read({"request_type": "callback", **body}).callback_url == url


class TestARefusalIsShort:
    @pytest.mark.parametrize(
        ("value", "shown"),
        [("x" * 500, f'"{"x" * 59}...'), ([URL] * 99, "a list"), ({"a": URL}, "an object")],
    )
    def test_whatever_was_sent(self, value: Any, shown: str) -> None:
        with pytest.raises(RefusedCall) as refused:
            read({"input": text_to_image(resolution=value)})
        assert str(refused.value).endswith(f"must be one of 2K, 4K, not {shown}")


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
        except RefusedCall as error:
            refused = error
        else:
            refused = RefusedCall(400, "")
        assert refused.code == 400
        assert refused.error.isascii()
