"""Frames and scans, counted in the bytes: against Pillow, and in bounded time."""

import io
import struct
import time

import pytest
from PIL import Image

from pipeline.media.frames import MAX_FRAMES, count_frames, count_scans
from tests.media.image_kinds import many_scans, saved, scene


def frames(number: int) -> list[Image.Image]:
    return [Image.new("RGB", (40, 30), (n * 7 % 256, n * 31 % 256, 9)) for n in range(number)]


@pytest.mark.parametrize("form", ["GIF", "TIFF", "PNG", "WEBP", "AVIF", "MPO"])
@pytest.mark.parametrize("number", [1, 2, 5])
def test_as_many_as_pillow_counts(form: str, number: int) -> None:
    first, *rest = frames(number)
    data = saved(first, form, save_all=number > 1, append_images=rest)
    with Image.open(io.BytesIO(data)) as file:
        assert count_frames(data, file) == getattr(file, "n_frames", 1) == number


def test_a_gif_with_palettes_and_comments_of_its_own() -> None:
    first, *rest = (picture.quantize(8) for picture in frames(4))
    data = saved(first, "GIF", save_all=True, append_images=rest, comment=b"; , !" * 99, loop=0, optimize=False)
    with Image.open(io.BytesIO(data)) as file:
        assert count_frames(data, file) == file.n_frames == 4


def test_scans_are_counted_up_to_the_limit() -> None:
    assert count_scans(saved(scene(), "JPEG"), 9) == 1
    assert count_scans(saved(scene(), "JPEG", progressive=True), 50) == 10, "libjpeg's own script"
    extra = len(many_scans(0))
    assert extra and count_scans(many_scans(30), 99) - count_scans(many_scans(0), 99) == 30
    assert count_scans(many_scans(3000), 500) == 501
    behind = saved(scene(), "JPEG") + b"\xff\xda\0\2" * 999
    within = saved(scene(), "JPEG", comment=b"\xff\xda" * 999)
    assert count_scans(behind, 9) == count_scans(within, 9) == 1


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"\xff" * (1 << 20), b"\xff\xd8" + b"\xff\xda\0\2\1" * (1 << 20)]
)
def test_no_bytes_take_long(data: bytes) -> None:
    start = time.process_time()
    assert count_scans(data, 500) <= 501
    assert time.process_time() - start < 2


def test_loops_and_floods_end() -> None:
    picture = saved(Image.new("1", (1, 1)), "GIF")
    at = picture.index(b",\0\0\0\0\1\0\1\0")
    flood = picture[:at] + picture[at:-1] * (2 * MAX_FRAMES) + b";"
    with Image.open(io.BytesIO(picture)) as file:
        assert count_frames(flood, file) == MAX_FRAMES
    tiff = bytearray(saved(scene(), "TIFF"))
    (first,) = struct.unpack_from("<I", tiff, 4)
    (tags,) = struct.unpack_from("<H", tiff, first)
    struct.pack_into("<I", tiff, first + 2 + 12 * tags, first)  # its next directory is itself
    with Image.open(io.BytesIO(bytes(tiff))) as file:
        assert count_frames(bytes(tiff), file) == 1
