"""Makes what is sent: a validated request, its body, its fingerprint and the most that it can cost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from airflow_provider_seedream.apixo.account import SHORTEST_SECRET
from airflow_provider_seedream.apixo.hosts import leads_to_loopback
from airflow_provider_seedream.apixo.model import DEFAULT_MODEL, MODELS, Size
from airflow_provider_seedream.apixo.rules import (
    ASYNC,
    IMAGE_TO_IMAGE,
    NO_RATIO,
    TEXT_TO_IMAGE,
    UPLOAD_REMEDY,
    find_problems,
    show_value,
)
from airflow_provider_seedream.errors import InvalidRequestError, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """A request that the vendor's page allows; making an invalid one raises.

    :param prompt: what to draw; 1-5000 characters.
    :param image_urls: 1-14 public https URLs of reference images; none for text-to-image.
    :param max_images: number of images, 1-10; all are pre-charged.
    :param resolution: ``2K`` or ``4K``.
    :param aspect_ratio: one of the eight ratios; ``None``, or its word ``none``, leaves the shape to the
        provider.
    :param sequential_image_generation: ``disabled`` draws independent images; ``auto`` draws a connected
        set and may return fewer than ``max_images``.
    :param mode: ``text-to-image`` or ``image-to-image``; follows from ``image_urls`` when ``None``.
    :param model: the model's id.
    :param provider: routing ``auto``, ``value`` or ``official``; ``None`` leaves it to the key.
    :param request_type: ``async`` (poll) or ``callback``.
    :param callback_url: where APIXO posts the result; only with ``request_type="callback"``.
    :raises InvalidRequestError: names every broken rule with field, value and remedy.
    """

    prompt: str
    image_urls: Sequence[str] = ()
    max_images: int = 1
    resolution: str = "2K"
    aspect_ratio: str | None = None
    sequential_image_generation: str = "disabled"
    mode: str | None = None
    model: str = DEFAULT_MODEL
    provider: str | None = None
    request_type: str = ASYNC
    callback_url: str | None = None

    def __post_init__(self) -> None:
        problems = list(find_problems({field.name: getattr(self, field.name) for field in fields(self)}))
        if problems:
            raise InvalidRequestError(problems)
        urls = tuple(self.image_urls or ())
        object.__setattr__(self, "image_urls", urls)
        if self.aspect_ratio == NO_RATIO:
            object.__setattr__(self, "aspect_ratio", None)
        object.__setattr__(self, "mode", self.mode or (IMAGE_TO_IMAGE if urls else TEXT_TO_IMAGE))

    @property
    def input(self) -> dict[str, Any]:
        """The ``input`` object as it is sent: everything that shapes the images."""
        content: dict[str, Any] = {
            "mode": self.mode,
            "prompt": self.prompt,
            "max_images": self.max_images,
            "resolution": self.resolution,
            "sequential_image_generation": self.sequential_image_generation,
        }
        if self.image_urls:
            content["image_urls"] = list(self.image_urls)
        if self.aspect_ratio is not None:
            content["aspect_ratio"] = self.aspect_ratio
        return content

    @property
    def body(self) -> dict[str, Any]:
        """The JSON body of ``generateTask``."""
        options = {"callback_url": self.callback_url, "provider": self.provider}
        return {
            "request_type": self.request_type,
            **{name: value for name, value in options.items() if value is not None},
            "input": self.input,
        }

    @property
    def fingerprint(self) -> str:
        """Hex digest of what is bought; delivery (``request_type``, ``callback_url``) is not part of it."""
        bought = {"model": self.model, "provider": self.provider, "input": self.input}
        canonical = json.dumps(bought, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def expected_size(self) -> Size | None:
        """Exact size of every image in pixels, or ``None`` where no ratio was asked for."""
        if self.aspect_ratio is None:
            return None
        return MODELS[self.model].resolutions[self.resolution].sizes[self.aspect_ratio]

    def compute_max_cost(self, price_per_image: Decimal) -> Decimal:
        """Return the pre-charge in USD: every requested image at the given unit price."""
        return self.max_images * price_per_image


def check_reachable(request: GenerateRequest, *, api_is_local: bool) -> None:
    """Refuse loopback URLs unless the API itself runs on this machine (the sandbox).

    :raises InvalidRequestError: the real API could never fetch such a URL.
    """
    if api_is_local:
        return
    urls = {f"image_urls[{position}]": url for position, url in enumerate(request.image_urls)}
    if request.callback_url:
        urls["callback_url"] = request.callback_url
    local = {field: url for field, url in urls.items() if leads_to_loopback(url)}
    if local:
        rule = "is an address of this machine, which the API cannot reach"
        problems = [Problem(field, show_value(url), rule, UPLOAD_REMEDY) for field, url in local.items()]
        raise InvalidRequestError(problems)


def check_holds_no_key(request: GenerateRequest, api_key: str) -> None:
    """Refuse a request whose content holds the API key, such as from a template that reads the connection.

    :raises InvalidRequestError: the key would end up in the vendor's records, XCom and manifests.
    """
    if len(api_key) >= SHORTEST_SECRET and api_key in json.dumps(request.input, ensure_ascii=False):
        remedy = "Remove the template that reads the connection, and replace the key if others saw it."
        raise InvalidRequestError([Problem("prompt", "(hidden)", "the request holds the API key", remedy)])
