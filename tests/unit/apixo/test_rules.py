"""Every rule of the vendor's page is checked, and a broken one names field, value, rule and remedy."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from airflow_provider_seedream.apixo.request import GenerateRequest
from airflow_provider_seedream.apixo.rules import find_problems
from airflow_provider_seedream.errors import InvalidRequestError

REFERENCE = "https://example.com/reference.png"


def refusal(**fields: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        GenerateRequest(**{"prompt": "a fox", **fields})
    return caught.value


class TestEveryBrokenRuleNamesFieldValueRuleAndRemedy:
    @pytest.mark.parametrize(
        ("fields", "field", "says"),
        [
            ({"prompt": ""}, "prompt", "empty"),
            ({"prompt": "  \n"}, "prompt", "empty"),
            ({"prompt": "x" * 5001}, "prompt", "5001 characters"),
            ({"prompt": 7}, "prompt", "Pass a string"),
            ({"prompt": None}, "prompt", "Pass a string"),
            ({"prompt": "a \ud800 fox"}, "prompt", "UTF-8"),
            ({"max_images": 0}, "max_images", "1-10"),
            ({"max_images": 11}, "max_images", "1-10"),
            ({"max_images": "3"}, "max_images", "max_images=3"),
            ({"max_images": True}, "max_images", "whole number"),
            ({"max_images": 2.0}, "max_images", "whole number"),
            ({"max_images": None}, "max_images", "whole number"),
            ({"resolution": "8K"}, "resolution", "2K, 4K"),
            ({"resolution": None}, "resolution", "2K, 4K"),
            ({"aspect_ratio": "5:4"}, "aspect_ratio", "1:1, 2:3, 3:2, 3:4, 4:3, 9:16, 16:9, 21:9"),
            ({"aspect_ratio": 1.5}, "aspect_ratio", "21:9"),
            ({"sequential_image_generation": "on"}, "sequential_image_generation", "disabled, auto"),
            ({"sequential_image_generation": True}, "sequential_image_generation", "disabled, auto"),
            ({"model": "seedream-9"}, "model", "seedream-4-5"),
            ({"model": ["x"]}, "model", "seedream-4-5"),
            ({"provider": "cheap"}, "provider", "auto, value, official"),
            ({"mode": "video"}, "mode", "text-to-image, image-to-image"),
            ({"image_urls": REFERENCE}, "image_urls", "bare string"),
            ({"image_urls": {"a": 1}}, "image_urls", "list"),
            ({"image_urls": [REFERENCE] * 15}, "image_urls", "at most 14"),
            ({"image_urls": ["/data/fox.png"]}, "image_urls[0]", "presigned"),
            ({"image_urls": ["C:\\fox.png"]}, "image_urls[0]", "presigned"),
            ({"image_urls": [REFERENCE, "http://example.com/a.png"]}, "image_urls[1]", "not https"),
            ({"image_urls": ["s3://bucket/a.png"]}, "image_urls[0]", "presigned"),
            ({"image_urls": ["file:///a.png"]}, "image_urls[0]", "presigned"),
            ({"image_urls": ["https://10.0.0.7/a.png"]}, "image_urls[0]", "private"),
            ({"image_urls": ["https://[fe80::1]/a.png"]}, "image_urls[0]", "private"),
            ({"image_urls": ["https://[broken/a.png"]}, "image_urls[0]", "readable"),
            ({"image_urls": ["https://example.com/a b.png"]}, "image_urls[0]", "white space"),
            ({"image_urls": [""]}, "image_urls[0]", "empty"),
            ({"image_urls": [None]}, "image_urls[0]", "empty"),
            ({"mode": "text-to-image", "image_urls": [REFERENCE]}, "mode", "Remove image_urls"),
            ({"mode": "image-to-image"}, "image_urls", "text-to-image"),
            ({"request_type": "webhook"}, "request_type", "async, callback"),
            ({"request_type": "callback"}, "callback_url", "required"),
            ({"callback_url": "https://example.com/x"}, "callback_url", "request_type='callback'"),
            (
                {"request_type": "callback", "callback_url": "http://example.com/x"},
                "callback_url",
                "not https",
            ),
        ],
    )
    def test_it_is_refused(self, fields: dict[str, Any], field: str, says: str) -> None:
        error = refusal(**fields)
        assert [problem.field for problem in error.problems] == [field]
        assert says in str(error)
        assert error.problems[0].value
        assert error.problems[0].remedy
        assert not error.retryable

    def test_all_broken_rules_are_told_at_once(self) -> None:
        fields = [problem.field for problem in refusal(max_images=0, resolution="1K").problems]
        assert fields == ["max_images", "resolution"]

    def test_a_long_value_is_shortened(self) -> None:
        assert len(str(refusal(resolution="x" * 10_000))) < 500

    def test_the_secret_of_a_signed_url_is_not_repeated(self) -> None:
        error = refusal(image_urls=["http://user:pw@example.com/a.png?X-Amz-Signature=s3cret"])
        assert "s3cret" not in str(error)
        assert "pw" not in str(error)


class TestFieldsThatAreNotKnownYet:
    FIELDS: ClassVar = {
        "model": "seedream-4-5",
        "prompt": "{{ x }}",
        "mode": "image-to-image",
        "image_urls": "{{ y }}",
    }

    def test_unrendered_fields_and_rules_that_need_them_wait(self) -> None:
        assert list(find_problems(self.FIELDS, frozenset({"prompt", "image_urls"}))) == []

    def test_known_fields_are_checked_all_the_same(self) -> None:
        fields = {**self.FIELDS, "resolution": "3K"}
        problems = find_problems(fields, frozenset({"prompt", "image_urls"}))
        assert [problem.field for problem in problems] == ["resolution"]
