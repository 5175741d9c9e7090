"""Pictures as arrays and as PNG; `tests/curate/image/test_decode.py` has the damaged ones."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.media.error import MediaError
from pipeline.media.image import cover, encode_png, fit, open_image


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 1), (3, 5, 3)])
@pytest.mark.parametrize("level", [1, 6])
def test_bytes_survive_the_png(shape: tuple[int, ...], level: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data = encode_png(pixels, level)
    assert data == encode_png(pixels.copy(), level)
    picture = open_image(data)
    assert picture.mode == ("RGB" if shape[-1:] == (3,) and len(shape) == 3 else "L")
    assert np.array_equal(np.asarray(picture).reshape(shape), pixels)


def test_the_default_level_is_that_of_the_format() -> None:
    pixels = np.random.default_rng(0).integers(0, 8, (32, 32), dtype=np.uint8)
    assert encode_png(pixels) == png(Image.fromarray(pixels))


def test_errors_are_values_of_a_user_with_a_code() -> None:
    whole = encode_png(np.random.default_rng(0).integers(0, 256, (9, 9), dtype=np.uint8))
    for data, max_pixels, reason in (
        (whole, 80, "image_too_large"),
        (whole[:50], 81, "image_truncated"),
        (b"<svg/>", 81, "image_undecodable"),
    ):
        with pytest.raises(MediaError) as caught:
            open_image(data, max_pixels)
        assert caught.value.reason == reason and isinstance(caught.value, ValueError)
    assert open_image(whole, 81).size == (9, 9)


@pytest.mark.parametrize("square", [fit, cover])
@pytest.mark.parametrize("size", [(60, 20), (20, 60), (7, 33), (16, 16)])
def test_squares_show_the_middle_of_a_picture(square, size: tuple[int, int]) -> None:
    width, height = size
    side = min(size)
    left, top = (width - side) // 2, (height - side) // 2
    pixels = np.zeros((height, width), np.uint8)
    pixels[top : top + side, left : left + side] = 255
    shown = np.asarray(square(Image.fromarray(pixels), 10))
    assert shown.shape == (10, 10) and shown[2:-2, 2:-2].min() > 230
    exact = Image.effect_noise((10, 10), 50)
    assert np.array_equal(square(exact, 10), exact)
