"""Colour profiles: against closed forms, and what is left aside."""

import numpy as np
import pytest
from PIL import Image

from pipeline.media.colour import to_srgb
from tests.media.image_kinds import BLUE, GREEN, GREY_LINEAR, RED, SRGB, SWAPPED, encoded, rgb_profile, scene


def tagged(picture: Image.Image, profile: bytes | None) -> Image.Image:
    picture.info["icc_profile"] = profile
    return picture


@pytest.mark.parametrize("level", [10, 60, 128, 200, 250])
def test_linear_light_is_encoded_by_the_standards_curve(level: int) -> None:
    for mode, profile in (("L", GREY_LINEAR), ("RGB", rgb_profile(RED, GREEN, BLUE, 1.0))):
        picture = Image.new(mode, (3, 3), level if mode == "L" else (level,) * 3)
        out, outcome = to_srgb(tagged(picture, profile))
        assert outcome == "converted" and out.mode == mode
        assert np.abs(np.asarray(out).astype(int) - encoded(level / 255)).max() <= 2


def test_swapped_primaries_are_swapped_back() -> None:
    out, outcome = to_srgb(tagged(Image.new("RGB", (2, 2), (207, 25, 118)), SWAPPED))
    assert outcome == "converted"
    assert np.abs(np.asarray(out)[0, 0].astype(int) - (25, 207, 118)).max() <= 10  # a gamma of 2.2 for sRGB's curve


def test_srgb_leaves_every_pixel_as_it_is() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    for profile, outcome in ((SRGB, "srgb"), (None, None), (b"", None)):
        out, found = to_srgb(tagged(noise, profile))
        assert found == outcome and np.array_equal(np.asarray(out), np.asarray(noise))


@pytest.mark.parametrize(
    "profile", [b"x", b"\0" * 200, SWAPPED[:-40], SRGB[:128], GREY_LINEAR, SWAPPED + bytes(5 << 20)]
)
def test_a_profile_that_cannot_be_used_is_left_aside(profile: bytes) -> None:
    out, outcome = to_srgb(tagged(scene(), profile))
    assert outcome == "unusable" and np.array_equal(np.asarray(out), np.asarray(scene()))


def test_no_damage_to_a_profile_is_an_error() -> None:
    rng = np.random.default_rng(0)
    for base in (SRGB, SWAPPED):
        for _ in range(200):
            damaged = bytearray(base)
            for at in rng.integers(0, len(base), 3):
                damaged[at] = rng.integers(0, 256)
            to_srgb(tagged(scene(), bytes(damaged)))


def test_transparency_is_kept() -> None:
    picture = scene().convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    out, outcome = to_srgb(tagged(picture, SWAPPED))
    assert outcome == "converted" and out.mode == "RGBA"
    assert np.array_equal(np.asarray(out)[..., 3], np.asarray(picture)[..., 3])
