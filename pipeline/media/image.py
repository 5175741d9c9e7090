"""Bytes of a picture to pixels and back.

Guarantees: only formats on a short list ever reach a decoder; the number of pixels is checked before any is decoded;
pixels are sRGB or grey, whatever the file's colour space; PNG bytes depend on pixels alone. Cost: one decode, and
memory for the picture in three or four channels.
"""

import io
import logging
import struct
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from pipeline.media.colour import to_srgb
from pipeline.media.container import missing
from pipeline.media.error import MediaError, plain
from pipeline.media.frames import count_frames, count_scans
from pipeline.media.sniff import what

MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 0
"""Pillow's own bound against decompression bombs: 256 MiB at three bytes a pixel."""

# Of one chunk of text or colour profile in a PNG, inflated: as much as Pillow grants all of them together. Its own
# 1 MiB refuses pictures for what an editor wrote beside them.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

logging.getLogger("PIL").addHandler(logging.NullHandler())  # it tells of each broken file on standard error

# What the web shows, and what cameras and scanners write. Each further decoder would be one more parser of hostile
# bytes.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "AVIF", "BMP", "TIFF")
_GREY = {"1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N"}
# A scan costs a pass over all pixels, however few bytes it has: thousands are an attack (libjpeg-turbo's report
# LJT-01-003). Encoders write about ten; TurboJPEG's own limit and NVIDIA/DALI#5316 draw the line at 500, which of large
# pictures is too many: 80 passes over 50 megapixels take three seconds.
_MAX_SCANS = 500
_MAX_SCANNED_PIXELS = 4_000_000_000
# Pillow's decoders raise all of these for broken files.
_BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError, OverflowError, RuntimeError),
    struct.error,
)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

Profile = Literal["srgb", "converted", "unusable"]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The first frame as it should be seen, and what the file was.

    `pixels` are of mode L (grey originals) or RGB. `orientation` is EXIF's, 1 to 8, and has been applied. `num_frames`
    counts all of an animation or all pages. `profile` says what became of the colour profile; None if there was none.
    """

    pixels: Image.Image
    orientation: int
    num_frames: int
    profile: Profile | None


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The pixels of `read_picture`."""
    return read_picture(data, max_pixels).pixels


def read_picture(data: bytes, max_pixels: int = MAX_PIXELS) -> Picture:
    """The first frame of a PNG, JPEG, WebP, GIF, AVIF, BMP or TIFF, turned as EXIF says, in sRGB or grey by its colour
    profile; transparent parts are white, 16 bits are scaled to 8.

    A profile that cannot be used is left aside. MediaError `image_too_large` (more than `max_pixels`),
    `image_truncated` or `image_undecodable`.
    """
    kind = what(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities in metadata; bombs are refused below
            file = Image.open(io.BytesIO(data), formats=_FORMATS)
            width, height = file.size
            # Only the header has been read so far: this is the last moment at which a bomb is cheap.
            if not width * height:
                raise MediaError("image_undecodable", f"{kind} of no pixels")
            if width * height > max_pixels:
                raise MediaError("image_too_large", f"{width}x{height} is more than {max_pixels} pixels")
            most = min(_MAX_SCANS, _MAX_SCANNED_PIXELS // (width * height))
            if kind == "JPEG" and count_scans(data, most) > most:
                raise MediaError("image_undecodable", f"JPEG of more than {most} scans")
            num_frames = count_frames(data, file)
            turned = _orientation(file) if file.format == "TIFF" else 1  # Pillow turns these, and these alone
            file.load()
            orientation = _orientation(file)
            picture, profile = to_srgb(_eight_bits(file))
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError("image_too_large", f"{kind} of more than {max_pixels} pixels") from error
    except UnidentifiedImageError as error:
        raise MediaError("image_truncated" if is_truncated(data) else "image_undecodable", kind) from error
    except _BROKEN as error:
        is_cut = is_truncated(data) or (kind == "TIFF" and "truncated" in str(error))
        words = ": more than 64 MiB of text or profile" if "MAX_TEXT" in str(error) else plain(error)
        raise MediaError("image_truncated" if is_cut else "image_undecodable", kind + words) from error
    pixels = _flattened(picture)
    if orientation in _TURNS:
        pixels = pixels.transpose(_TURNS[orientation])
    return Picture(pixels=pixels, orientation=max(orientation, turned), num_frames=num_frames, profile=profile)


def fit(picture: Image.Image, side: int) -> Image.Image:
    """The middle square, scaled to `side` pixels by Lanczos: what curation stores."""
    return ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS)


def cover(picture: Image.Image, side: int) -> Image.Image:
    """Scaled by bicubic until it covers a square of `side` pixels, then its middle: what a tokenizer sees.

    Not `fit`: codes that were stored depend on these very pixels.
    """
    if picture.size == (side, side):
        return picture
    scale = side / min(picture.size)
    width, height = (max(side, round(length * scale)) for length in picture.size)
    left, top = (width - side) // 2, (height - side) // 2
    scaled = picture.resize((width, height), Image.Resampling.BICUBIC)
    return scaled.crop((left, top, left + side, top + side))


def affine(channel: NDArray[np.float32], size: tuple[int, int], coefficients: tuple[float, ...]) -> NDArray[np.float32]:
    """A channel (H, W) seen through x' = a x + b y + c, y' = d x + e y + f, from places (x, y) of a result of `size`
    (width, height) to places in the channel, bilinear between them; coordinates are of pixels, whose centres are at
    0.5."""
    seen = Image.fromarray(channel).transform(size, Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR)
    return np.asarray(seen, np.float32)


def encode_png(pixels: NDArray[np.uint8], compress_level: int = 6) -> bytes:
    """Bytes (H, W), (H, W, 1) or (H, W, 3) as a PNG, grey or RGB; the level (0 to 9) changes its size alone."""
    file = io.BytesIO()
    grey = pixels.ndim == 3 and pixels.shape[-1] == 1
    Image.fromarray(pixels[..., 0] if grey else pixels).save(file, "PNG", compress_level=compress_level)
    return file.getvalue()


def is_truncated(data: bytes) -> bool:
    """True if the bytes begin as a known format does and lack the end that this format prescribes."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in data[-64:]
    if data.startswith(b"\xff\xd8\xff"):
        return b"\xff\xd9" not in data[-64:]
    if data.startswith((b"GIF87a", b"GIF89a")):
        return not data.rstrip(b"\0").endswith(b";")
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    if data.startswith(b"BM"):
        return int.from_bytes(data[2:6], "little") > len(data)
    if data.startswith((b"II*\0", b"MM\0*")):
        return int.from_bytes(data[4:8], "little" if data[0] == ord("I") else "big") + 2 > len(data)
    return what(data) == "AVIF" and (missing(data, "mov") or "").startswith("a part")


def _orientation(file: Image.Image) -> int:
    try:
        value = file.getexif().get(ExifTags.Base.Orientation, 1)
    except _BROKEN:  # EXIF that is none turns nothing
        return 1
    return int(value) if value in range(1, 9) else 1


def _eight_bits(file: Image.Image) -> Image.Image:
    """16 bits a pixel scaled to 8: Pillow's own conversion would clip at 255."""
    if file.mode in ("F", "I"):
        raise MediaError("image_undecodable", f"{file.format} of 32 bits a pixel, which have no defined range")
    if not file.mode.startswith("I;16"):
        return file
    tags = getattr(file, "tag_v2", {})
    bits = int(tags.get(258, (16,))[0])  # TIFF's BitsPerSample: scanners write 12
    grey = Image.fromarray((np.asarray(file).astype(np.uint16) >> max(bits - 8, 0)).clip(0, 255).astype(np.uint8))
    clear = file.info.get("transparency")
    grey.info = {name: value for name, value in file.info.items() if name != "transparency"}
    if isinstance(clear, int):  # the one grey level that is transparent, of 16 bits too
        alpha = Image.fromarray(np.where(np.asarray(file) == clear, 0, 255).astype(np.uint8))
        info, grey = grey.info, Image.merge("LA", (grey, alpha))
        grey.info = info
    return grey


def _flattened(picture: Image.Image) -> Image.Image:
    mode = "L" if picture.mode in _GREY else "RGB"
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert(mode)
