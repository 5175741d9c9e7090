"""Pictures of every format, sound and broken."""

import hashlib
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.curate.image.decode import DecodeImage
from pipeline.curate.stage import Leave
from pipeline.curate.work import apply, to_table
from pipeline.media.image import encode_png, is_truncated, open_image
from pipeline.records import IMAGE
from tests.media.image_kinds import SWAPPED


def scene(width: int = 64, height: int = 48, mode: str = "RGB") -> Image.Image:
    y, x = np.mgrid[:height, :width]
    planes = np.stack([x * 255 // max(width - 1, 1), y * 255 // max(height - 1, 1), (x * y) % 256], -1).astype(np.uint8)
    return Image.fromarray(planes).convert(mode)


def file(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def row(data: bytes) -> dict:
    return dict.fromkeys(IMAGE.names) | {"key": "k", "image": data}


def decoded(data: bytes, **config: object) -> tuple[dict, np.ndarray]:
    out = DecodeImage(**config).map(row(data))
    with Image.open(io.BytesIO(out["image"])) as picture:
        assert picture.format == "PNG"
        return out, np.asarray(picture)


def outcome(data: bytes, **config: object) -> tuple[str, str]:
    with pytest.raises(Leave) as leave:
        DecodeImage(**config).map(row(data))
    return leave.value.state, leave.value.reason


def test_lossless_formats_keep_every_pixel():
    picture = scene()
    for kind, options in (("PNG", {}), ("WEBP", {"lossless": True})):
        out, pixels = decoded(file(picture, kind, **options))
        assert np.array_equal(pixels, np.asarray(picture))
        assert (out["width"], out["height"], out["aspect_ratio"]) == (64, 48, 64 / 48)
        assert out["pixel_sha256"] == hashlib.sha256(b"RGB 64 48 " + picture.tobytes()).hexdigest()
        to_table([out], IMAGE)


def test_other_formats_and_first_frames():
    smooth = scene().getchannel("R")
    _, pixels = decoded(file(smooth, "JPEG", quality=95))
    assert np.abs(pixels.astype(int) - np.asarray(smooth)).max() < 6
    first, second = Image.new("L", (8, 6), 10), Image.new("L", (8, 6), 200)
    _, pixels = decoded(file(first, "GIF", save_all=True, append_images=[second]))
    assert pixels.shape[:2] == (6, 8) and (pixels == 10).all()


def test_grey_stays_grey_and_a_mode_can_be_asked_for():
    for mode in ("L", "1", "LA"):
        assert decoded(file(scene(mode=mode), "PNG"))[1].ndim == 2
    assert decoded(file(scene(mode="P"), "PNG"))[1].shape == (48, 64, 3)
    assert decoded(file(scene(), "PNG"), mode="L")[1].shape == (48, 64)
    assert decoded(file(scene(mode="L"), "PNG"), mode="RGB")[1].shape == (48, 64, 3)
    assert decoded(file(scene(mode="CMYK"), "JPEG"))[1].shape == (48, 64, 3)


def test_sixteen_bits_are_scaled_not_clipped():
    values = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 21
    _, pixels = decoded(file(Image.fromarray(values), "PNG"))
    assert np.array_equal(pixels, (values >> 8).astype(np.uint8))


def test_transparency_is_white():
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    clear.putpixel((0, 0), (0, 0, 255, 255))
    _, pixels = decoded(file(clear, "PNG"))
    assert tuple(pixels[0, 0]) == (0, 0, 255) and (pixels[1:] == 255).all()


def test_exif_turns_the_picture():
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    out, pixels = decoded(file(scene(), "JPEG", exif=exif))
    assert (out["width"], out["height"]) == (48, 64) and pixels.shape == (64, 48, 3)


def test_resizing_keeps_the_middle():
    wide = np.zeros((20, 60), np.uint8)
    wide[:, 20:40] = 255
    out, pixels = decoded(file(Image.fromarray(wide), "PNG"), image_size=10)
    assert pixels.shape == (10, 10) and (pixels > 200).all() and (out["width"], out["height"]) == (60, 20)


def test_what_the_file_was_is_recorded():
    exif = Image.Exif()
    exif[0x0112] = 6
    other = Image.new("RGB", (64, 48), "white")
    for data, facts in (
        (file(scene(), "PNG"), (1, 1, None)),
        (file(scene(), "JPEG", exif=exif), (6, 1, None)),
        (file(scene(), "WEBP", save_all=True, append_images=[other]), (1, 2, None)),
        (file(scene(), "TIFF", icc_profile=SWAPPED), (1, 1, "converted")),
    ):
        out, _ = decoded(data)
        assert (out["orientation"], out["num_frames"], out["color_profile"]) == facts
        to_table([out], IMAGE)


@pytest.mark.parametrize(
    ("pixels", "bits"),
    [
        (np.arange(256).reshape(16, 16), 8.0),
        (np.zeros((16, 16)), 0.0),
        (np.arange(256).reshape(16, 16) % 2 * 255, 1.0),
        (np.repeat([0, 0, 0, 255], 64).reshape(16, 16), -(0.75 * np.log2(0.75) + 0.25 * np.log2(0.25))),
    ],
)
def test_entropy_has_its_closed_form(pixels, bits):
    out, _ = decoded(file(Image.fromarray(pixels.astype(np.uint8)), "PNG"))
    assert out["entropy_bits"] == pytest.approx(bits)


def test_the_digest_is_of_pixels_not_of_files():
    picture = scene()
    digests = {
        decoded(data)[0]["pixel_sha256"]
        for data in (file(picture, "PNG"), file(picture, "PNG", compress_level=1), file(picture, "WEBP", lossless=True))
    }
    assert len(digests) == 1
    flat = [Image.new("L", size, 7) for size in ((4, 8), (8, 4), (2, 16))]
    assert len({decoded(file(one, "PNG"))[0]["pixel_sha256"] for one in flat}) == 3


def test_metadata_is_left_behind_and_bytes_repeat():
    exif = Image.Exif()
    exif[0x010E] = "a secret place"
    data = file(scene(), "PNG", exif=exif, icc_profile=b"x" * 200)
    out, _ = decoded(data)
    assert b"secret" in data and b"secret" not in out["image"] and out["image"] == decoded(data)[0]["image"]
    assert out["image"] == encode_png(np.asarray(scene()))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
@pytest.mark.parametrize("keep", [0.5, 0.8])
def test_truncated_files_are_called_truncated(kind, keep):
    data = file(scene(256, 256), kind)
    assert not is_truncated(data)
    assert outcome(data[: int(len(data) * keep)]) == ("failed", "image_truncated")


def test_junk_is_called_undecodable():
    png = bytearray(file(scene(), "PNG"))
    png[60:90] = bytes(30)
    for data in (
        b"",
        b"<svg/>",
        b"<html>404</html>",
        bytes(100),
        bytes(png),
        file(scene(), "PPM"),
        b"%!PS-Adobe",
    ):
        assert outcome(data) == ("failed", "image_undecodable"), data[:12]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@pytest.mark.parametrize("side", [8_000, 60_000])
def test_a_bomb_is_refused_before_it_is_inflated(side):
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")
    assert outcome(bomb) == ("failed", "image_too_large")
    assert outcome(file(scene(), "PNG"), max_pixels=64 * 48 - 1) == ("failed", "image_too_large")
    assert decoded(file(scene(), "PNG"), max_pixels=64 * 48)[0]["width"] == 64


def test_one_bad_row_costs_one_row():
    good = file(scene(), "PNG")
    out = apply(DecodeImage(image_size=8), [row(good), row(good[:200]), row(good)])
    assert [r["reason"] for r in out] == [None, "image_truncated", None]


def test_bad_settings_are_named():
    for bad, word in (
        ({"image_size": 0}, "image_size"),
        ({"max_pixels": 10**12}, "max_pixels"),
        ({"max_pixels": 0}, "max_pixels"),
    ):
        with pytest.raises(ValueError, match=word):
            DecodeImage(**bad)


def test_a_caller_may_open_without_a_row():
    assert open_image(file(scene(), "PNG"), 10_000).mode == "RGB"
