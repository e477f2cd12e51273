from __future__ import annotations

import hashlib
import io
import zlib
from pathlib import Path

import pytest
from PIL import Image

from airflow_provider_seedream.storage.errors import UnusableImageError, WrongSizeError
from airflow_provider_seedream.storage.inspection import MAX_SCANS, inspect_image, open_image
from tests.support.image_host import flipped, picture
from tests.support.images import jpeg_of_scans, png


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "download"


class TestTheBytesDecide:
    @pytest.mark.parametrize(
        ("format_", "name", "extension"),
        [("PNG", "png", "png"), ("JPEG", "jpeg", "jpg"), ("WEBP", "webp", "webp")],
    )
    def test_format_size_and_hash_come_from_the_file(
        self, file: Path, format_: str, name: str, extension: str
    ) -> None:
        body = picture(format_, (40, 30))
        file.write_bytes(body)
        facts = inspect_image(file, expected_size=(40, 30))
        assert (facts.format, facts.extension) == (name, extension)
        assert (facts.width, facts.height, facts.bytes) == (40, 30, len(body))
        assert facts.sha256 == hashlib.sha256(body).hexdigest()

    @pytest.mark.parametrize("body", [b"", b"<!DOCTYPE html><p>busy", picture("GIF"), picture("BMP")])
    def test_anything_but_png_jpeg_webp_is_refused_and_shown(self, file: Path, body: bytes) -> None:
        file.write_bytes(body)
        with pytest.raises(UnusableImageError, match=f"{len(body)} bytes came") as refused:
            inspect_image(file)
        assert repr(body[:16]) in str(refused.value)
        assert str(file) not in str(refused.value)


class TestHalfAnImageIsNoImage:
    @pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
    @pytest.mark.parametrize("missing", [1, 4, 8, 100, 3000])
    def test_a_cut_tail_is_found(self, file: Path, format_: str, missing: int) -> None:
        file.write_bytes(picture(format_)[:-missing])
        with pytest.raises(UnusableImageError):
            inspect_image(file)

    def test_a_progressive_jpeg_is_read_to_its_end_too(self, file: Path) -> None:
        out = io.BytesIO()
        Image.effect_noise((64, 64), 80).save(out, "JPEG", progressive=True)
        file.write_bytes(out.getvalue()[:-50])
        with pytest.raises(UnusableImageError):
            inspect_image(file)

    def test_every_flipped_byte_in_a_png_is_found(self, file: Path) -> None:
        body = picture(size=(6, 5))
        for position in range(len(body)):
            file.write_bytes(flipped(body, position))
            with pytest.raises(UnusableImageError):
                inspect_image(file)

    def test_pixels_that_are_missing_behind_right_checksums_are_found(self, file: Path) -> None:
        file.write_bytes(png(8, 8, zlib.compress(b"\0" * 10)))
        with pytest.raises(UnusableImageError):
            inspect_image(file)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
class TestABombIsNotDecoded:
    @pytest.mark.parametrize("side", [8193, 12000, 65000])
    def test_a_size_beyond_reason_is_refused_from_the_header(self, file: Path, side: int) -> None:
        file.write_bytes(png(side, side, zlib.compress(b"\0" * 1000)))
        with pytest.raises(UnusableImageError, match=r"pixels|bomb"):
            inspect_image(file)

    def test_a_jpeg_of_very_many_scans_is_refused_before_it_is_decoded(self, file: Path) -> None:
        file.write_bytes(jpeg_of_scans(MAX_SCANS + 1))
        with pytest.raises(UnusableImageError, match="the JPEG holds 101 scans, more than 100"):
            inspect_image(file)
        with pytest.raises(UnusableImageError, match="101 scans"), open_image(file):
            pytest.fail("it was opened")

    def test_a_scan_counts_wherever_it_begins(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_provider_seedream.storage.inspection._BLOCK_BYTES", 1)
        file.write_bytes(jpeg_of_scans(MAX_SCANS + 1))
        with pytest.raises(UnusableImageError, match="101 scans"):
            inspect_image(file)

    def test_a_progressive_jpeg_of_sane_scans_is_taken(self, file: Path) -> None:
        file.write_bytes(jpeg_of_scans(MAX_SCANS))
        assert inspect_image(file).format == "jpeg"

    def test_counting_leaves_the_file_where_it_was(self) -> None:
        body = io.BytesIO(jpeg_of_scans(20))
        with Image.open(body) as image:
            position = image.fp.tell()
        body.seek(0)
        with open_image(body):
            assert body.tell() == position


class TestTheOrderedSizeIsChecked:
    def test_another_size_says_what_came_and_what_was_ordered(self, file: Path) -> None:
        file.write_bytes(picture(size=(40, 30)))
        with pytest.raises(WrongSizeError, match="PNG of 40x30 came, but 2048x2048 was ordered"):
            inspect_image(file, expected_size=(2048, 2048))
