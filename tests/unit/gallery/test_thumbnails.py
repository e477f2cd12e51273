from __future__ import annotations

import asyncio
import io
import threading
import zlib
from collections.abc import Callable, Iterator

import pytest
from PIL import Image

from airflow_provider_seedream.gallery.storage_threads import StorageThreads
from airflow_provider_seedream.gallery.thumbnails import MOST_PIXELS, SIDE, Key, Thumbnails, make_thumbnail
from airflow_provider_seedream.gallery.verified_images import ImageError
from airflow_provider_seedream.storage.inspection import MAX_SCANS, decoding
from tests.support.gates import LONG, Gate
from tests.support.image_host import picture
from tests.support.images import jpeg_of_scans, png, png_with_text

RED, GREEN = (220, 20, 20), (20, 160, 20)


def drawn(mode: str = "RGB", size: tuple[int, int] = (1200, 800)) -> Image.Image:
    """Red above, green below."""
    image = Image.new("RGB", size, RED)
    image.paste(GREEN, (0, size[1] // 2, *size))
    return image.convert(mode)


def encoded(image: Image.Image, format_: str = "PNG", **options: object) -> io.BytesIO:
    out = io.BytesIO()
    image.save(out, format_, **options)
    out.seek(0)
    return out


def thumbnail(file: io.BytesIO) -> Image.Image:
    image = Image.open(io.BytesIO(make_thumbnail(file)))
    assert image.format == "WEBP"
    return image


def is_like(seen: object, expected: tuple[int, ...], within: int = 12) -> bool:
    assert isinstance(seen, tuple)
    return all(abs(one - other) <= within for one, other in zip(seen, expected, strict=True))


class TestAThumbnailLooksLikeItsImage:
    @pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP"])
    def test_in_every_format(self, format_: str) -> None:
        small = thumbnail(encoded(drawn(), format_))
        assert small.size == (480, 320)
        assert is_like(small.getpixel((240, 40)), RED)
        assert is_like(small.getpixel((240, 280)), GREEN)

    @pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
    def test_in_every_kind_of_png(self, mode: str) -> None:
        original = drawn() if mode not in ("L", "LA", "1", "I;16") else drawn("L")
        file = encoded(_sixteen_bits(original) if mode == "I;16" else original.convert(mode))
        small = thumbnail(file).convert("L").resize((1, 2), Image.Resampling.BOX)
        expected = original.convert("L").resize((1, 2), Image.Resampling.BOX)
        for place in ((0, 0), (0, 1)):
            assert is_like((small.getpixel(place),), (expected.getpixel(place),))

    def test_in_the_colours_of_print(self) -> None:
        small = thumbnail(encoded(drawn("CMYK"), "JPEG"))
        assert is_like(small.getpixel((240, 40)), RED)

    @pytest.mark.parametrize("mode", ["RGBA", "P"])
    def test_with_its_transparency(self, mode: str) -> None:
        image = drawn("RGBA")
        image.paste((0, 0, 0, 0), (0, 0, 600, 800))
        small = thumbnail(encoded(image if mode == "RGBA" else image.quantize()))
        assert is_like(small.getpixel((40, 40))[3:], (0,))
        assert is_like(small.getpixel((400, 40)), (*RED, 255))

    @pytest.mark.parametrize("format_", ["PNG", "JPEG"])
    def test_upright(self, format_: str) -> None:
        turned = Image.Exif()
        turned[0x0112] = 8
        small = thumbnail(encoded(drawn(size=(800, 1200)), format_, exif=turned))
        assert small.size == (480, 320)
        assert is_like(small.getpixel((40, 160)), RED)

    @pytest.mark.parametrize(("size", "smaller"), [((20, 30), (20, 30)), ((60_000, 1), (480, 1))])
    def test_in_its_own_shape(self, size: tuple[int, int], smaller: tuple[int, int]) -> None:
        assert thumbnail(encoded(drawn(size=size))).size == smaller


class TestAThumbnailIsSmall:
    def test_although_nothing_can_compress_the_image(self) -> None:
        assert len(make_thumbnail(io.BytesIO(picture(size=(1500, 1500))))) < 250_000

    def test_and_holds_no_metadata(self) -> None:
        private = Image.Exif()
        private[0x010E] = "taken at home"
        file = encoded(drawn(), "JPEG", exif=private, icc_profile=b"profile" * 100, comment=b"at home")
        data = make_thumbnail(file)
        assert Image.open(io.BytesIO(data)).info.keys() <= {"background", "loop", "timestamp", "duration"}
        assert b"home" not in data
        assert b"profile" not in data

    def test_and_its_longer_side_is_that_of_a_tile(self) -> None:
        assert max(thumbnail(encoded(drawn(size=(700, 2000)))).size) == SIDE


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
class TestHostileBytesAreRefused:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"root:x:0:0:secret",
            picture("GIF"),
            picture()[:-300],
            picture("JPEG")[:200],
            picture("WEBP")[:-300],
            png(60_000, 60_000, zlib.compress(b"\0" * 1000)),
            png(8, 8, zlib.compress(b"\0" * 10)),
            png_with_text("x" * 32 * 2**20),
            jpeg_of_scans(MAX_SCANS + 1),
        ],
        ids=[
            "empty",
            "text",
            "gif",
            "cut png",
            "cut jpeg",
            "cut webp",
            "bomb",
            "short",
            "long text",
            "scans",
        ],
    )
    def test_with_one_kind_of_error(self, body: bytes) -> None:
        with pytest.raises(ImageError) as refused:
            make_thumbnail(io.BytesIO(body))
        assert refused.value.status == 422
        assert "secret" not in str(refused.value)

    def test_and_so_is_what_takes_too_much_memory(self) -> None:
        side = int(MOST_PIXELS**0.5) + 1
        with pytest.raises(ImageError, match="too many for a thumbnail") as refused:
            make_thumbnail(io.BytesIO(png(side, side, zlib.compress(b"\0" * 1000))))
        assert refused.value.status == 422

    def test_one_image_is_decoded_at_a_time(self) -> None:
        file, finished = encoded(drawn()), threading.Event()
        with decoding:
            thread = threading.Thread(target=lambda: (make_thumbnail(file), finished.set()))
            thread.start()
            assert not finished.wait(0.2)
        assert finished.wait(LONG)
        thread.join()


KEY: Key = ("s3://store@bucket/images/1.png", "0" * 64)


class Maker:
    """Makes a thumbnail, as often as it is asked to."""

    def __init__(self, result: bytes | Exception = b"small", gate: Callable[[], object] = lambda: None):
        self.result = result
        self.gate = gate
        self.times = 0

    def __call__(self) -> bytes:
        self.times += 1
        self.gate()
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
def thumbnails() -> Thumbnails:
    return Thumbnails(StorageThreads())


class TestAThumbnailIsMadeOnce:
    async def test_for_all_who_ask_at_the_same_time(self, thumbnails: Thumbnails, gate: Gate) -> None:
        make = Maker(gate=gate)
        tasks = [asyncio.create_task(thumbnails.get(KEY, make, LONG)) for _ in range(50)]
        await gate.has_seen(1)
        gate.open.set()
        assert await asyncio.gather(*tasks) == [b"small"] * 50
        assert make.times == 1

    async def test_for_all_who_ask_later(self, thumbnails: Thumbnails) -> None:
        make = Maker()
        for _ in range(3):
            assert await thumbnails.get(KEY, make) == b"small"
        assert make.times == 1

    def test_for_all_event_loops(self, thumbnails: Thumbnails, gate: Gate) -> None:
        make = Maker(gate=gate)
        results: list[bytes] = []
        asked = threading.Barrier(4)

        async def ask() -> None:
            task = asyncio.create_task(thumbnails.get(KEY, make, LONG))
            await asyncio.sleep(0)
            await asyncio.to_thread(asked.wait, LONG)
            results.append(await task)

        threads = [threading.Thread(target=asyncio.run, args=(ask(),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        asked.wait(LONG)
        gate.open.set()
        for thread in threads:
            thread.join(LONG)
        assert (results, make.times) == ([b"small"] * 3, 1)

    async def test_but_again_where_the_image_is_another(self, thumbnails: Thumbnails) -> None:
        make = Maker()
        for key in (KEY, (KEY[0], "1" * 64), (f"{KEY[0]}x", KEY[1])):
            await thumbnails.get(key, make)
        assert make.times == 3

    async def test_but_again_where_it_failed(
        self, thumbnails: Thumbnails, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(ImageError, match="gone"):
            await thumbnails.get(KEY, Maker(ImageError(404, "gone")))
        assert await thumbnails.get(KEY, Maker()) == b"small"
        assert caplog.records == []

    async def test_and_kept_although_it_came_too_late(self, thumbnails: Thumbnails, gate: Gate) -> None:
        make = Maker(gate=gate)
        with pytest.raises(ImageError) as refused:
            await thumbnails.get(KEY, make, 0.01)
        assert refused.value.status == 504
        gate.open.set()
        assert await thumbnails.get(KEY, make, LONG) == b"small"
        assert make.times == 1

    async def test_and_who_goes_away_takes_it_from_nobody(self, thumbnails: Thumbnails, gate: Gate) -> None:
        busy = [
            asyncio.create_task(thumbnails.get((KEY[0], str(n)), Maker(gate=gate), LONG)) for n in range(4)
        ]
        await gate.has_seen(4)
        stays = asyncio.create_task(thumbnails.get(KEY, Maker(), LONG))
        with pytest.raises(ImageError):
            await thumbnails.get(KEY, Maker(), 0.01)
        gate.open.set()
        assert await stays == b"small"
        await asyncio.gather(*busy)


class TestTheCacheStaysWithinBounds:
    async def test_what_was_not_asked_for_longest_is_forgotten(self) -> None:
        thumbnails = Thumbnails(StorageThreads(), max_bytes=10)
        makers = {name: Maker(b"1234") for name in "abc"}
        for name in "ababcabc":
            await thumbnails.get((f"s3://bucket/{name}", ""), makers[name])
        # c put out a, then a put out b, and so on.
        assert [makers[name].times for name in "abc"] == [2, 2, 2]


class TestAStoreThatHangs:
    async def test_is_not_waited_for_by_those_who_join_later(self, gate: Gate) -> None:
        thumbnails = Thumbnails(StorageThreads(threads=1, seconds=0.1))
        make = Maker(gate=gate)
        for status, seconds in ((504, 0.1), (503, LONG)):
            with pytest.raises(ImageError) as refused:
                await asyncio.wait_for(thumbnails.get(KEY, make, seconds), LONG / 2)
            assert refused.value.status == status
            await asyncio.sleep(0.1)


def _sixteen_bits(image: Image.Image) -> Image.Image:
    return image.convert("I").point(lambda value: value * 257).convert("I;16")
