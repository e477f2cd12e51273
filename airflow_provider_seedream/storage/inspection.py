"""Judges by its bytes alone which image a downloaded file is, if it is a whole one."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from airflow_provider_seedream.apixo.model import Size
from airflow_provider_seedream.storage.errors import UnusableImageError, WrongSizeError

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

EXTENSIONS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp"}
"""Formats that the API delivers, as Pillow names them, each with its file extension."""

MAX_PIXELS = 64 * 2**20
"""Four times the largest size of the vendor's table; more is taken for a decompression bomb."""

_ENDS = {"PNG": b"\0\0\0\0IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
"""The last bytes of a format, which Pillow does not ask for; other data may follow them."""

_TAIL_BYTES = 65536

MAX_SCANS = 100
"""Of a JPEG; encoders write about ten. Each costs a pass over the whole image, be it only 31 bytes long."""

_START_OF_SCAN = b"\xff\xda"

_BLOCK_BYTES = 2**20

decoding = threading.Lock()
"""A decoded 4K image takes 64 MiB, so a process decodes one at a time."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """The facts that the bytes of one image state.

    :param format: ``png``, ``jpeg`` or ``webp``.
    :param extension: ``png``, ``jpg`` or ``webp``.
    :param width: pixels.
    :param height: pixels.
    :param bytes: length of the file.
    :param sha256: of the file, in hexadecimal.
    """

    format: str
    extension: str
    width: int
    height: int
    bytes: int
    sha256: str


def inspect_image(path: Path, expected_size: Size | None = None) -> ImageFacts:
    """Check that a local file is one whole image, by decoding all of it.

    Found are foreign content, truncation, and in a PNG every flipped byte (its chunks carry checksums).
    JPEG and WebP carry none: a flipped byte in their pixel data is seen only where it breaks the decoder, so
    there the transport (TLS) vouches for the bytes.

    :param expected_size: width and height in pixels that the image must have.
    :raises UnusableImageError: if it is not a whole PNG, JPEG or WebP.
    :raises WrongSizeError: if it is one of another size.
    """
    with decoding:
        format_, size = _decode(path)
    if expected_size is not None and size != tuple(expected_size):
        raise WrongSizeError(
            f"a whole {format_} of {_show_size(size)} came, but {_show_size(expected_size)} was ordered"
        )
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return ImageFacts(format_.lower(), EXTENSIONS[format_], *size, path.stat().st_size, sha256)


@contextmanager
def open_image(file: Path | IO[bytes]) -> Iterator[ImageFile]:
    """Open a PNG, JPEG or WebP of a sane size; no pixel is decoded yet.

    :raises UnusableImageError: if it holds several pictures, claims more than ``MAX_PIXELS``, or is a JPEG of
        more than ``MAX_SCANS``.
    :raises Exception: of nearly every kind, which Pillow raises on hostile bytes.
    """
    # Imported late: DAG files import this package, and Pillow is not among what Airflow has loaded.
    from PIL import Image

    with Image.open(file, formats=tuple(EXTENSIONS)) as image:
        if image.format not in EXTENSIONS:
            raise UnusableImageError(f"it is a {image.format}, several pictures in one file")
        if image.width * image.height > MAX_PIXELS:
            raise UnusableImageError(
                f"the image claims {_show_size(image.size)}, more than {MAX_PIXELS} pixels"
            )
        if image.format == "JPEG":
            # Pillow keeps the file open until the pixels are loaded.
            _check_scans(cast("IO[bytes]", image.fp))
        yield image


def _check_scans(file: IO[bytes]) -> None:
    # Coded data escapes its FF bytes; what metadata holds of these two by chance is far below the limit.
    scans = _count_pairs(file, _START_OF_SCAN)
    if scans > MAX_SCANS:
        raise UnusableImageError(f"the JPEG holds {scans} scans, more than {MAX_SCANS}")


def _count_pairs(file: IO[bytes], pair: bytes) -> int:
    """Count how often a file holds two bytes side by side; its position stays."""
    position, found, last = file.tell(), 0, b""
    file.seek(0)
    while block := file.read(_BLOCK_BYTES):
        found += (last + block).count(pair)
        last = block[-1:]
    file.seek(position)
    return found


def _show_size(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _decode(path: Path) -> tuple[str, Size]:
    try:
        with open_image(path) as image:
            format_, size = str(image.format), image.size
            if format_ == "PNG":
                image.verify()
        # verify() leaves an image unusable, so it is opened again for its pixels.
        with open_image(path) as image:
            # A JPEG decoded at an eighth still reads every coded byte, with a 64th of the memory.
            image.draft(None, (size[0] // 8, size[1] // 8))
            image.load()
        _check_end(path, format_)
    except UnusableImageError:
        raise
    except Exception as error:  # noqa: BLE001 - on hostile bytes Pillow raises nearly every kind
        raise UnusableImageError(_describe_damage(path, error)) from None
    return format_, size


def _check_end(path: Path, format_: str) -> None:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        if _ENDS.get(format_, b"") not in file.read():
            raise UnusableImageError(f"the last bytes of the {format_} are missing")


def _describe_damage(path: Path, error: Exception) -> str:
    with path.open("rb") as file:
        start = file.read(16)
    return (
        f"{path.stat().st_size} bytes came that are not a whole PNG, JPEG or WebP image "
        f"(they start with {start!r}; {type(error).__name__}: {_hide_path(error, path)})"
    )


def _hide_path(error: Exception, path: Path) -> str:
    return str(error).replace(str(path), "the file")
