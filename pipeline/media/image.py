"""Bytes of a picture to pixels and back.

Guarantees: only formats on a short list ever reach a decoder; the number of pixels is checked before any is decoded;
PNG bytes depend on pixels alone. Cost: one decode, and memory for the picture in three or four channels.
"""

import io
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.media.error import MediaError

MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 0
"""Pillow's own bound against decompression bombs: 256 MiB at three bytes a pixel."""

# What the web shows. Each further decoder would be one more parser of hostile bytes.
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F"}
# Pillow's decoders raise all of these for broken files.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError)


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The first frame of a PNG, JPEG, WebP or GIF, turned as EXIF says, in mode L (grey originals) or RGB; transparent
    parts are white, 16 bits are scaled to 8.

    MediaError `image_too_large` (more than `max_pixels`), `image_truncated` or `image_undecodable`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities in metadata; bombs are refused below
            file = Image.open(io.BytesIO(data), formats=_FORMATS)
            width, height = file.size
            # Only the header has been read so far: this is the last moment at which a bomb is cheap.
            if width * height > max_pixels:
                raise MediaError("image_too_large", f"{width}x{height} is more than {max_pixels} pixels")
            file.load()
            picture = ImageOps.exif_transpose(file)
    except MediaError:
        raise
    except Image.DecompressionBombError as error:
        raise MediaError("image_too_large", str(error)) from error
    except _BROKEN as error:
        reason = "image_truncated" if is_truncated(data) else "image_undecodable"
        raise MediaError(reason, f"{type(error).__name__}: {error}"[:200]) from error
    return _flattened(picture)


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
    return False


def _flattened(picture: Image.Image) -> Image.Image:
    mode = "L" if picture.mode in _GREY else "RGB"
    if picture.mode == "F":
        raise MediaError("image_undecodable", "floating-point pixels have no defined range")
    if picture.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion would clip at 255 instead of scaling
        deep = np.asarray(picture).astype(np.int64)
        picture = Image.fromarray((deep >> 8).clip(0, 255).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert(mode)
