import numpy as np
import pytest
import torch

from jobs.train_decoder import TrainDecoder, sampler
from pipeline.models.config import DenoiserConfig
from pipeline.models.denoiser import Denoiser
from pipeline.storage import Store
from pipeline.tokenize import package
from pipeline.tokenize.pixels import to_bytes
from tests.jobs.test_train_dvae import Pictures
from tests.tokenize import toy


def test_samples_are_images_reconstructions_and_what_the_network_makes(tmp_path) -> None:
    tokenizer = package.export(toy.dvae(), Store(str(tmp_path)), toy.images(20))
    rows, model = Pictures(3), Denoiser(DenoiserConfig(levels=toy.CONFIG.levels, width=16)).eval()
    draw = sampler(rows, tokenizer)
    with torch.no_grad():
        pixels, again = draw(model)["decoded"], draw(model)["decoded"]
    assert pixels.shape == (3 * 16, 3 * 16, 1) and np.array_equal(pixels, again)
    for i in range(3):
        column = pixels[:, 16 * i : 16 * (i + 1)]
        assert np.array_equal(column[:16], to_bytes(rows.x[i]))
        x = torch.from_numpy(column[None, :16].astype(np.float32).transpose(0, 3, 1, 2) / 127.5 - 1)
        assert np.abs(to_bytes(tokenizer.decode(tokenizer.encode(x)).numpy()[0]).astype(int) - column[16:32]).max() <= 1
    assert not np.array_equal(pixels[32:], pixels[16:32])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("max_corruption", 1.5, "max_corruption is 1.5; use 0 or more, 1 at most"),
        ("width", 0, "width is 0"),
        ("blocks", 0, "blocks is 0"),
        ("multipliers", (), r"multipliers is \(\)"),
        ("width", 12, "width is 12; use a multiple of groups, 8"),
    ],
)
def test_bad_values_are_named(name: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TrainDecoder(run_dir="r", images="i", tokenizer="t", **{name: value})
