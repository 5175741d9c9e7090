"""Colours as their file means them, in sRGB: what a picture without a profile is taken to be in.

littleCMS does it, with perceptual intent. A profile of more than 4 MiB, a broken one, or
one of another kind of colours than the picture's is left aside. Cost: one pass over the pixels; a profile's transform
is kept for the next picture that has the same.
"""

import functools
import io
from typing import Literal

import numpy as np
from PIL import Image, ImageCms

# Printers' profiles, the largest, have 0.5 to 3 MB.
_MAX_BYTES = 4 << 20
# Levels, of 255: two profiles that differ by no more are both sRGB, rounded differently.
_SAME = 2
_SPACES = {"RGB": "RGB ", "L": "GRAY", "CMYK": "CMYK"}
_STEPS = 9


def to_srgb(picture: Image.Image) -> tuple[Image.Image, Literal["srgb", "converted", "unusable"] | None]:
    """The picture in sRGB (grey stays grey), and what became of its profile: None if it has none."""
    if picture.mode == "LAB":
        lab = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
        return _applied(lab, picture), "converted"
    profile = picture.info.get("icc_profile")
    if not profile:
        return picture, None
    if picture.mode == "YCbCr":
        picture = picture.convert("RGB")
    if picture.mode in ("P", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    if picture.mode == "1":
        return picture, None  # black and white have no colours to convert
    alpha = picture.getchannel("A") if picture.mode in ("RGBA", "LA") else None
    colours = picture.convert(picture.mode[:-1]) if alpha else picture
    transform = _transform(bytes(profile[: _MAX_BYTES + 1]), colours.mode)
    if transform is None:
        return picture, "unusable"
    if transform == "srgb":
        return picture, "srgb"
    colours = _applied(transform, colours)
    if picture.mode in ("L", "LA"):
        colours = colours.convert("L")
    if alpha:
        colours.putalpha(alpha)
    return colours, "converted"


def _applied(transform: ImageCms.ImageCmsTransform, picture: Image.Image) -> Image.Image:
    out = ImageCms.applyTransform(picture, transform)
    assert out is not None  # None comes of transforms in place
    return out


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | Literal["srgb"] | None:
    """From this profile to sRGB; None if it cannot be used for pictures of this mode."""
    if len(profile) > _MAX_BYTES or mode not in _SPACES:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space != _SPACES[mode]:
            return None
        transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
        return "srgb" if mode != "CMYK" and _changes_nothing(transform, mode) else transform
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, MemoryError):
        return None


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    levels = np.linspace(0, 255, _STEPS).astype(np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels), -1).reshape(1, -1, 3)  # (1, 729, 3)
    probe = Image.fromarray(colours if mode == "RGB" else np.arange(256, dtype=np.uint8)[None])
    out = np.asarray(_applied(transform, probe)).astype(int)
    return int(np.abs(out - np.asarray(probe.convert("RGB")).astype(int)).max()) <= _SAME
