"""From the bytes of a web image to one PNG of known size and mode, with the scores that filters read.

Only formats on a short list are ever given to a decoder; the number of pixels is checked before any is decoded. Cost:
one decode, and memory for `max_pixels` in three channels.
"""

import hashlib
import io
import warnings
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from pipeline.curate.stage import Leave, Map, Row

_FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
_GREY = {"1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F"}


@dataclass(frozen=True, kw_only=True)
class DecodeImage(Map):
    """Decode `image` and write it back as PNG; fills size, aspect ratio, entropy and the pixels' digest.

    Scores describe the original (first frame, turned as its EXIF orientation says). Leaves as failed
    `image_truncated`, `image_undecodable`, or `image_too_large` (more than `max_pixels`).
    """

    image_size: int | None = None  # pixels per side of the PNG: shorter side scaled to it, middle cut out; None keeps
    mode: Literal["keep", "L", "RGB"] = "keep"  # keep: L for grey originals, else RGB
    max_pixels: int = 50_000_000  # refused beyond this, before decoding

    def __post_init__(self) -> None:
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size is {self.image_size}, but must be at least 1 pixel, or unset to keep sizes")
        if not 1 <= self.max_pixels <= (Image.MAX_IMAGE_PIXELS or 0):
            raise ValueError(f"max_pixels is {self.max_pixels}, but must lie in 1..{Image.MAX_IMAGE_PIXELS}")

    def map(self, row: Row) -> Row:
        """The row with a normalised PNG and its scores."""
        picture = open_image(row["image"], self.max_pixels)
        width, height = picture.size
        pixels = hashlib.sha256(f"{picture.mode} {width} {height} ".encode() + picture.tobytes())
        scores = {
            "width": width,
            "height": height,
            "aspect_ratio": max(width, height) / min(width, height),
            "entropy_bits": float(picture.convert("L").entropy()),
            "pixel_sha256": pixels.hexdigest(),
        }
        if self.mode != "keep":
            picture = picture.convert(self.mode)
        if self.image_size is not None:
            picture = ImageOps.fit(picture, (self.image_size, self.image_size), Image.Resampling.LANCZOS)
        return row | scores | {"image": encode_png(picture)}


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """Decode an image to mode L (grey originals) or RGB, transparent parts white; leaves as `DecodeImage` says."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # oddities in metadata; bombs are refused below
            file = Image.open(io.BytesIO(data), formats=_FORMATS)
            width, height = file.size
            if width * height > max_pixels:
                raise Leave("failed", "image_too_large", detail=f"{width}x{height} is more than {max_pixels} pixels")
            file.load()
            picture = ImageOps.exif_transpose(file)
    except Image.DecompressionBombError as error:
        raise Leave("failed", "image_too_large", detail=str(error)) from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError) as error:  # decoders raise all
        reason = "image_truncated" if is_truncated(data) else "image_undecodable"
        raise Leave("failed", reason, detail=f"{type(error).__name__}: {error}"[:200]) from error
    return _flatten(picture)


def encode_png(picture: Image.Image) -> bytes:
    """PNG bytes that depend on pixels and mode alone."""
    out = io.BytesIO()
    plain = Image.frombytes(picture.mode, picture.size, picture.tobytes())  # a PNG would carry metadata along
    plain.save(out, "PNG", optimize=False, compress_level=6)
    return out.getvalue()


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


def _flatten(picture: Image.Image) -> Image.Image:
    grey = picture.mode in _GREY
    if picture.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion would clip at 255 instead of scaling
        values = np.asarray(picture).astype(np.int64)
        picture = Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8))
    elif picture.mode == "F":
        raise Leave("failed", "image_undecodable", detail="floating-point pixels have no defined range")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("L" if grey else "RGB")
