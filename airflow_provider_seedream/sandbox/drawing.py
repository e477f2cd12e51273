"""Draws images as PNG or JPEG bytes: a background that belongs to the prompt, and the prompt on it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Literal

from PIL import Image, ImageDraw

from airflow_provider_seedream.apixo.model import Size
from airflow_provider_seedream.sandbox import lettering, scenes

_RLE = 3
"""zlib's run-length strategy: as small as the default for flat colours, in half the time."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """The contents of an image; the same drawing is always the same bytes.

    :param size: width and height in pixels.
    :param title: the text to be read from afar; its hash decides the background.
    :param notes: small print below it.
    :param badge: a few characters in the upper corner, or none.
    :param number: number of the drawing among those of the same title, from 1.
    """

    size: Size
    title: str
    notes: str
    number: int
    badge: str = ""
    format: Literal["PNG", "JPEG"] = "PNG"


def draw(drawing: Drawing) -> bytes:
    """Return a drawing as a file. Takes tenths of a second of CPU, most of it outside Python's lock."""
    image = scenes.paint(drawing.size, ascii(drawing.title), drawing.number)
    _draw_caption(image, drawing)
    if drawing.badge:
        _draw_badge(image, drawing.badge)
    return _encode(image, drawing.format)


def _measure_unit(size: Size) -> float:
    """Return the measure of all that is written: a hundredth of the width, less where the image is flat."""
    return min(size[0], size[1] * 1.4) / 100


def _draw_caption(image: Image.Image, drawing: Drawing) -> None:
    """Draw a dark card over the lower part, as high as the text needs, with title and notes."""
    width, height = drawing.size
    unit = _measure_unit(drawing.size)
    margin, pad = round(4 * unit), round(4.5 * unit)
    inner = width - 2 * (margin + pad)
    title = lettering.fit(drawing.title, (inner, round(height * 0.4)), round(9 * unit), round(2 * unit))
    notes = lettering.fit(drawing.notes, (inner, round(6 * unit)), round(2.2 * unit), round(1.4 * unit))
    gap = 2 * unit
    top = height - margin - 2 * pad - title.height - gap - notes.height
    _draw_card(image, (margin, round(top), width - margin, height - margin), round(2.5 * unit))
    pen = ImageDraw.Draw(image)
    _write(pen, title, (margin + pad, top + pad), "white", weight=0.012)
    _write(pen, notes, (margin + pad, top + pad + title.height + gap), (214, 218, 228), weight=0)


def _draw_badge(image: Image.Image, text: str) -> None:
    """Draw a small card in the upper right corner."""
    unit = _measure_unit(image.size)
    margin, pad = round(4 * unit), round(1.6 * unit)
    badge = lettering.fit(text, (round(20 * unit), round(8 * unit)), round(5 * unit), round(2 * unit))
    right = image.size[0] - margin
    left = right - 2 * pad - round(badge.font.getlength(text))
    _draw_card(image, (left, margin, right, round(margin + pad + badge.height)), round(1.5 * unit))
    _write(ImageDraw.Draw(image), badge, (left + pad, margin + pad / 2), "white", weight=0.012)


def _draw_card(image: Image.Image, box: tuple[int, int, int, int], radius: int) -> None:
    size = (box[2] - box[0], box[3] - box[1])
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, size[0] - 1, size[1] - 1), radius, fill=165)
    image.paste((14, 16, 26), box, mask)


def _write(
    pen: ImageDraw.ImageDraw,
    text: lettering.Lettering,
    at: tuple[float, float],
    color: str | tuple[int, int, int],
    weight: float,
) -> None:
    """Draw lines from a top left corner; ``weight`` thickens the strokes, in font sizes."""
    size = text.font.size
    for index, line in enumerate(text.lines):
        where = (at[0], at[1] + index * size * lettering.LINE_HEIGHT)
        pen.text(where, line, fill=color, font=text.font, stroke_width=round(size * weight))


def _encode(image: Image.Image, file_format: str) -> bytes:
    buffer = io.BytesIO()
    if file_format == "JPEG":
        image.save(buffer, "JPEG", quality=88)
    else:
        image.save(buffer, "PNG", compress_level=1, compress_type=_RLE)
    return buffer.getvalue()
