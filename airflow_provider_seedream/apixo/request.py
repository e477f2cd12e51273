"""What is sent: a validated request, its body, its fingerprint and the most that it can cost."""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from os import PathLike
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_seedream.apixo.account import SHORTEST_SECRET
from airflow_provider_seedream.apixo.addresses import is_loopback, is_public, without_secrets
from airflow_provider_seedream.apixo.errors import InvalidRequestError, Problem
from airflow_provider_seedream.apixo.model import (
    DEFAULT_MODEL,
    MODELS,
    MODES,
    PROVIDERS,
    REQUEST_TYPES,
    SEEDREAM_4_5,
    Model,
    Size,
)

TEXT_TO_IMAGE, IMAGE_TO_IMAGE = MODES
ASYNC, CALLBACK = REQUEST_TYPES
NO_RATIO = "none"
"""``aspect_ratio`` that leaves the shape to the provider, for a template, which must render to something."""
_SHOWN = 80


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
        problems = list(find_problems({name: getattr(self, name) for name in self.__slots__}))
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

    def max_cost(self, price_per_image: Decimal) -> Decimal:
        """The pre-charge in USD: every requested image at the given unit price."""
        return self.max_images * price_per_image


# --- rules: each yields a problem per broken rule ----------------------------------------------------


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
            if _is_digits(value)
            else "Choose a number in that range."
        )
        yield Problem("max_images", shown(value), f"must be a whole number {model.images_per_task}", remedy)


def _is_digits(value: Any) -> bool:
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


_UPLOAD = (
    "Put the image where the API can fetch it and pass that https URL (a presigned S3 or GCS URL will do)."
)


def _check_public_url(field: str, url: Any) -> Iterator[Problem]:
    """A public https URL; http is left to loopback, where the sandbox lives."""
    if isinstance(url, PathLike):
        yield Problem(field, shown(url), "is a local path; the API fetches public URLs only", _UPLOAD)
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
            field, shown(url), "is a local path or no URL; the API fetches public URLs only", _UPLOAD
        )
    elif parts.scheme not in ("http", "https") or not host:
        yield Problem(
            field, shown(url), f"has the scheme {parts.scheme}://; the API fetches https only", _UPLOAD
        )
    elif is_loopback(host):
        return
    elif parts.scheme == "http":
        yield Problem(
            field, shown(url), "is not https", "Serve it over https; " + _UPLOAD[0].lower() + _UPLOAD[1:]
        )
    elif not is_public(host):
        yield Problem(field, shown(url), "is a private address that the API cannot reach", _UPLOAD)


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


def check_reachable(request: GenerateRequest, base_url: str) -> None:
    """Refuse loopback URLs unless the API itself runs on this machine (the sandbox).

    :raises InvalidRequestError: the real API could never fetch such a URL.
    """
    if is_loopback(urlsplit(base_url).hostname):
        return
    urls = {f"image_urls[{position}]": url for position, url in enumerate(request.image_urls)}
    if request.callback_url:
        urls["callback_url"] = request.callback_url
    local = {field: url for field, url in urls.items() if is_loopback(urlsplit(url).hostname)}
    if local:
        rule = "is an address of this machine, which the API cannot reach"
        raise InvalidRequestError([Problem(field, shown(url), rule, _UPLOAD) for field, url in local.items()])


def check_holds_no_key(request: GenerateRequest, api_key: str) -> None:
    """Refuse a request whose content holds the API key, such as from a template that reads the connection.

    :raises InvalidRequestError: the key would end up in the vendor's records, XCom and manifests.
    """
    if len(api_key) >= SHORTEST_SECRET and api_key in json.dumps(request.input, ensure_ascii=False):
        remedy = "Remove the template that reads the connection, and replace the key if others saw it."
        raise InvalidRequestError([Problem("prompt", "(hidden)", "the request holds the API key", remedy)])


def shown(value: Any) -> str:
    """A value for an error message: short, and without the secrets of a signed URL."""
    text = repr(without_secrets(value) if isinstance(value, str) and "://" in value else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"


# --- rendered templates ------------------------------------------------------------------------------


def read_rendered(fields: Mapping[str, Any], templated: frozenset[str]) -> dict[str, Any]:
    """Turn what templates rendered to into the types that the fields have.

    A template renders to text: ``"3"`` stands for the number, ``"['https://...']"`` for the list.

    :param fields: values after rendering.
    :param templated: fields that held a template; only these are converted.
    :raises InvalidRequestError: a template rendered to nothing.
    """
    read = {name: _from_text(name, value) if name in templated else value for name, value in fields.items()}
    if problems := list(_find_nothing(read, templated)):
        raise InvalidRequestError(problems)
    return read


def _find_nothing(fields: Mapping[str, Any], templated: frozenset[str]) -> Iterator[Problem]:
    rule = "the template rendered to nothing"
    remedy = "Check the variable, param or XCom that it reads."
    for name in sorted(templated & fields.keys()):
        value = fields[name]
        if is_nothing(value):
            yield Problem(name, shown(value), rule, remedy)
        elif name == "image_urls" and _is_empty(value) and fields.get("mode") != TEXT_TO_IMAGE:
            # References that got lost must not silently buy another kind of picture.
            choice = f"{remedy} Give mode={TEXT_TO_IMAGE!r} where there may be none."
            yield Problem(name, shown(value), f"{rule}, an empty list", choice)


def is_nothing(rendered: Any) -> bool:
    """Whether a template rendered to nothing; what was missing renders to ``None`` or to its text."""
    return rendered is None or (isinstance(rendered, str) and rendered.strip() in ("", "None"))


def _is_empty(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 0


def _from_text(name: str, value: Any) -> Any:
    if name == "max_images" and _is_digits(value):
        return int(value)
    if name == "image_urls" and isinstance(value, str) and value.strip().startswith("["):
        return value_from_text(value)
    if name == "prompt" and isinstance(value, int | float):
        # render_template_as_native_obj turns a prompt such as "1984" into a number.
        return str(value)
    return value


def value_from_text(text: str) -> Any:
    """The list or dict that a template rendered as text, in JSON or Python notation; else the text itself."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text
