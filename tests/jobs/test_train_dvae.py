import numpy as np
import pyarrow as pa
import pytest
import torch

from jobs.train_dvae import TrainDVAE, sampler
from pipeline.models.config import DVAEConfig
from pipeline.models.dvae import DVAE
from pipeline.tokenize.pixels import to_bytes, to_png

CONFIG = DVAEConfig(image_size=16, width=8, multipliers=(1, 2))


class Pictures:
    """Rows of pictures of noise."""

    def __init__(self, rows: int) -> None:
        self.x = np.random.default_rng(0).random((rows, 1, 16, 16), np.float32) * 2 - 1

    def __len__(self) -> int:
        return len(self.x)

    def take(self, ids: np.ndarray) -> pa.Table:
        return pa.table({"key": [str(i) for i in ids], "image": [to_png(self.x[i]) for i in ids]})


def test_samples_are_the_first_images_above_their_reconstructions() -> None:
    rows, model = Pictures(20), DVAE(CONFIG).eval()
    with torch.no_grad():
        pixels = sampler(rows, CONFIG)(model)["reconstruction"]
    assert pixels.shape == (2 * 16, 8 * 16, 1) and pixels.dtype == np.uint8
    for i in range(8):
        column = pixels[:, 16 * i : 16 * (i + 1)]
        assert np.array_equal(column[:16], to_bytes(rows.x[i]))
        x = torch.from_numpy(to_bytes(rows.x[i : i + 1]).astype(np.float32).transpose(0, 3, 1, 2) / 127.5 - 1)
        with torch.no_grad():
            made = to_bytes(model.decode(model.encode(x)).numpy()[0])
        assert np.abs(made.astype(int) - column[16:]).max() <= 1


@pytest.mark.parametrize("model", [{"dims": 1}, {"channels": 2}])
def test_what_are_no_images_is_refused(model: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="images have 2 dims and 1 or 3 channels"):
        TrainDVAE(run_dir="r", images="i", model=DVAEConfig(**model))
