"""Paints backgrounds: small landscapes and patterns whose colours and shapes follow from a seed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw, ImageOps

from airflow_provider_seedream.apixo.model import Size

Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours that go together: a sky from top to horizon, layers from far to near, and one accent."""

    sky: tuple[Color, Color, Color]
    layers: Sequence[Color]
    accent: Color


def paint(size: Size, seed: str, number: int) -> Image.Image:
    """Paint a background.

    :param size: width and height in pixels.
    :param seed: decides colours and kind of scene.
    :param number: varies the shapes, so that the images of one task are alike and yet distinct.
    """
    colors, shapes = Random(seed), Random(f"{seed} {number}")
    palette = _mix_palette(colors)
    scene = colors.choice(_SCENES)
    image = _paint_sky(size, palette)
    scene(ImageDraw.Draw(image), size, palette, shapes)
    return image


_HUES = (
    (265, 420),
    (232, 190),
    (305, 385),
    (170, 215),
    (25, 75),
    (285, 335),
    (200, 130),
    (250, 455),
    (350, 420),
    (275, 230),
    (15, 95),
)
"""Hues in degrees, of the zenith and of the horizon, that go well together; past 360 it goes round."""


def _mix_palette(random: Random) -> Palette:
    shift = random.uniform(-14, 14)
    zenith, horizon = (hue + shift for hue in random.choice(_HUES))
    middle = (zenith + horizon) / 2
    night = random.random() < 0.35
    tops = (0.28, 0.5, 0.76) if night else (0.6, 0.78, 0.92)
    far, near = (0.58, 0.24) if night else (0.74, 0.32)
    steps = [index / 4 for index in range(5)]
    return Palette(
        sky=(
            _from_oklch(tops[0], 0.1, zenith),
            _from_oklch(tops[1], 0.1, middle),
            _from_oklch(tops[2], 0.09, horizon),
        ),
        layers=[_from_oklch(far + (near - far) * s, 0.085, middle + (zenith - middle) * s) for s in steps],
        accent=_from_oklch(0.95, 0.07, horizon + 25),
    )


def _from_oklch(lightness: float, chroma: float, hue: float) -> Color:
    """Return a colour of the OKLCH space (even lightness over all hues) as sRGB."""
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        _apply_gamma(4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short),
        _apply_gamma(-1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short),
        _apply_gamma(-0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short),
    )


def _apply_gamma(linear: float) -> int:
    clipped = min(1.0, max(0.0, linear))
    return round(255 * (12.92 * clipped if clipped <= 0.0031308 else 1.055 * clipped ** (1 / 2.4) - 0.055))


def _paint_sky(size: Size, palette: Palette) -> Image.Image:
    """Paint from zenith to horizon; one column is drawn and widened, which is much cheaper than the whole."""
    column = Image.linear_gradient("L").resize((1, size[1]), Image.Resampling.BILINEAR)
    top, middle, low = palette.sky
    return ImageOps.colorize(column, top, low, mid=middle).resize(size, Image.Resampling.NEAREST)


def _paint_sun(draw: ImageDraw.ImageDraw, size: Size, palette: Palette, random: Random) -> None:
    radius = min(size) * random.uniform(0.09, 0.15)
    x, y = size[0] * random.uniform(0.2, 0.8), size[1] * random.uniform(0.2, 0.36)
    draw.circle((x, y), radius, fill=palette.accent)


def _paint_hills(draw: ImageDraw.ImageDraw, size: Size, palette: Palette, random: Random) -> None:
    """Paint a sun over layers of rolling hills."""
    _paint_sun(draw, size, palette, random)
    width, height = size
    for index, color in enumerate(palette.layers):
        base = height * (0.42 + 0.12 * index)
        waves = [(random.uniform(0.5, 1.6), random.uniform(0, math.tau)) for _ in range(3)]
        line = [
            (x, base + height * 0.035 * sum(math.sin(f * math.tau * x / width + p) for f, p in waves))
            for x in range(0, width + 8, 8)
        ]
        draw.polygon([*line, (width, height), (0, height)], fill=color)


def _paint_peaks(draw: ImageDraw.ImageDraw, size: Size, palette: Palette, random: Random) -> None:
    """Paint a sun over ranges of mountains."""
    _paint_sun(draw, size, palette, random)
    width, height = size
    for index, color in enumerate(palette.layers):
        base = height * (0.5 + 0.11 * index)
        step = min(size) * 0.22
        count = math.ceil(width / step) + 2
        offset = random.uniform(-1, 0) * step
        line = [
            (
                offset + (n + random.uniform(-0.2, 0.2)) * step,
                base - (n % 2) * height * random.uniform(0.08, 0.2),
            )
            for n in range(count + 1)
        ]
        draw.polygon([(0, height), (0, base), *line, (width, base), (width, height)], fill=color)


def _paint_orbits(draw: ImageDraw.ImageDraw, size: Size, palette: Palette, random: Random) -> None:
    """Paint planets on their orbits."""
    width, height = size
    center = (width * random.uniform(0.3, 0.7), height * random.uniform(0.3, 0.45))
    reach = math.hypot(width, height) * 0.6
    for index, color in enumerate(palette.layers):
        radius = reach * (1 - index * 0.19)
        draw.circle(center, radius, fill=color)
        angle = random.uniform(0, math.tau)
        at = (center[0] + radius * math.cos(angle), center[1] + radius * math.sin(angle))
        draw.circle(at, min(size) * random.uniform(0.015, 0.04), fill=palette.accent)
    draw.circle(center, reach * 0.1, fill=palette.accent)


def _paint_tiles(draw: ImageDraw.ImageDraw, size: Size, palette: Palette, random: Random) -> None:
    """Paint a quilt of quarter circles."""
    side = min(size) / random.choice((4, 5))
    colors = [*palette.layers, *palette.sky, palette.accent]
    for column in range(math.ceil(size[0] / side)):
        for row in range(math.ceil(size[1] / side)):
            _paint_tile(
                draw, (column * side, row * side), side, random.sample(colors, 2), random.randrange(4)
            )


def _paint_tile(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], side: float, colors: Sequence[Color], corner: int
) -> None:
    x, y = at
    draw.rectangle((x, y, x + side, y + side), fill=colors[0])
    center_x, center_y = x + side * (corner in (1, 2)), y + side * (corner in (2, 3))
    box = (center_x - side, center_y - side, center_x + side, center_y + side)
    draw.pieslice(box, 90 * corner, 90 * corner + 90, fill=colors[1])


_SCENES: Sequence[Callable[[ImageDraw.ImageDraw, Size, Palette, Random], None]] = (
    _paint_hills,
    _paint_peaks,
    _paint_orbits,
    _paint_tiles,
)
