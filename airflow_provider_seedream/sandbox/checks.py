"""The vendor page's rules on the body of a generateTask request, as one pure function."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from airflow_provider_seedream.apixo.model import MODES, PROVIDERS, REQUEST_TYPES, Model, Range, Size
from airflow_provider_seedream.sandbox.envelope import Refusal

Fields = Mapping[str, Any]
Default = TypeVar("Default", str, None)


@dataclass(frozen=True, slots=True)
class Order:
    """An accepted request body.

    :param references: number of reference images, 0 for text-to-image.
    :param aspect_ratio: ``None`` leaves the shape to the provider.
    :param callback_url: where the result is delivered, ``None`` for polling.
    """

    model: Model
    mode: str
    prompt: str
    references: int
    max_images: int
    resolution: str
    aspect_ratio: str | None
    sequential: str
    callback_url: str | None

    @property
    def size(self) -> Size:
        """Width and height in pixels; without a ratio the provider of this sandbox draws a square."""
        return self.model.resolutions[self.resolution].sizes[self.aspect_ratio or "1:1"]


def read_order(raw: bytes, model: Model) -> Order:
    """Check a request body against every rule of the page.

    :param raw: the body as received.
    :raises Refusal: 400, with the first rule that it breaks.
    """
    body = _object(_parsed(raw), "request body")
    callback_url = _delivery(body)
    _option(body, "provider", PROVIDERS, default="auto")
    fields = _object(_required(body, "input"), "input")
    mode = _choice(fields, "input.mode", MODES)
    return Order(
        model=model,
        mode=mode,
        prompt=_text(fields, "input.prompt", model.prompt_length),
        references=_references(fields, mode, model.reference_images),
        max_images=_count(fields, "input.max_images", model.images_per_task),
        resolution=_option(fields, "input.resolution", tuple(model.resolutions), default="2K"),
        aspect_ratio=_option(fields, "input.aspect_ratio", model.aspect_ratios, default=None),
        sequential=_option(
            fields, "input.sequential_image_generation", model.sequential_modes, default="disabled"
        ),
        callback_url=callback_url,
    )


def _parsed(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise Refusal(400, "The body is not valid JSON") from None


def _object(value: Any, name: str) -> Fields:
    if not isinstance(value, dict):
        raise Refusal(400, f"Invalid type: {name} must be an object")
    return value


def _required(fields: Fields, name: str) -> Any:
    if _key(name) not in fields:
        raise Refusal(400, f"Missing required field: {name}")
    return fields[_key(name)]


def _key(name: str) -> str:
    return name.rpartition(".")[2]


def _option(fields: Fields, name: str, allowed: Sequence[str], default: Default) -> str | Default:
    return _choice(fields, name, allowed) if _key(name) in fields else default


def _choice(fields: Fields, name: str, allowed: Sequence[str]) -> str:
    value = _required(fields, name)
    if not isinstance(value, str) or value not in allowed:
        raise Refusal(400, f"Invalid value: {name} must be one of {', '.join(allowed)}, not {_shown(value)}")
    return value


def _text(fields: Fields, name: str, length: Range) -> str:
    value = _required(fields, name)
    if not isinstance(value, str):
        raise Refusal(400, f"Invalid type: {name} must be a string, not {_shown(value)}")
    if len(value) not in length:
        raise Refusal(400, f"Invalid length: {name} must have {length} characters, not {len(value)}")
    return value


def _count(fields: Fields, name: str, allowed: Range) -> int:
    value = _required(fields, name)
    if type(value) is not int:  # bool is an int to Python, not to JSON
        raise Refusal(400, f"Invalid type: {name} must be an integer, not {_shown(value)}")
    if value not in allowed:
        raise Refusal(400, f"Invalid value: {name} must be {allowed}, not {_shown(value)}")
    return value


def _references(fields: Fields, mode: str, allowed: Range) -> int:
    name = "input.image_urls"
    if mode == "text-to-image":
        if "image_urls" in fields:
            raise Refusal(400, f"Invalid field: {name} is not allowed for text-to-image")
        return 0
    urls = _required(fields, name)
    if not isinstance(urls, list):
        raise Refusal(400, f"Invalid type: {name} must be a list of URLs, not {_shown(urls)}")
    if len(urls) not in allowed:
        raise Refusal(400, f"Invalid length: {name} must have {allowed} URLs, not {len(urls)}")
    for index, url in enumerate(urls):
        if _url(url) is None:
            raise Refusal(400, f"Invalid value: {name}[{index}] must be an http(s) URL, not {_shown(url)}")
    return len(urls)


def _delivery(body: Fields) -> str | None:
    if _option(body, "request_type", REQUEST_TYPES, default="async") == "async":
        return None
    value = _required(body, "callback_url")
    url = _url(value)
    if url is None or (url.scheme == "http" and not _is_loopback(url)):
        raise Refusal(400, f"Invalid value: callback_url must be a public HTTPS URL, not {_shown(value)}")
    if not _is_loopback(url):
        raise Refusal(400, "The sandbox only calls loopback: callback_url must be on localhost or 127.0.0.1")
    return str(value)


def _url(value: Any) -> SplitResult | None:
    """The parts of an http(s) URL with a host, ``None`` for anything else."""
    if not isinstance(value, str) or any(not c.isprintable() or c == " " for c in value):
        return None
    try:
        url = urlsplit(value)
        usable = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return None
    return url if usable else None


def _is_loopback(url: SplitResult) -> bool:
    host = url.hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _shown(value: Any) -> str:
    """A value as it stands in an error: short, plain ASCII whatever was sent, and without its contents."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
