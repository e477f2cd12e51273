"""A request that leaves this machine is one that the vendor's page allows."""

from __future__ import annotations

from decimal import Decimal

import pytest

from airflow_provider_seedream.apixo.request import GenerateRequest, check_holds_no_key, check_reachable
from airflow_provider_seedream.errors import InvalidRequestError
from airflow_provider_seedream.parameters import read_rendered

REFERENCE = "https://example.com/reference.png"


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
        assert request.compute_max_cost(Decimal("0.035")) == Decimal("0.105")


class TestSandboxAddresses:
    LOCAL = "http://127.0.0.1:8765/results/1.png"

    def test_a_loopback_reference_is_fine_for_an_api_on_this_machine(self) -> None:
        check_reachable(GenerateRequest(prompt="a", image_urls=[self.LOCAL]), api_is_local=True)

    def test_and_refused_for_the_real_api(self) -> None:
        request = GenerateRequest(prompt="a", image_urls=[REFERENCE, self.LOCAL])
        with pytest.raises(InvalidRequestError, match=r"image_urls\[1\]"):
            check_reachable(request, api_is_local=False)


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
