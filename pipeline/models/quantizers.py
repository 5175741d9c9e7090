"""From continuous vectors to integers and back.

A quantizer is described by a `QuantizerConfig` and made by `build`; nobody else knows which kinds there are. Whoever
needs the vectors of codes asks the quantizer that made the codes: one with a learned codebook cannot be made anew.

Letters: B batch, K components of a code vector, `...` one or two spatial axes.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.models.config import QuantizerConfig

_EPS = 1e-3
"""By how much the bounded range passes the outermost levels, so that they are reached at finite z."""


class Quantizer(nn.Module):
    """What every kind offers; codes are 0 <= code < codebook_size."""

    width: int
    """Components of a code vector, K."""
    codebook_size: int

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, K, ...) -> code vectors like z, indices (B, ...) int64, auxiliary loss (B,) to add to the
        reconstruction's."""
        raise NotImplementedError

    def vectors(self, indices: Tensor) -> Tensor:
        """Indices (B, ...) -> code vectors (B, K, ...), exactly those that `forward` gave for these indices."""
        raise NotImplementedError

    def margin(self, z: Tensor) -> Tensor:
        """(B, K, ...) -> (B,), how far the nearest component of each sample is from another index."""
        raise NotImplementedError


def build(config: QuantizerConfig) -> Quantizer:
    """The quantizer of a config, untrained."""
    match config.kind:
        case "fsq":
            return FSQ(config.levels)


class FSQ(Quantizer):
    """Finite scalar quantization: component i of z is rounded to one of `levels[i]` values (arXiv 2309.15505, A.1).

    There is no codebook to learn, to synchronise between ranks or to collapse. Index 0 is the lowest level of every
    component; the first component varies fastest. All arithmetic is float32, whatever the autocast.
    """

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = levels
        self.width = len(levels)
        self.codebook_size = math.prod(levels)
        # Level i of n is the digit i; the digit of the code vector's zero is n // 2, and so is its largest distance.
        self._half = [n // 2 for n in levels]
        # What a digit counts in the index, as in a number of mixed base.
        self._basis = [math.prod(levels[:i]) for i in range(len(levels))]

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Code vectors in [-1, 1] with straight-through gradients, indices, and no auxiliary loss."""
        half = _per_channel(z, self._half)  # (1, K, 1, ...)
        bounded = self._bound(z.float())  # (B, K, ...), from about -half to half
        nearest = bounded.detach().round()
        # The value is `nearest` and the gradient that of `bounded`: rounding itself has none.
        straight = bounded + (bounded.round() - bounded).detach()
        digits = (nearest + half).long()  # (B, K, ...), from 0 to levels - 1
        indices = (digits * _per_channel(z, self._basis).long()).sum(1)  # (B, ...)
        return straight / half, indices, z.new_zeros(z.shape[0]).float()

    def vectors(self, indices: Tensor) -> Tensor:
        """Code vectors (B, K, ...) of indices (B, ...)."""
        index = indices.unsqueeze(1)  # (B, 1, ...)
        levels = _per_channel(index, self.levels).long()
        basis = _per_channel(index, self._basis).long()
        half = _per_channel(index, self._half)
        digits = (index // basis) % levels  # (B, K, ...)
        return (digits - half) / half

    def margin(self, z: Tensor) -> Tensor:
        """Distance (B,) to the nearest rounding boundary, in levels, from 0 (on it) to 0.5."""
        bounded = self._bound(z.float())  # (B, K, ...)
        from_level = (bounded - bounded.round()).abs()
        return (0.5 - from_level).flatten(1).amin(1)

    def _bound(self, z: Tensor) -> Tensor:
        """(B, K, ...) -> the range that is rounded, a little wider than the levels."""
        # With an even number of levels rounding must be centred between two integers: the range is moved by half a
        # step, and z as well so that zero stays at zero.
        reach = [(n - 1) * (1 + _EPS) / 2 for n in self.levels]
        offset = [0.0 if n % 2 else 0.5 for n in self.levels]
        shift = [math.atanh(o / r) for o, r in zip(offset, reach, strict=True)]
        return (z + _per_channel(z, shift)).tanh() * _per_channel(z, reach) - _per_channel(z, offset)


def _per_channel(like: Tensor, values: Sequence[float]) -> Tensor:
    """K numbers as (1, K, 1, ...) float32, to meet a tensor (B, K, ...)."""
    # Made at every call, not kept as buffers: those would be cast to bf16 with the model.
    return torch.tensor(values, dtype=torch.float32, device=like.device).view(1, -1, *[1] * (like.ndim - 2))
