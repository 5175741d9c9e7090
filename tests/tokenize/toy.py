"""A tiny tokenizer, pictures for it, and a stand-in for the training order's random numbers."""

import numpy as np
import pyarrow as pa
import torch

from pipeline.models.config import DVAEConfig
from pipeline.models.dvae import DVAE
from pipeline.records import IMAGE
from pipeline.tokenize.pixels import from_png, to_png

CONFIG = DVAEConfig(image_size=16, width=8, multipliers=(1, 2, 2), levels=(5, 4, 3))


def dvae() -> DVAE:
    """Untrained, but with latents spread over the whole codebook."""
    torch.manual_seed(0)
    model = DVAE(CONFIG).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("weight"):
                parameter.normal_(std=parameter[0].numel() ** -0.5)
        model.encoder[-1].weight.mul_(6)
    return model


def images(n: int, seed: int = 0) -> torch.Tensor:
    """(n, 1, 16, 16) as they come out of a PNG."""
    noise = np.random.default_rng(seed).random((n, 1, 16, 16), np.float32) * 2 - 1
    return torch.from_numpy(np.stack([from_png(to_png(x), 1, 16) for x in noise]))


def image_table(pictures: torch.Tensor) -> pa.Table:
    """IMAGE rows of pictures, with captions."""
    rows = [
        {"key": f"k{i}", "unit": "image", "caption": f"picture {i}", "image": to_png(x.numpy())}
        for i, x in enumerate(pictures)
    ]
    return pa.Table.from_pylist(rows, schema=IMAGE)


class Draw:
    """Numbers of each row from (seed, row id, purpose)."""

    def __init__(self, ids: list[int], seed: int = 0) -> None:
        self.ids, self.seed = ids, seed

    def _each(self, purpose: str) -> list[np.random.Generator]:
        return [np.random.default_rng([self.seed, i, *purpose.encode()]) for i in self.ids]

    def uniform(self, purpose: str, shape: tuple[int, ...] = ()) -> np.ndarray:
        return np.stack([np.asarray(g.random(shape, np.float32)) for g in self._each(purpose)])

    def normal(self, purpose: str, shape: tuple[int, ...] = ()) -> np.ndarray:
        return np.stack([np.asarray(g.standard_normal(shape, np.float32)) for g in self._each(purpose)])

    def integers(self, purpose: str, high: int, shape: tuple[int, ...] = ()) -> np.ndarray:
        return np.stack([np.asarray(g.integers(0, high, shape)) for g in self._each(purpose)])
