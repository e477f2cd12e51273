"""A request that leaves this machine is one that the vendor's page allows."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

import pytest

from airflow_provider_seedream.apixo.request import GenerateRequest, check_holds_no_key, check_reachable
from airflow_provider_seedream.apixo.rules import find_problems
from airflow_provider_seedream.errors import InvalidRequestError
from airflow_provider_seedream.parameters import read_rendered

REFERENCE = "https://example.com/reference.png"


def refusal(**fields: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        GenerateRequest(**{"prompt": "a fox", **fields})
    return caught.value


class TestWhatThePageAllows:
    @pytest.mark.parametrize("length", [1, 5000])
    def test_prompts_at_both_ends_of_the_range(self, length: int) -> None:
        assert len(GenerateRequest(prompt="x" * length).prompt) == length

    @pytest.mark.parametrize("count", [1, 10])
    def test_numbers_of_images_at_both_ends(self, count: int) -> None:
        assert GenerateRequest(prompt="a fox", max_images=count).input["max_images"] == count

    @pytest.mark.parametrize("count", [1, 14])
    def test_numbers_of_references_at_both_ends(self, count: int) -> None:
        request = GenerateRequest(prompt="a fox", image_urls=[REFERENCE] * count)
        assert (request.mode, len(request.input["image_urls"])) == ("image-to-image", count)

    def test_mode_follows_from_the_references(self) -> None:
        assert GenerateRequest(prompt="a fox").mode == "text-to-image"

    def test_no_ratio_is_sent_when_none_is_asked_for(self) -> None:
        request = GenerateRequest(prompt="a fox")
        assert "aspect_ratio" not in request.input
        assert request.expected_size is None

    def test_callback_with_its_address(self) -> None:
        request = GenerateRequest(
            prompt="a fox", request_type="callback", callback_url="https://hooks.example.com/x"
        )
        assert request.body["callback_url"] == "https://hooks.example.com/x"

    def test_size_and_cost_come_from_the_model_table(self) -> None:
        request = GenerateRequest(prompt="a fox", max_images=3, resolution="4K", aspect_ratio="21:9")
        assert request.expected_size == (6240, 2656)
        assert request.max_cost(Decimal("0.035")) == Decimal("0.105")


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


class TestSandboxAddresses:
    LOCAL = "http://127.0.0.1:8765/results/1.png"

    def test_a_loopback_reference_is_fine_for_an_api_on_this_machine(self) -> None:
        check_reachable(GenerateRequest(prompt="a", image_urls=[self.LOCAL]), "http://127.0.0.1:8765/api/v1")

    def test_and_refused_for_the_real_api(self) -> None:
        request = GenerateRequest(prompt="a", image_urls=[REFERENCE, self.LOCAL])
        with pytest.raises(InvalidRequestError, match=r"image_urls\[1\]"):
            check_reachable(request, "https://api.apixo.ai/api/v1")


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


class TestRenderedTemplates:
    @pytest.mark.parametrize(
        ("field", "rendered", "value"),
        [
            ("max_images", "3", 3),
            ("max_images", " 3\n", 3),
            ("max_images", 3, 3),
            ("prompt", 1984, "1984"),
            ("image_urls", f"['{REFERENCE}']", [REFERENCE]),
            ("image_urls", f'["{REFERENCE}"]', [REFERENCE]),
            ("image_urls", [REFERENCE], [REFERENCE]),
            ("max_images", "three", "three"),
        ],
    )
    def test_text_becomes_the_type_of_its_field(self, field: str, rendered: Any, value: Any) -> None:
        assert read_rendered({field: rendered}, frozenset({field})) == {field: value}

    def test_a_field_without_a_template_is_left_alone(self) -> None:
        assert read_rendered({"max_images": "3"}, frozenset()) == {"max_images": "3"}

    @pytest.mark.parametrize("nothing", ["", "  ", None, "None"])
    @pytest.mark.parametrize("field", ["prompt", "image_urls", "aspect_ratio", "max_images"])
    def test_a_template_that_renders_to_nothing_is_refused_by_name(self, field: str, nothing: Any) -> None:
        with pytest.raises(InvalidRequestError, match=f"{field}=.*rendered to nothing"):
            read_rendered({field: nothing}, frozenset({field}))


class TestARatioThatIsLeftToTheProvider:
    """A template must render to something, so there is a word for it."""

    def test_may_be_called_none(self) -> None:
        fields = read_rendered({"prompt": "a fox", "aspect_ratio": "none"}, frozenset({"aspect_ratio"}))
        assert GenerateRequest(**fields) == GenerateRequest(prompt="a fox")

    def test_is_the_same_purchase_by_either_name(self) -> None:
        named = GenerateRequest(prompt="a fox", aspect_ratio="none")
        assert named.fingerprint == GenerateRequest(prompt="a fox").fingerprint
        assert "aspect_ratio" not in named.input
        assert named.expected_size is None


class TestReferencesThatGotLost:
    """They must not silently buy a picture of another kind."""

    @pytest.mark.parametrize("rendered", ["[]", [], ()])
    def test_an_empty_list_is_refused(self, rendered: Any) -> None:
        with pytest.raises(InvalidRequestError, match="empty list.*Give mode='text-to-image'"):
            read_rendered({"image_urls": rendered, "mode": None}, frozenset({"image_urls"}))

    def test_unless_the_mode_says_that_there_may_be_none(self) -> None:
        fields = {"image_urls": "[]", "mode": "text-to-image"}
        assert read_rendered(fields, frozenset({"image_urls"})) == {"image_urls": [], "mode": "text-to-image"}


class TestTheKeyInAPrompt:
    def test_is_refused_and_not_repeated(self) -> None:
        request = GenerateRequest(prompt="a mug, sk-live-12345")
        with pytest.raises(InvalidRequestError, match="holds the API key") as caught:
            check_holds_no_key(request, "sk-live-12345")
        assert "sk-live" not in str(caught.value)

    def test_a_short_key_of_a_sandbox_may_be_part_of_a_word(self) -> None:
        check_holds_no_key(GenerateRequest(prompt="demolition"), "demo")


class TestFingerprint:
    def test_it_tells_requests_apart_by_what_is_bought(self) -> None:
        variants = [
            GenerateRequest(prompt="a fox"),
            GenerateRequest(prompt="a fox "),
            GenerateRequest(prompt="a fox", max_images=2),
            GenerateRequest(prompt="a fox", resolution="4K"),
            GenerateRequest(prompt="a fox", aspect_ratio="1:1"),
            GenerateRequest(prompt="a fox", image_urls=[REFERENCE]),
            GenerateRequest(prompt="a fox", provider="official"),
        ]
        assert len({request.fingerprint for request in variants}) == len(variants)

    def test_how_the_result_is_delivered_does_not_matter(self) -> None:
        callback = GenerateRequest(prompt="a", request_type="callback", callback_url="https://e.com/x")
        assert callback.fingerprint == GenerateRequest(prompt="a").fingerprint

    def test_it_stays_the_same_from_release_to_release(self) -> None:
        fingerprint = GenerateRequest(prompt="a fox", aspect_ratio="16:9").fingerprint
        assert fingerprint == "527f6a8e34823a4e0366af27d6a277954535bb0f5e49e567f9068265b98cf917"
