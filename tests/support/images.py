"""Makes image files that no encoder would."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image
from PIL.PngImagePlugin import PngInfo


def jpeg_of_scans(scans: int) -> bytes:
    """Return a progressive JPEG whose last scan is repeated."""
    out = io.BytesIO()
    Image.new("L", (16, 16), 128).save(out, "JPEG", progressive=True)
    start, *parts = out.getvalue().removesuffix(b"\xff\xd9").split(b"\xff\xda")
    parts += [parts[-1]] * (scans - len(parts))
    return b"\xff\xda".join([start, *parts]) + b"\xff\xd9"


def png(width: int, height: int, data: bytes) -> bytes:
    """Return a grey PNG with right checksums, whatever its pixel data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def png_with_text(text: str) -> bytes:
    """Return a small PNG with a compressed comment."""
    info, out = PngInfo(), io.BytesIO()
    info.add_itxt("comment", text, zip=True)
    Image.new("RGB", (8, 8)).save(out, "PNG", pnginfo=info)
    return out.getvalue()
