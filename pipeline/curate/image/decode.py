"""From the bytes of a web image to one PNG of known size and mode, with the scores that filters read."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.curate.stage import Leave, Map, Row
from pipeline.media.error import MediaError
from pipeline.media.image import MAX_PIXELS, encode_png, fit, read_picture
from pipeline.ranges import check_range


@dataclass(frozen=True, kw_only=True)
class DecodeImage(Map):
    """Decode `image` and write it back as PNG; fills size, aspect ratio, entropy, the pixels' digest, and what
    the file was: its EXIF orientation, number of frames, and what became of its colour profile.

    Scores describe the original (first frame, turned as its EXIF orientation says, in sRGB). Leaves as failed
    `image_truncated`, `image_undecodable`, or `image_too_large` (more than `max_pixels`).
    """

    image_size: int | None = None  # pixels per side of the PNG: shorter side scaled to it, middle cut out; None keeps
    mode: Literal["keep", "L", "RGB"] = "keep"  # keep: L for grey originals, else RGB
    max_pixels: int = 50_000_000  # pixels: refused beyond, before decoding; cameras of phones make as many

    def __post_init__(self) -> None:
        check_range(self, "image_size", low=1)
        check_range(self, "max_pixels", low=1, high=MAX_PIXELS)

    def map(self, row: Row) -> Row:
        """The row with a normalised PNG and its scores."""
        try:
            original = read_picture(row["image"], self.max_pixels)
        except MediaError as error:
            raise Leave("failed", error.reason, detail=error.detail) from error
        picture = original.pixels
        width, height = picture.size
        # Mode and size belong to the digest: flat pictures of other shapes have the same bytes.
        pixels = hashlib.sha256(f"{picture.mode} {width} {height} ".encode() + picture.tobytes())
        scores = {
            "width": width,
            "height": height,
            "aspect_ratio": max(width, height) / min(width, height),
            "entropy_bits": float(picture.convert("L").entropy()),
            "pixel_sha256": pixels.hexdigest(),
            "orientation": original.orientation,
            "num_frames": original.num_frames,
            "color_profile": original.profile,
        }
        if self.mode != "keep":
            picture = picture.convert(self.mode)
        if self.image_size is not None:
            picture = fit(picture, self.image_size)
        return row | scores | {"image": encode_png(np.asarray(picture))}
