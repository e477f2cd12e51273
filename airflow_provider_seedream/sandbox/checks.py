"""Checks the body of a generateTask request by the vendor page's rules, as one pure function."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from airflow_provider_seedream.apixo.model import MODES, PROVIDERS, REQUEST_TYPES, Model, Range, Size
from airflow_provider_seedream.sandbox.envelope import RefusedCall

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
    :raises RefusedCall: 400, with the first rule that it breaks.
    """
    body = _read_object(_parse_json(raw), "request body")
    callback_url = _read_callback_url(body)
    _read_option(body, "provider", PROVIDERS, default="auto")
    fields = _read_object(_read_required(body, "input"), "input")
    mode = _read_choice(fields, "input.mode", MODES)
    return Order(
        model=model,
        mode=mode,
        prompt=_read_text(fields, "input.prompt", model.prompt_length),
        references=_count_references(fields, mode, model.reference_images),
        max_images=_read_count(fields, "input.max_images", model.images_per_task),
        resolution=_read_option(fields, "input.resolution", tuple(model.resolutions), default="2K"),
        aspect_ratio=_read_option(fields, "input.aspect_ratio", model.aspect_ratios, default=None),
        sequential=_read_option(
            fields, "input.sequential_image_generation", model.sequential_modes, default="disabled"
        ),
        callback_url=callback_url,
    )


def _parse_json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise RefusedCall(400, "The body is not valid JSON") from None


def _read_object(value: Any, name: str) -> Fields:
    if not isinstance(value, dict):
        raise RefusedCall(400, f"Invalid type: {name} must be an object")
    return value


def _read_required(fields: Fields, name: str) -> Any:
    if _find_key(name) not in fields:
        raise RefusedCall(400, f"Missing required field: {name}")
    return fields[_find_key(name)]


def _find_key(name: str) -> str:
    return name.rpartition(".")[2]


def _read_option(fields: Fields, name: str, allowed: Sequence[str], default: Default) -> str | Default:
    return _read_choice(fields, name, allowed) if _find_key(name) in fields else default


def _read_choice(fields: Fields, name: str, allowed: Sequence[str]) -> str:
    value = _read_required(fields, name)
    if not isinstance(value, str) or value not in allowed:
        raise RefusedCall(
            400, f"Invalid value: {name} must be one of {', '.join(allowed)}, not {_show(value)}"
        )
    return value


def _read_text(fields: Fields, name: str, length: Range) -> str:
    value = _read_required(fields, name)
    if not isinstance(value, str):
        raise RefusedCall(400, f"Invalid type: {name} must be a string, not {_show(value)}")
    if len(value) not in length:
        raise RefusedCall(400, f"Invalid length: {name} must have {length} characters, not {len(value)}")
    return value


def _read_count(fields: Fields, name: str, allowed: Range) -> int:
    value = _read_required(fields, name)
    if type(value) is not int:  # bool is an int to Python, not to JSON
        raise RefusedCall(400, f"Invalid type: {name} must be an integer, not {_show(value)}")
    if value not in allowed:
        raise RefusedCall(400, f"Invalid value: {name} must be {allowed}, not {_show(value)}")
    return value


def _count_references(fields: Fields, mode: str, allowed: Range) -> int:
    name = "input.image_urls"
    if mode == "text-to-image":
        if "image_urls" in fields:
            raise RefusedCall(400, f"Invalid field: {name} is not allowed for text-to-image")
        return 0
    urls = _read_required(fields, name)
    if not isinstance(urls, list):
        raise RefusedCall(400, f"Invalid type: {name} must be a list of URLs, not {_show(urls)}")
    if len(urls) not in allowed:
        raise RefusedCall(400, f"Invalid length: {name} must have {allowed} URLs, not {len(urls)}")
    for index, url in enumerate(urls):
        if _parse_url(url) is None:
            raise RefusedCall(400, f"Invalid value: {name}[{index}] must be an http(s) URL, not {_show(url)}")
    return len(urls)


def _read_callback_url(body: Fields) -> str | None:
    if _read_option(body, "request_type", REQUEST_TYPES, default="async") == "async":
        return None
    value = _read_required(body, "callback_url")
    url = _parse_url(value)
    if url is None or (url.scheme == "http" and not _is_loopback(url)):
        raise RefusedCall(400, f"Invalid value: callback_url must be a public HTTPS URL, not {_show(value)}")
    if not _is_loopback(url):
        raise RefusedCall(
            400, "The sandbox only calls loopback: callback_url must be on localhost or 127.0.0.1"
        )
    return str(value)


def _parse_url(value: Any) -> SplitResult | None:
    """Return the parts of an http(s) URL with a host, ``None`` for anything else."""
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


def _show(value: Any) -> str:
    """Return a value for an error: short, plain ASCII whatever was sent, and without its contents."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
