"""Sets text in a box: the right font, the largest size that fits, line breaks, an ellipsis if none does."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from PIL import ImageFont

from airflow_provider_seedream.apixo.model import Size

LINE_HEIGHT = 1.32
"""Distance of two baselines, in font sizes."""

_SYSTEM_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansSC-Regular.otf",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "Arial Unicode.ttf",
    "DejaVuSans.ttf",
)
"""Fonts with wider coverage than Pillow's own, tried where that lacks a character of the text."""

_TOKEN = re.compile(
    r"[\u2e80-\ua4cf\uac00-\ud7a3\uf900-\uffef]|[^\s\u2e80-\ua4cf\uac00-\ud7a3\uf900-\uffef]{1,40}\s*"
)
"""What is kept on one line: a word (long ones in pieces), or one character of a script without spaces."""

Token = tuple[str, float]
"""A piece of text and its width in font sizes."""

_NO_GLYPH = "\uffff"
_MEASURE = 32
"""Size in pixels at which text is measured; widths grow in proportion."""


@dataclass(frozen=True, slots=True)
class Lettering:
    """Lines of text and the font to draw them with."""

    font: ImageFont.FreeTypeFont
    lines: Sequence[str]

    @property
    def height(self) -> float:
        """Height of all lines, in pixels."""
        return len(self.lines) * self.font.size * LINE_HEIGHT


def fit(text: str, box: Size, largest: int, smallest: int) -> Lettering:
    """Set a text as large as its box allows.

    :param box: width and height in pixels.
    :param largest: upper limit of the font size, in pixels.
    :param smallest: lower limit; what does not fit at this size ends in an ellipsis.
    """
    text = "".join(c if c.isprintable() else " " for c in text)
    font = _choose_font(text)
    tokens = [(token, font.getlength(token) / font.size) for token in _TOKEN.findall(text)]
    size = largest
    while size > smallest and not _fits(tokens, box, size):
        size = max(smallest, int(size * 0.94))
    room = max(1, int(box[1] / (size * LINE_HEIGHT)))
    return Lettering(font.font_variant(size=size), _clip(_break_lines(tokens, box[0] / size), room))


def _fits(tokens: Sequence[Token], box: Size, size: int) -> bool:
    limit = box[0] / size
    whole = all(width <= limit for _, width in tokens)
    return whole and len(_break_lines(tokens, limit)) * size * LINE_HEIGHT <= box[1]


def _break_lines(tokens: Sequence[Token], limit: float) -> list[str]:
    """Put tokens on lines of at most ``limit`` font sizes."""
    lines, used = [""], 0.0
    for token, width in tokens:
        if lines[-1] and used + width > limit:
            lines.append("")
            used = 0.0
        lines[-1] += token
        used += width
    return [line.rstrip() for line in lines]


def _clip(lines: list[str], room: int) -> list[str]:
    return lines if len(lines) <= room else [*lines[: room - 1], lines[room - 1][:-2].rstrip() + "\u2026"]


def _choose_font(text: str) -> ImageFont.FreeTypeFont:
    """Return the first font that draws the whole text, else the one that lacks fewest of its characters."""
    missing = _find_missing(_load_bundled_font(), frozenset(text))
    if not missing:
        return _load_bundled_font()
    fonts = (_load_bundled_font(), *_load_system_fonts())
    return min(fonts, key=lambda font: len(_find_missing(font, missing)))


def _find_missing(font: ImageFont.FreeTypeFont, characters: frozenset[str]) -> frozenset[str]:
    """Return the characters for which the font has only its empty box."""
    empty = bytes(font.getmask(_NO_GLYPH))
    return frozenset(c for c in characters if bytes(font.getmask(c)) == empty)


@cache
def _load_bundled_font() -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size=_MEASURE)
    assert isinstance(font, ImageFont.FreeTypeFont)  # every wheel of Pillow has FreeType
    return font


@cache
def _load_system_fonts() -> tuple[ImageFont.FreeTypeFont, ...]:
    found = []
    for name in _SYSTEM_FONTS:
        with contextlib.suppress(OSError):
            found.append(ImageFont.truetype(name, _MEASURE))
    return tuple(found)
