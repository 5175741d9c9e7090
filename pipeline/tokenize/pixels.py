"""Encoded pictures to floats in [-1, 1] and back; the one place that says what a pixel value means."""

import io

import numpy as np
from PIL import Image

_MODES = {1: "L", 3: "RGB"}


def from_png(data: bytes, channels: int, size: int) -> np.ndarray:
    """A picture as (C, size, size) float32 in [-1, 1]: -1 is black, transparent parts are white.

    Other sizes are scaled until they cover the square, and cropped around the centre. ValueError if the bytes are no
    picture, or channels is neither 1 nor 3.
    """
    if channels not in _MODES:
        raise ValueError(f"channels {channels} must be one of {sorted(_MODES)}")
    try:
        with Image.open(io.BytesIO(data)) as image:
            image.load()
    except (OSError, SyntaxError) as error:  # what Pillow raises for broken files
        raise ValueError(f"{len(data)} bytes are not a picture: {error}") from error
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert(_MODES[channels])
    if image.size != (size, size):
        scale = size / min(image.size)
        width, height = (max(size, round(side * scale)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - size) // 2, (height - size) // 2
        image = image.crop((left, top, left + size, top + size))
    pixels = np.asarray(image, dtype=np.float32).reshape(size, size, channels)  # (H, W, C)
    return (pixels / 127.5 - 1).transpose(2, 0, 1)


def to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Floats (..., C, H, W) to bytes (..., H, W, C), rounded and clipped."""
    scaled = np.clip(np.rint((np.asarray(pixels, dtype=np.float32) + 1) * 127.5), 0, 255).astype(np.uint8)
    return np.moveaxis(scaled, -3, -1)


def to_png(pixels: np.ndarray) -> bytes:
    """Floats (C, H, W) in [-1, 1] as a PNG."""
    pixels = to_bytes(pixels)
    out = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels).save(out, format="PNG")
    return out.getvalue()


def grid(*rows: np.ndarray) -> np.ndarray:
    """Rows (n, C, H, W) of pictures, one under the other, as one of (rows * H, n * W, C) bytes."""
    return to_bytes(np.concatenate([np.concatenate(list(row), axis=-1) for row in rows], axis=-2))
