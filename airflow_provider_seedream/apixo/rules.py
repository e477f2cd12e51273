"""Checks a request's fields against the vendor's page: one function a field, a problem a broken rule."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

from airflow_provider_seedream.apixo.hosts import has_white_space, is_loopback, is_public, is_web, read_url
from airflow_provider_seedream.apixo.model import (
    MODELS,
    MODES,
    PROVIDERS,
    REQUEST_TYPES,
    SEEDREAM_4_5,
    Model,
)
from airflow_provider_seedream.apixo.text import hide_secrets
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
    model = _find_model(fields["model"])
    for name, check in _FIELD_RULES.items():
        if name in fields and name not in unknown:
            yield from check(fields[name], model)
    if not unknown & {"mode", "image_urls"}:
        yield from _check_mode_and_references(fields.get("mode"), fields.get("image_urls"))
    if not unknown & {"request_type", "callback_url"}:
        yield from _check_delivery(fields.get("request_type", ASYNC), fields.get("callback_url"))


def _find_model(model_id: Any) -> Model:
    """Return the model whose rules hold: the default one for an unknown model, a problem of its own."""
    return MODELS.get(model_id, SEEDREAM_4_5) if isinstance(model_id, str) else SEEDREAM_4_5


def _check_prompt(value: Any, model: Model) -> Iterator[Problem]:
    rule = f"must be text of {model.prompt_length} characters"
    if not isinstance(value, str):
        yield Problem("prompt", show_value(value), rule, "Pass a string.")
    elif not value.strip():
        yield Problem("prompt", show_value(value), f"is empty; it {rule}", "Say what to draw.")
    elif len(value) not in model.prompt_length:
        yield Problem("prompt", f"{len(value)} characters", rule, "Shorten the prompt.")
    elif not _is_encodable(value):
        yield Problem("prompt", show_value(value), "holds characters that UTF-8 cannot carry", "Remove them.")


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
        yield Problem(
            "max_images", show_value(value), f"must be a whole number {model.images_per_task}", remedy
        )


def is_digits(value: Any) -> bool:
    """True if a value is the text of a whole number."""
    return isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,9}\s*", value) is not None


def _make_choice_rule(field: str, choices: Callable[[Model], Sequence[str]], optional: bool = False) -> _Rule:
    def check(value: Any, model: Model) -> Iterator[Problem]:
        allowed = choices(model)
        if value is None and optional:
            return
        if not isinstance(value, str) or value not in allowed:
            omit = f", or leave {field} out" if optional else ""
            remedy = f"Choose one of {', '.join(allowed)}{omit}."
            yield Problem(field, show_value(value), "is not a value that the API knows", remedy)

    return check


def _check_image_urls(value: Any, model: Model) -> Iterator[Problem]:
    if value is None:
        return
    if isinstance(value, str):
        remedy = "Put it into a list: image_urls=[...]."
        yield Problem("image_urls", show_value(value), "must be a list of URLs, not a bare string", remedy)
        return
    if not isinstance(value, Sequence):
        yield Problem("image_urls", show_value(value), "must be a list of URLs", "Pass a list of https URLs.")
        return
    if len(value) > model.reference_images.high:
        rule = f"at most {model.reference_images.high} reference images are allowed"
        yield Problem("image_urls", f"{len(value)} URLs", rule, "Pass fewer.")
    for position, url in enumerate(value):
        yield from _check_public_url(f"image_urls[{position}]", url)


UPLOAD_REMEDY = (
    "Put the image where the API can fetch it and pass that https URL (a presigned S3 or GCS URL will do)."
)


def _check_public_url(field: str, value: Any) -> Iterator[Problem]:
    if broken := _find_broken_rule(value):
        yield Problem(field, show_value(value), *broken)


def _find_broken_rule(value: Any) -> tuple[str, str] | None:
    """Return the rule of public URLs that a value breaks, and the remedy; http is left to the sandbox."""
    if isinstance(value, PathLike):
        return "is a local path; the API fetches public URLs only", UPLOAD_REMEDY
    if not isinstance(value, str) or not value.strip():
        return "must be a public https URL, and is empty or no string", "Pass a URL."
    url = read_url(value)
    if url is None:
        return "is not a readable URL", "Correct the URL."
    if has_white_space(value):
        return "holds white space", "Escape or remove it."
    if "://" not in value:
        return "is a local path or no URL; the API fetches public URLs only", UPLOAD_REMEDY
    if not is_web(url):
        return f"has the scheme {url.scheme}://; the API fetches https only", UPLOAD_REMEDY
    if is_loopback(url.hostname):
        return None
    if url.scheme == "http":
        return "is not https", "Pass an https URL (of an image, a presigned S3 or GCS URL will do)."
    if not is_public(url.hostname):
        return "is a private address that the API cannot reach", UPLOAD_REMEDY
    return None


def _check_callback_url(value: Any, model: Model) -> Iterator[Problem]:
    if value is not None:
        yield from _check_public_url("callback_url", value)


def _check_mode_and_references(mode: Any, image_urls: Any) -> Iterator[Problem]:
    if mode == TEXT_TO_IMAGE and image_urls:
        remedy = f"Remove image_urls, or use mode={IMAGE_TO_IMAGE!r}."
        yield Problem("mode", show_value(mode), "takes no reference images", remedy)
    if mode == IMAGE_TO_IMAGE and not image_urls:
        remedy = f"Pass 1-14 URLs in image_urls, or use mode={TEXT_TO_IMAGE!r}."
        yield Problem("image_urls", show_value(image_urls), "is empty, but mode is image-to-image", remedy)


def _check_delivery(request_type: Any, callback_url: Any) -> Iterator[Problem]:
    if request_type == CALLBACK and callback_url is None:
        yield Problem(
            "callback_url", "None", "is required for request_type='callback'", "Pass a public https URL."
        )
    if request_type == ASYNC and callback_url is not None:
        remedy = "Remove it, or use request_type='callback'."
        yield Problem(
            "callback_url", show_value(callback_url), "is used only for request_type='callback'", remedy
        )


_Rule = Callable[[Any, Model], Iterator[Problem]]

_FIELD_RULES: Mapping[str, _Rule] = {
    "model": _make_choice_rule("model", lambda model: tuple(MODELS)),
    "mode": _make_choice_rule("mode", lambda model: MODES, optional=True),
    "prompt": _check_prompt,
    "image_urls": _check_image_urls,
    "max_images": _check_max_images,
    "resolution": _make_choice_rule("resolution", lambda model: tuple(model.resolutions)),
    "aspect_ratio": _make_choice_rule(
        "aspect_ratio", lambda model: (*model.aspect_ratios, NO_RATIO), optional=True
    ),
    "sequential_image_generation": _make_choice_rule(
        "sequential_image_generation", lambda model: model.sequential_modes
    ),
    "provider": _make_choice_rule("provider", lambda model: PROVIDERS, optional=True),
    "request_type": _make_choice_rule("request_type", lambda model: REQUEST_TYPES),
    "callback_url": _check_callback_url,
}


def show_value(value: Any) -> str:
    """Return a value for an error message: short, and without the secrets of a signed URL."""
    text = repr(hide_secrets(value) if isinstance(value, str) and "://" in value else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
