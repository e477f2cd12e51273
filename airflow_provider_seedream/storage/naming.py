"""Names a task's images and its manifest, by a template that cannot leave the destination."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from string import Formatter

from airflow_provider_seedream.apixo.rules import show_value
from airflow_provider_seedream.errors import InvalidRequestError, Problem

DEFAULT_TEMPLATE = "{seedream_task_id}-{index}"

MAX_NAME_BYTES = 200
"""Longest folder or file name; file systems allow 255 bytes, and a temporary name is longer by 22."""

_MAX_ID_CHARACTERS = 64
_LONGEST_ID = "x" * (_MAX_ID_CHARACTERS + 9)
_ANY_ID = rf"[A-Za-z0-9_-][A-Za-z0-9._-]{{0,{len(_LONGEST_ID) - 1}}}"
"""What :func:`make_safe_id` can return."""

FINGERPRINT_DIGITS = 16
"""Hex digits of a request's fingerprint that stand in a name."""

_SPECS = {"seedream_task_id": "", "fingerprint": "", "index": r"(0[1-4])?d?", "ext": ""}
"""The placeholders, each with the format specs that it allows."""

_LONGEST = {"seedream_task_id": _LONGEST_ID, "fingerprint": "f" * FINGERPRINT_DIGITS}
_NO_FINGERPRINT = "Use {seedream_task_id}; plain URLs, and tasks submitted elsewhere, have no fingerprint."

_EXT = ".{ext}"
_INDEX = re.compile(r"\{index[^}]*\}")
_IMAGE_ENDING = re.compile(r"\.(png|jpe?g|jfif|webp|gif|bmp|tiff?|avif|heic)$", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[\\*?\[\]{}<>|"#]|::')
"""What a shell, a glob, a URL or another operating system reads as more than a name."""

_Field = tuple[str | None, str | None, str | None]
"""A placeholder's name, format spec and conversion."""

_Broken = Iterator[tuple[str, str]]
"""Rules that are broken, each with its remedy."""


def check_template(template: object, images: int | None = None, *, has_fingerprint: bool = True) -> None:
    """Refuse a file name template that could fail, overwrite or escape later.

    Placeholders are ``{seedream_task_id}``, ``{fingerprint}`` (the first 16 hex digits of the request's
    fingerprint: the same for the same request), ``{index}`` (from 1, also as ``{index:02d}``) and ``{ext}``
    (only as the ending ``.{ext}``, which is added when it is missing). ``/`` makes sub-folders. A template
    that still holds Jinja cannot be judged: render it first.

    :param template: the template, relative to the destination.
    :param images: the number of images that may come; ``None`` where it is not known.
    :param has_fingerprint: whether the request behind the images is, or will be, known; plain URLs have none.
    :raises InvalidRequestError: with every broken rule.
    """
    broken = _find_broken_rules(template, images, has_fingerprint)
    problems = [Problem("filename", show_value(template), rule, remedy) for rule, remedy in broken]
    if problems:
        raise InvalidRequestError(problems)


def depends_on_task(template: str) -> bool:
    """Tell whether the names of a template that passes :func:`check_template` hold the taskId.

    If not, they are known before the purchase.
    """
    return "seedream_task_id" in _find_placeholders(template)


def make_manifest_patterns(template: str, fingerprint: str) -> list[re.Pattern[str]]:
    """Return what the manifests of all tasks match: one pattern for each part of the path."""
    anything = "\0"
    path = _make_manifest_stem(template).format(seedream_task_id=anything, fingerprint=_shorten(fingerprint))
    return [
        re.compile(_ANY_ID.join(map(re.escape, part.split(anything)))) for part in f"{path}.json".split("/")
    ]


@dataclass(frozen=True, slots=True)
class FileNames:
    """The names of one task's files, relative to the destination.

    :param template: see :func:`check_template`.
    :param seedream_task_id: the API's taskId; opaque, so it may hold anything.
    :param fingerprint: of the request, in hexadecimal; ``None`` where the request is not known.
    :raises InvalidRequestError: if the template breaks a rule, or needs a fingerprint and there is none.
    """

    template: str
    seedream_task_id: str
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        check_template(self.template, has_fingerprint=_is_fingerprint(self.fingerprint))

    def name_image(self, index: int, extension: str) -> str:
        """Return the name of one image.

        :param index: position in the task's result, from 1.
        :param extension: what the bytes are, such as ``png``.
        """
        return f"{self._fill(_cut_extension(self.template), index)}.{extension}"

    @property
    def manifest(self) -> str:
        """The name of the manifest: ``manifest`` stands where the images have their number, or at the end."""
        return self._fill(_make_manifest_stem(self.template)) + ".json"

    def list_possible(self, images: int) -> Iterator[str]:
        """Yield every name that a task of so many images may write, each image in each format."""
        # Only a running task needs it; DAG files import this module.
        from airflow_provider_seedream.storage.inspection import EXTENSIONS

        yield self.manifest
        for index in range(1, images + 1):
            yield from (self.name_image(index, extension) for extension in EXTENSIONS.values())

    def _fill(self, stem: str, index: int = 0) -> str:
        return stem.format(
            seedream_task_id=make_safe_id(self.seedream_task_id),
            fingerprint=_shorten(self.fingerprint or ""),
            index=index,
        )


def make_safe_id(seedream_task_id: str) -> str:
    """Return a taskId as part of a file name: itself, or shortened and told apart by a hash."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", seedream_task_id)[:_MAX_ID_CHARACTERS].lstrip(".")
    if safe and safe == seedream_task_id:
        return safe
    digest = hashlib.sha256(seedream_task_id.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{safe or 'task'}-{digest[:8]}"


def is_safe_name(name: str) -> bool:
    """Tell whether a file name, relative to its destination, keeps the rules of a template."""
    return not any(_find_broken_path(name))


def make_urls_id(urls: Sequence[str]) -> str:
    """Return what stands for the taskId where images come from plain URLs: the same for the same URLs."""
    digest = hashlib.sha256("\n".join(urls).encode()).hexdigest()
    return f"urls-{digest[:12]}"


def _is_fingerprint(value: object) -> bool:
    # A result record may come from anywhere, and what it holds becomes part of a path.
    return isinstance(value, str) and re.fullmatch(rf"[0-9a-f]{{{FINGERPRINT_DIGITS},}}", value) is not None


def _shorten(fingerprint: str) -> str:
    return fingerprint[:FINGERPRINT_DIGITS]


def _cut_extension(template: str) -> str:
    return template.removesuffix(_EXT)


def _make_manifest_stem(template: str) -> str:
    stem, replaced = _INDEX.subn("manifest", _cut_extension(template))
    return stem if replaced else f"{stem}-manifest"


def _find_placeholders(template: str) -> set[str | None]:
    return {name for _, name, _, _ in Formatter().parse(template)}


def _find_broken_rules(template: object, images: int | None, has_fingerprint: bool) -> _Broken:
    if not isinstance(template, str) or not template:
        yield "must be a non-empty string", f"The default is {DEFAULT_TEMPLATE!r}."
        return
    if "{{" in template or "}}" in template or "{%" in template:
        yield "holds a doubled brace", "Render Jinja first; other braces are for placeholders only."
        return
    try:
        fields = [parsed[1:] for parsed in Formatter().parse(template) if parsed[1] is not None]
    except ValueError as error:
        yield f"cannot be read ({error})", "Close every brace, and use braces for placeholders only."
        return
    broken = [*_find_broken_placeholders(template, fields), *_find_broken_ending(template)]
    yield from broken
    names = [name for name, _, _ in fields]
    if images is not None and images > 1 and "index" not in names:
        yield f"gives {images} images one name", "Add {index}."
    if "fingerprint" in names and not has_fingerprint:
        yield "needs the fingerprint of the request, which is not known of these images", _NO_FINGERPRINT
    if not broken:
        # The manifest's name is never shorter than an image's, and has the same folders.
        yield from _find_broken_path(_make_manifest_stem(template).format(**_LONGEST) + ".json")


def _find_broken_placeholders(template: str, fields: list[_Field]) -> _Broken:
    for name, spec, conversion in fields:
        if name not in _SPECS:
            known = ", ".join(f"{{{placeholder}}}" for placeholder in _SPECS)
            yield f"has the unknown placeholder {{{name}}}", f"Known are {known}."
        elif conversion or not re.fullmatch(_SPECS[name], spec or ""):
            yield (
                f"formats {{{name}}} in a way that is not allowed",
                "Only {index:02d} and the like are allowed.",
            )
    if [name for name, _, _ in fields].count("ext") > template.endswith(_EXT):
        yield "has {ext} elsewhere than at its end", f"Put {_EXT} last or leave it out."


def _find_broken_ending(template: str) -> _Broken:
    if ending := _IMAGE_ENDING.search(_cut_extension(template)):
        yield (
            f"ends in {ending[0]}, but the extension follows the bytes that come (PNG, JPEG or WebP)",
            "Leave the ending out.",
        )


def _find_broken_path(path: str) -> _Broken:
    if not path.isprintable() or (found := _FORBIDDEN.search(path)):
        what = f"the character {found[0]!r}" if path.isprintable() and found else "a control character"
        yield f"holds {what}", "Use letters, digits, spaces, '.', '_', '-' and '/'."
        return
    parts = path.split("/")
    if "" in parts or re.match(r"[A-Za-z]:", path):
        yield "must be relative to the destination, without empty parts", "Remove the leading or double '/'."
    if any(part.startswith(".") for part in parts):
        yield "has a part that begins with a dot", "'..' would leave the destination, and others are hidden."
    if any(part != part.strip() for part in parts):
        yield "has a part that begins or ends with a space", "Remove the space."
    if any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        yield f"can make a part longer than {MAX_NAME_BYTES} bytes", "Shorten it."
