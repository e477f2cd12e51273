"""Reads the words in double brackets by which a prompt steers its task, such as ``[[deliver:2]]``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_seedream.sandbox.envelope import RefusedCall


@dataclass(frozen=True, slots=True)
class Directives:
    """The fate that a task is given.

    :param fail: the failCode with which the task fails; ``None`` lets it succeed.
    :param deliver: how many images are delivered; ``None`` for all that were asked for.
    :param state: the name shown for the state between pending and the end.
    :param seconds: generation time before the time scale; ``None`` for the resolution's typical time.
    :param expire: whether its result URLs answer 410 from the start.
    :param jpeg: whether its images are JPEG files under names that end in ``.png``.
    :param deliveries: how many callbacks are sent, all at the same moment; 0 loses it.
    :param callback_after: seconds from its end to its callback, before the time scale.
    :param failure_code: ``code`` of the callback that announces a failure; the vendor's pages differ.
    """

    fail: str | None = None
    deliver: int | None = None
    state: str = "processing"
    seconds: float | None = None
    expire: bool = False
    jpeg: bool = False
    deliveries: int = 1
    callback_after: float = 0
    failure_code: int = 500


_CODE = r"[A-Za-z0-9_. -]{1,64}"
_SECONDS = r"\d{1,6}(\.\d{1,6})?"
_CALLBACKS: Mapping[str, Mapping[str, Any]] = {
    "lost": {"deliveries": 0},
    "twice": {"deliveries": 2},
    "code200": {"failure_code": 200},
}
_Apply = Callable[[Directives, str], Directives]
_RULES: Mapping[str, tuple[str, str, _Apply]] = {
    "fail": (_CODE, "a failCode", lambda d, text: replace(d, fail=text)),
    "deliver": (r"\d{1,2}", "a count", lambda d, text: replace(d, fail=None, deliver=int(text))),
    "state": (_CODE, "a state's name", lambda d, text: replace(d, state=text)),
    "seconds": (_SECONDS, "seconds", lambda d, text: replace(d, seconds=float(text))),
    "expire": ("", "no value", lambda d, _: replace(d, expire=True)),
    "jpeg": ("", "no value", lambda d, _: replace(d, jpeg=True)),
    "callback": (
        "|".join(_CALLBACKS),
        " or ".join(_CALLBACKS),
        lambda d, text: replace(d, **_CALLBACKS[text]),
    ),
    "callback_after": (_SECONDS, "seconds", lambda d, text: replace(d, callback_after=float(text))),
}
"""Directive to the pattern of its value, the value in words, and its effect."""

_DIRECTIVE = re.compile(rf"\[\[({'|'.join(_RULES)})(?::([^\]]*))?\]\]")


def read_directives(prompt: str, defaults: Directives) -> Directives:
    """Read a prompt's directives over those of the command line; where two contradict, the last one counts.

    Other words in double brackets are plain text.

    :raises RefusedCall: 400 when the value of a directive cannot be read.
    """
    directives = defaults
    for name, value in _DIRECTIVE.findall(prompt):
        pattern, words, apply = _RULES[name]
        if not re.fullmatch(pattern, value):
            raise RefusedCall(400, f"Sandbox directive [[{name}]] takes {words}, not {value[:40]!a}")
        directives = apply(directives, value)
    return directives


def remove_directives(prompt: str) -> str:
    """Return the prompt as a person should see it in the image."""
    return " ".join(_DIRECTIVE.sub("", prompt).split()) or prompt
