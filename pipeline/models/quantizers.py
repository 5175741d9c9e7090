"""From continuous vectors to integers and back.

A quantizer is a module with `width` (channels of z), `codebook_size`, and three methods:
- `forward(z)`: (B, width, ...) -> code vectors like z, indices (B, ...) int64, auxiliary loss (B,) to be added to the
  reconstruction's;
- `vectors(indices)`: (B, ...) -> code vectors (B, width, ...), exactly those that forward gave for these indices;
- `margin(z)`: (B, width, ...) -> (B,), how far the nearest component of each sample is from another index.
"""

import math

import torch
from torch import Tensor, nn

_EPS = 1e-3
"""By how much the bounded range passes the outermost levels, so that they are reached at finite z."""


class FSQ(nn.Module):
    """Finite scalar quantization: component i of z is rounded to one of `levels[i]` values (arXiv 2309.15505, A.1).

    There is no codebook to learn, to synchronise between ranks or to collapse. Index 0 is the lowest level of every
    component; the first component varies fastest. All arithmetic is float32, whatever the autocast.
    """

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.levels = levels
        self.width = len(levels)
        self.codebook_size = math.prod(levels)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Code vectors in [-1, 1] with straight-through gradients, indices, and no auxiliary loss."""
        bounded = self._bound(z.float())
        rounded = bounded + (bounded.round() - bounded).detach()
        digits = (bounded.detach().round() + self._per_channel(z, [n // 2 for n in self.levels])).long()
        indices = (digits * self._per_channel(z, self._basis()).long()).sum(1)
        return rounded / self._per_channel(z, [n // 2 for n in self.levels]), indices, z.new_zeros(z.shape[0]).float()

    def vectors(self, indices: Tensor) -> Tensor:
        """Code vectors (B, width, ...) of indices (B, ...)."""
        index = indices.unsqueeze(1)
        levels, basis = (self._per_channel(index, values).long() for values in (self.levels, self._basis()))
        half = self._per_channel(index, [n // 2 for n in self.levels])
        return ((index // basis) % levels - half) / half

    def margin(self, z: Tensor) -> Tensor:
        """Distance (B,) to the nearest rounding boundary, in levels, from 0 (on it) to 0.5."""
        bounded = self._bound(z.float())
        return (0.5 - (bounded - bounded.round()).abs()).flatten(1).amin(1)

    def _bound(self, z: Tensor) -> Tensor:
        # With an even number of levels rounding must be centred between two integers: the range is moved by half a
        # step, and z as well so that zero stays at zero.
        half = [(n - 1) * (1 + _EPS) / 2 for n in self.levels]
        offset = [0.0 if n % 2 else 0.5 for n in self.levels]
        shift = [math.atanh(o / h) for o, h in zip(offset, half, strict=True)]
        half, offset, shift = (self._per_channel(z, values) for values in (half, offset, shift))
        return (z + shift).tanh() * half - offset

    def _basis(self) -> list[int]:
        return [math.prod(self.levels[:i]) for i in range(self.width)]

    def _per_channel(self, like: Tensor, values: tuple[float, ...] | list[float]) -> Tensor:
        # Made at every call, not kept as buffers: those would be cast to bf16 with the model.
        return torch.tensor(values, dtype=torch.float32, device=like.device).view(1, -1, *[1] * (like.ndim - 2))
