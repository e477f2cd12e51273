"""Checks a request's fields against the vendor's page: one function a field, a problem a broken rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_seedream.apixo.hosts import is_loopback, is_public
from airflow_provider_seedream.apixo.model import (
    MODELS,
    MODES,
    PROVIDERS,
    REQUEST_TYPES,
    SEEDREAM_4_5,
    Model,
)
from airflow_provider_seedream.apixo.text import without_secrets
from airflow_provider_seedream.errors import Problem

TEXT_TO_IMAGE, IMAGE_TO_IMAGE = MODES

ASYNC, CALLBACK = REQUEST_TYPES

NO_RATIO = "none"
"""``aspect_ratio`` that leaves the shape to the provider, for a template, which must render to something."""

_SHOWN = 80


def find_problems(fields: Mapping[str, Any], unknown: frozenset[str] = frozenset()) -> Iterator[Problem]:
    """Check request fields against the vendor's page.

    :param fields: values by field name.
    :param unknown: fields whose value is not known yet (unrendered templates); rules that need them are
        left for later.
    """
    model = _model_for_rules(fields["model"])
    for name, check in _FIELD_RULES.items():
        if name in fields and name not in unknown:
            yield from check(fields[name], model)
    if not unknown & {"mode", "image_urls"}:
        yield from _check_mode_and_references(fields.get("mode"), fields.get("image_urls"))
    if not unknown & {"request_type", "callback_url"}:
        yield from _check_delivery(fields.get("request_type", ASYNC), fields.get("callback_url"))


def _model_for_rules(model_id: Any) -> Model:
    """An unknown model is a problem of its own; the other fields then follow the default model's rules."""
    return MODELS.get(model_id, SEEDREAM_4_5) if isinstance(model_id, str) else SEEDREAM_4_5


def _check_prompt(value: Any, model: Model) -> Iterator[Problem]:
    rule = f"must be text of {model.prompt_length} characters"
    if not isinstance(value, str):
        yield Problem("prompt", shown(value), rule, "Pass a string.")
    elif not value.strip():
        yield Problem("prompt", shown(value), f"is empty; it {rule}", "Say what to draw.")
    elif len(value) not in model.prompt_length:
        yield Problem("prompt", f"{len(value)} characters", rule, "Shorten the prompt.")
    elif not _is_encodable(value):
        yield Problem("prompt", shown(value), "holds characters that UTF-8 cannot carry", "Remove them.")


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_max_images(value: Any, model: Model) -> Iterator[Problem]:
    if type(value) is not int or value not in model.images_per_task:
        remedy = (
            f"Write a plain number such as max_images={value}."
            if is_digits(value)
            else "Choose a number in that range."
        )
        yield Problem("max_images", shown(value), f"must be a whole number {model.images_per_task}", remedy)


def is_digits(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,9}\s*", value) is not None


def _one_of(field: str, choices: Callable[[Model], Sequence[str]], optional: bool = False) -> _Rule:
    def check(value: Any, model: Model) -> Iterator[Problem]:
        allowed = choices(model)
        if value is None and optional:
            return
        if not isinstance(value, str) or value not in allowed:
            omit = f", or leave {field} out" if optional else ""
            remedy = f"Choose one of {', '.join(allowed)}{omit}."
            yield Problem(field, shown(value), "is not a value that the API knows", remedy)

    return check


def _check_image_urls(value: Any, model: Model) -> Iterator[Problem]:
    if value is None:
        return
    if isinstance(value, str):
        remedy = "Put it into a list: image_urls=[...]."
        yield Problem("image_urls", shown(value), "must be a list of URLs, not a bare string", remedy)
        return
    if not isinstance(value, Sequence):
        yield Problem("image_urls", shown(value), "must be a list of URLs", "Pass a list of https URLs.")
        return
    if len(value) > model.reference_images.high:
        rule = f"at most {model.reference_images.high} reference images are allowed"
        yield Problem("image_urls", f"{len(value)} URLs", rule, "Pass fewer.")
    for position, url in enumerate(value):
        yield from _check_public_url(f"image_urls[{position}]", url)


UPLOAD_REMEDY = (
    "Put the image where the API can fetch it and pass that https URL (a presigned S3 or GCS URL will do)."
)


def _check_public_url(field: str, url: Any) -> Iterator[Problem]:
    """A public https URL; http is left to loopback, where the sandbox lives."""
    if isinstance(url, PathLike):
        yield Problem(field, shown(url), "is a local path; the API fetches public URLs only", UPLOAD_REMEDY)
        return
    if not isinstance(url, str) or not url.strip():
        yield Problem(
            field, shown(url), "must be a public https URL, and is empty or no string", "Pass a URL."
        )
        return
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        yield Problem(field, shown(url), "is not a readable URL", "Correct the URL.")
        return
    if re.search(r"[\s\x00-\x1f]", url):
        yield Problem(field, shown(url), "holds white space", "Escape or remove it.")
    elif "://" not in url:
        yield Problem(
            field, shown(url), "is a local path or no URL; the API fetches public URLs only", UPLOAD_REMEDY
        )
    elif parts.scheme not in ("http", "https") or not host:
        yield Problem(
            field, shown(url), f"has the scheme {parts.scheme}://; the API fetches https only", UPLOAD_REMEDY
        )
    elif is_loopback(host):
        return
    elif parts.scheme == "http":
        yield Problem(
            field,
            shown(url),
            "is not https",
            f"Serve it over https. {UPLOAD_REMEDY}",
        )
    elif not is_public(host):
        yield Problem(field, shown(url), "is a private address that the API cannot reach", UPLOAD_REMEDY)


def _check_callback_url(value: Any, model: Model) -> Iterator[Problem]:
    if value is not None:
        yield from _check_public_url("callback_url", value)


def _check_mode_and_references(mode: Any, image_urls: Any) -> Iterator[Problem]:
    if mode == TEXT_TO_IMAGE and image_urls:
        remedy = f"Remove image_urls, or use mode={IMAGE_TO_IMAGE!r}."
        yield Problem("mode", shown(mode), "takes no reference images", remedy)
    if mode == IMAGE_TO_IMAGE and not image_urls:
        remedy = f"Pass 1-14 URLs in image_urls, or use mode={TEXT_TO_IMAGE!r}."
        yield Problem("image_urls", shown(image_urls), "is empty, but mode is image-to-image", remedy)


def _check_delivery(request_type: Any, callback_url: Any) -> Iterator[Problem]:
    if request_type == CALLBACK and callback_url is None:
        yield Problem(
            "callback_url", "None", "is required for request_type='callback'", "Pass a public https URL."
        )
    if request_type == ASYNC and callback_url is not None:
        remedy = "Remove it, or use request_type='callback'."
        yield Problem("callback_url", shown(callback_url), "is used only for request_type='callback'", remedy)


_Rule = Callable[[Any, Model], Iterator[Problem]]

_FIELD_RULES: Mapping[str, _Rule] = {
    "model": _one_of("model", lambda model: tuple(MODELS)),
    "mode": _one_of("mode", lambda model: MODES, optional=True),
    "prompt": _check_prompt,
    "image_urls": _check_image_urls,
    "max_images": _check_max_images,
    "resolution": _one_of("resolution", lambda model: tuple(model.resolutions)),
    "aspect_ratio": _one_of("aspect_ratio", lambda model: (*model.aspect_ratios, NO_RATIO), optional=True),
    "sequential_image_generation": _one_of(
        "sequential_image_generation", lambda model: model.sequential_modes
    ),
    "provider": _one_of("provider", lambda model: PROVIDERS, optional=True),
    "request_type": _one_of("request_type", lambda model: REQUEST_TYPES),
    "callback_url": _check_callback_url,
}


def shown(value: Any) -> str:
    """A value for an error message: short, and without the secrets of a signed URL."""
    text = repr(without_secrets(value) if isinstance(value, str) and "://" in value else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
