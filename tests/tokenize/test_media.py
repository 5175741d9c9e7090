import io
import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from torchmetrics.image import PeakSignalNoiseRatio

from pipeline.models.config import DVAEConfig
from pipeline.tokenize.media import IMAGE, MEDIA, grid, medium_of, psnr_db, read_image, to_bytes, to_png
from tests.tokenize import toy

torch.set_num_threads(1)


def test_samples_of_a_table_are_what_was_written() -> None:
    x = toy.images(3)
    assert np.array_equal(IMAGE.samples(toy.image_table(x), toy.CONFIG), x.numpy())
    table = pa.table({"key": ["a", "b"], "image": [IMAGE.write(x[0].numpy()), None]})
    with pytest.raises(ValueError, match="^image b: "):
        IMAGE.samples(table, toy.CONFIG)


def test_rows_of_samples_are_drawn_one_under_the_other() -> None:
    x = toy.images(3).numpy()
    picture = IMAGE.draw(x, -x)
    assert picture.shape == (32, 48, 1) and picture.dtype == np.uint8
    assert abs(picture[:16].astype(int) + picture[16:] - 255).max() <= 1


@pytest.mark.parametrize("medium", MEDIA.values(), ids=lambda medium: medium.modality)
def test_a_medium_is_found_by_its_axes(medium) -> None:
    for channels in medium.channels:
        assert medium_of(DVAEConfig(dims=medium.dims, channels=channels)) is medium
    with pytest.raises(ValueError, match=f"model.channels is 7; {medium.noun} have {medium.dims} dims"):
        medium_of(DVAEConfig(dims=medium.dims, channels=7))


class Fixed:
    """Draws what it was given."""

    def __init__(self, *draws: np.ndarray) -> None:
        self.draws = list(draws)

    def uniform(self, low: float, high: float, size: int) -> np.ndarray:
        return np.asarray(self.draws.pop(0)) * (high if size == 2 else 1)


@pytest.mark.parametrize(("turn", "shear", "scale"), [(0, 0, 0), (1, 0, 0), (0, -1, 0), (0, 0, 1), (-0.7, 0.4, -0.9)])
def test_a_varied_picture_is_torch_s_affine_grid(turn: float, shear: float, scale: float) -> None:
    x = torch.nn.functional.avg_pool2d(toy.images(1, seed=2), 3, 1, 1)  # (1, 1, 16, 16)
    shift = (0.5, -1.0)
    found = IMAGE.vary(x[0].numpy(), Fixed([turn, shear, scale], shift))
    angle, slant = turn * math.radians(10), shear * 0.1
    theta = (1 + 0.1 * scale) * torch.tensor(
        [[math.cos(angle), slant - math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0]]
    )
    theta[:, 2] = 2 * 0.04 * torch.tensor(shift)  # torch's coordinates run from -1 to 1
    grid_of = torch.nn.functional.affine_grid(theta[None], x.shape, align_corners=False)
    expected = torch.nn.functional.grid_sample(x, grid_of, align_corners=False, padding_mode="border")
    np.testing.assert_allclose(found, expected[0].numpy(), atol=2e-5)


@pytest.mark.parametrize("medium", MEDIA.values(), ids=lambda medium: medium.modality)
def test_varied_samples_are_near_and_their_own(medium) -> None:
    x = toy.images(1)[0].numpy()
    varied = [medium.vary(x, np.random.default_rng(seed)) for seed in (0, 1, 0)]
    assert varied[0].shape == x.shape and varied[0].dtype == np.float32
    assert np.array_equal(varied[0], varied[2]) and not np.array_equal(varied[0], varied[1])
    assert np.abs(varied[0]).max() <= np.abs(x).max() + 1e-6


def test_a_blank_sample_is_black() -> None:
    assert IMAGE.draw(np.full((1, 1, 4, 4), IMAGE.blank, np.float32)).max() == 0


def test_psnr_is_its_closed_form_and_torchmetrics_() -> None:
    truth = torch.rand(3, 1, 8, 8) * 2 - 1
    assert psnr_db(truth + 0.02, truth) == pytest.approx(40.0, abs=1e-4)  # range 2, error 0.02: 20 log10(100)
    images = truth + torch.randn_like(truth) * 0.1
    reference = PeakSignalNoiseRatio(data_range=2.0)(images, truth).item()
    assert psnr_db(images, truth) == pytest.approx(reference, abs=1e-4)
    assert psnr_db(truth, truth) == math.inf
    with pytest.raises(ValueError, match="cannot be compared"):
        psnr_db(images[:1], truth)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_byte_survives_the_round_trip(channels: int) -> None:
    values = np.arange(256, dtype=np.float32).reshape(1, 16, 16).repeat(channels, 0) / 127.5 - 1
    back = read_image(to_png(values), DVAEConfig(channels=channels, size=16))
    assert back.shape == (channels, 16, 16) and back.dtype == np.float32
    np.testing.assert_array_equal(back, values)
    assert back.min() == -1 and back.max() == 1


def test_out_of_range_is_clipped_and_channels_go_last() -> None:
    pixels = np.stack([np.full((2, 2), v, np.float32) for v in (-3, 0, 3)])
    assert to_bytes(pixels)[0, 0].tolist() == [0, 128, 255]


def sized(channels: int, size: int) -> DVAEConfig:
    return DVAEConfig(channels=channels, size=size, multipliers=(1,))


def png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, format="PNG")
    return out.getvalue()


def test_other_sizes_are_covered_and_cropped_around_the_centre() -> None:
    wide = np.zeros((20, 60), np.uint8)
    wide[:, 20:40] = 255
    out = read_image(png(Image.fromarray(wide)), sized(1, 10))
    assert out.shape == (1, 10, 10) and out[0, :, 1:-1].min() > 0.9
    assert read_image(png(Image.new("L", (7, 33))), sized(1, 16)).shape == (1, 16, 16)


def test_transparent_is_white_and_palettes_are_read() -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert (read_image(png(clear), sized(1, 4)) == 1).all()
    red = Image.new("RGB", (4, 4), (255, 0, 0)).convert("P")
    assert read_image(png(red), sized(3, 4))[:, 0, 0].tolist() == [1, -1, -1]


def test_broken_bytes_are_refused() -> None:
    whole = png(Image.effect_noise((32, 32), 50))
    for data in (b"", b"<html>", whole[: len(whole) // 2]):
        with pytest.raises(ValueError, match=f"{len(data)} bytes are not a picture"):
            read_image(data, sized(1, 32))


def test_a_grid_lays_rows_one_under_the_other() -> None:
    x = np.linspace(-1, 1, 3 * 3 * 2 * 4, dtype=np.float32).reshape(3, 3, 2, 4)
    made = grid(x, -x)
    assert made.shape == (4, 12, 3)
    for i in range(3):
        assert np.array_equal(made[:2, 4 * i : 4 * i + 4], to_bytes(x[i]))
        assert np.array_equal(made[2:, 4 * i : 4 * i + 4], to_bytes(-x[i]))


def test_a_null_is_no_picture_and_a_quarter_turn_is_made() -> None:
    with pytest.raises(TypeError):
        read_image(None, sized(1, 32))  # what `Medium.samples` turns into the key of the row
    exif = Image.Exif()
    exif[0x0112] = 6
    upper = np.zeros((16, 16), np.uint8)
    upper[:8] = 255
    file = io.BytesIO()
    Image.fromarray(upper).save(file, "PNG", exif=exif)
    assert (read_image(file.getvalue(), sized(1, 16))[0, :, 8:] == 1).all()
