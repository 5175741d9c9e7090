import io

import numpy as np
import pytest
from PIL import Image

from pipeline.tokenize.pixels import from_png, grid, to_bytes, to_png


@pytest.mark.parametrize("channels", [1, 3])
def test_every_byte_survives_the_round_trip(channels: int) -> None:
    values = np.arange(256, dtype=np.float32).reshape(1, 16, 16).repeat(channels, 0) / 127.5 - 1
    back = from_png(to_png(values), channels, 16)
    assert back.shape == (channels, 16, 16) and back.dtype == np.float32
    np.testing.assert_array_equal(back, values)
    assert back.min() == -1 and back.max() == 1


def test_out_of_range_is_clipped_and_channels_go_last() -> None:
    pixels = np.stack([np.full((2, 2), v, np.float32) for v in (-3, 0, 3)])
    assert to_bytes(pixels)[0, 0].tolist() == [0, 128, 255]


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, format="PNG")
    return out.getvalue()


def test_other_sizes_are_covered_and_cropped_around_the_centre() -> None:
    wide = np.zeros((20, 60), np.uint8)
    wide[:, 20:40] = 255
    out = from_png(png(Image.fromarray(wide)), 1, 10)
    assert out.shape == (1, 10, 10) and out[0, :, 1:-1].min() > 0.9
    assert from_png(png(Image.new("L", (7, 33))), 1, 16).shape == (1, 16, 16)


def test_transparent_is_white_and_palettes_are_read() -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert (from_png(png(clear), 1, 4) == 1).all()
    red = Image.new("RGB", (4, 4), (255, 0, 0)).convert("P")
    assert from_png(png(red), 3, 4)[:, 0, 0].tolist() == [1, -1, -1]


def test_broken_bytes_and_odd_channels_are_refused() -> None:
    whole = png(Image.effect_noise((32, 32), 50))
    for data in (b"", b"<html>", whole[: len(whole) // 2]):
        with pytest.raises(ValueError, match=f"{len(data)} bytes are not a picture"):
            from_png(data, 1, 32)
    with pytest.raises(ValueError, match="channels 2"):
        from_png(whole, 2, 32)


def test_a_grid_lays_rows_one_under_the_other() -> None:
    x = np.linspace(-1, 1, 3 * 3 * 2 * 4, dtype=np.float32).reshape(3, 3, 2, 4)
    made = grid(x, -x)
    assert made.shape == (4, 12, 3)
    for i in range(3):
        assert np.array_equal(made[:2, 4 * i : 4 * i + 4], to_bytes(x[i]))
        assert np.array_equal(made[2:, 4 * i : 4 * i + 4], to_bytes(-x[i]))


def test_a_null_is_no_picture_and_a_quarter_turn_is_made() -> None:
    with pytest.raises(TypeError):
        from_png(None, 1, 32)  # what `collate.pictures` turns into the key of the row
    exif = Image.Exif()
    exif[0x0112] = 6
    upper = np.zeros((16, 16), np.uint8)
    upper[:8] = 255
    file = io.BytesIO()
    Image.fromarray(upper).save(file, "PNG", exif=exif)
    assert (from_png(file.getvalue(), 1, 16)[0, :, 8:] == 1).all()
