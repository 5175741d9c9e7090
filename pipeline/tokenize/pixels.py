"""Pictures as floats in [-1, 1] and back; the one place that says what a pixel value means to a model."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.media.error import MediaError
from pipeline.media.image import cover, encode_png, open_image

_MODES = {1: "L", 3: "RGB"}


def from_png(data: bytes, channels: int, size: int) -> NDArray[np.float32]:
    """A picture as (C, size, size) float32 in [-1, 1]: -1 is black, transparent parts are white.

    Other sizes are scaled until they cover the square, and cropped around the centre. ValueError if the bytes are no
    picture, or channels is neither 1 nor 3.
    """
    if channels not in _MODES:
        raise ValueError(f"channels {channels} must be one of {sorted(_MODES)}")
    size_bytes = len(data)  # here, so that a null in a column is a TypeError of its own
    try:
        picture = open_image(data)
    except MediaError as error:
        raise ValueError(f"{size_bytes} bytes are not a picture: {error.detail}") from error
    square = cover(picture.convert(_MODES[channels]), size)
    pixels = np.asarray(square, dtype=np.float32).reshape(size, size, channels)  # (H, W, C)
    return (pixels / 127.5 - 1).transpose(2, 0, 1)  # (C, H, W)


def to_bytes(pixels: ArrayLike) -> NDArray[np.uint8]:
    """Floats (..., C, H, W) to bytes (..., H, W, C), rounded and clipped."""
    scaled = np.clip(np.rint((np.asarray(pixels, dtype=np.float32) + 1) * 127.5), 0, 255).astype(np.uint8)
    return np.moveaxis(scaled, -3, -1)


def to_png(pixels: ArrayLike) -> bytes:
    """Floats (C, H, W) in [-1, 1] as a PNG."""
    return encode_png(to_bytes(pixels))


def grid(*rows: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Rows (n, C, H, W) of pictures, one under the other, as one of (rows * H, n * W, C) bytes."""
    return to_bytes(np.concatenate([np.concatenate(list(row), axis=-1) for row in rows], axis=-2))
