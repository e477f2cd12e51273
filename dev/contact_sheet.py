"""Makes one picture of many: thumbnails in rows, each over its caption."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

COLUMNS = 4
CELL = (360, 300)
CAPTION = 44
GAP = 16
PAPER = (250, 249, 246)
INK = (45, 45, 50)


def write_contact_sheet(images: Sequence[tuple[Path, str]], target: Path) -> None:
    """Write a contact sheet.

    :param images: file and caption of each image.
    :param target: where the PNG goes.
    """
    rows = -(-len(images) // COLUMNS)
    columns = min(COLUMNS, len(images))
    width, height = CELL
    sheet = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + CAPTION + GAP) + GAP), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=17)
    for position, (path, caption) in enumerate(images):
        row, column = divmod(position, COLUMNS)
        left, top = GAP + column * (width + GAP), GAP + row * (height + CAPTION + GAP)
        with Image.open(path) as image:
            image.thumbnail(CELL)
            sheet.paste(image, (left + (width - image.width) // 2, top + (height - image.height) // 2))
        draw.text((left, top + height + 10), _shorten(caption, font, width), fill=INK, font=font)
    sheet.save(target, optimize=True)


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "..."
