"""Building blocks shared by the three networks; each takes and returns plain tensors of one device.

Letters: B batch, T tokens, E model width, H heads, K key-value heads, D head width, S cached tokens, C channels,
`...` one or two spatial axes.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models.config import Dims

Conv = nn.Conv1d | nn.Conv2d

_CONV: dict[int, type[nn.Conv1d] | type[nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}


def conv(dims: Dims, c_in: int, c_out: int, kernel: int = 3, stride: int = 1) -> Conv:
    """A convolution over `dims` axes that keeps their length, or divides it by `stride` where it divides evenly."""
    return _CONV[dims](c_in, c_out, kernel, stride, padding=(kernel - 1) // 2)


def conv_flops(dims: Dims, c_in: int, c_out: int, area: int, kernel: int = 3) -> int:
    """Multiplications and additions of a convolution with `area` outputs a channel."""
    return 2 * c_in * c_out * area * kernel**dims


def zero(layer: Conv) -> None:
    """Make a convolution return zeros until it has learned otherwise."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


class ResBlock(nn.Module):
    """Pre-activation residual block over one or two axes: two 3-wide convolutions; starts as the identity.

    `groups` normalises by GroupNorm; None leaves it out, so that an output depends on its receptive field alone.
    With `d_cond` a vector (B, d_cond) scales and shifts the hidden channels (Perez et al. 2017, arXiv 1709.07871).
    """

    def __init__(
        self, dims: Dims, c_in: int, c_out: int, *, groups: int | None = None, d_cond: int | None = None
    ) -> None:
        super().__init__()
        self.norm_in = nn.GroupNorm(groups, c_in) if groups else nn.Identity()
        self.norm_out = nn.GroupNorm(groups, c_out) if groups else nn.Identity()
        self.conv_in = conv(dims, c_in, c_out)
        self.conv_out = conv(dims, c_out, c_out)
        self.skip = conv(dims, c_in, c_out, kernel=1) if c_in != c_out else nn.Identity()
        self.film = nn.Linear(d_cond, 2 * c_out) if d_cond else None
        zero(self.conv_out)  # the block adds nothing at first, so depth costs a new network no signal

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """(B, c_in, ...) -> (B, c_out, ...)."""
        h = self.conv_in(F.silu(self.norm_in(x)))  # (B, c_out, ...)
        h = self.norm_out(h)
        if self.film is not None:
            scale_shift = self.film(cond)  # (B, 2 * c_out)
            scale_shift = scale_shift.view(*scale_shift.shape, *[1] * (h.ndim - 2))  # (B, 2 * c_out, 1, ...)
            scale, shift = scale_shift.chunk(2, dim=1)  # (B, c_out, 1, ...) each
            h = h * (1 + scale) + shift
        return self.skip(x) + self.conv_out(F.silu(h))


def resblock_flops(dims: Dims, c_in: int, c_out: int, area: int, d_cond: int = 0) -> int:
    """Those of a ResBlock on `area` positions; norms and activations are not counted."""
    convs = conv_flops(dims, c_in, c_out, area) + conv_flops(dims, c_out, c_out, area)
    skip = conv_flops(dims, c_in, c_out, area, kernel=1) if c_in != c_out else 0
    film = 4 * d_cond * c_out
    return convs + skip + film


class Upsample(nn.Module):
    """Nearest-neighbour doubling of every axis, then a convolution: free of the checkerboards of transposed ones."""

    def __init__(self, dims: Dims, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = conv(dims, c_in, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, n, ...) -> (B, c_out, 2n, ...)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def timestep_embedding(t: Tensor, width: int, max_period: float = 10_000.0) -> Tensor:
    """Sines, then cosines, of (B,) times at width/2 frequencies from 1 to 1/max_period, both included: (B, width)."""
    half = width // 2
    powers = -math.log(max_period) * torch.arange(half, dtype=torch.float32, device=t.device) / (half - 1)
    frequencies = powers.exp()  # (width / 2,), a geometric series
    angles = t[:, None].float() * frequencies  # (B, width / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)  # (B, width)


class RMSNorm(nn.Module):
    """x / rms(x) * weight over the last axis, computed in float32 whatever the input is (Zhang and Sennrich 2019)."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> (..., width), in the dtype of `x`."""
        return F.rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(x.dtype)


def rotary(positions: Tensor, head_width: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines (B or 1, 1, T, D) for integer positions (B or 1, T), in float32.

    Computed at every call: a table kept as a buffer would be cast to bf16 with the model, which ruins high positions.
    """
    exponent = torch.arange(0, head_width, 2, dtype=torch.float32, device=positions.device) / head_width  # (D / 2,)
    times = positions[:, None, :, None].float()  # (B, 1, T, 1): one table for all heads
    angles = times * base**-exponent  # (B, 1, T, D / 2)
    angles = torch.cat([angles, angles], dim=-1)  # (B, 1, T, D): both halves of a head turn by the same angles
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pairs (i, i + D/2) of each head by their position's angle (Su et al. 2021, half-split layout of Llama)."""
    a, b = x.float().chunk(2, dim=-1)  # (B, H, T, D / 2) each
    turned = torch.cat([-b, a], dim=-1)  # (B, H, T, D): x turned by a right angle
    return x * cos + turned * sin


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Scaled dot-product attention; q (B, H, T, D) and k, v (B, K, S, D) with H a multiple of K -> (B, H, T, D)."""
    device = q.device.type
    # The bf16 backward of the CPU kernel is three times slower than its float32 one.
    dtype = torch.float32 if device == "cpu" else v.dtype
    group = q.shape[1] // k.shape[1]
    # On a GPU the kernels that take a mask or float32 take no groups: there each key is repeated for its queries.
    if device != "cpu" and (mask is not None or dtype == torch.float32):
        k = k.repeat_interleave(group, dim=1)  # (B, H, S, D)
        v = v.repeat_interleave(group, dim=1)  # (B, H, S, D)
        group = 1
    with torch.autocast(device, enabled=False):
        mixed = F.scaled_dot_product_attention(
            q.to(dtype),
            k.to(dtype),
            v.to(dtype),
            attn_mask=mask,
            is_causal=causal,
            enable_gqa=group > 1,
        )
    return mixed.to(v.dtype)  # (B, H, T, D)


class Attention(nn.Module):
    """Causal self-attention: grouped queries, RMS-normalised queries and keys, rotary positions, no biases."""

    def __init__(self, d_model: int, n_head: int, n_kv_head: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.width = d_model // n_head
        self.q = nn.Linear(d_model, n_head * self.width, bias=False)
        self.k = nn.Linear(d_model, n_kv_head * self.width, bias=False)
        self.v = nn.Linear(d_model, n_kv_head * self.width, bias=False)
        self.o = nn.Linear(n_head * self.width, d_model, bias=False)
        self.q_norm = RMSNorm(self.width, eps)
        self.k_norm = RMSNorm(self.width, eps)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None = None,
        cache: tuple[Tensor, Tensor] | None = None,
        past: int = 0,
    ) -> Tensor:
        """(B, T, E) -> (B, T, E). Without a mask, attention is causal.

        `cache` holds keys and values (B, K, seq_len, D) of which the first `past` are filled; the new ones are written
        behind them, in place.
        """
        q = self._heads(self.q(x))  # (B, H, T, D)
        k = self._heads(self.k(x))  # (B, K, T, D)
        v = self._heads(self.v(x))  # (B, K, T, D)
        # Normalised before they are turned: a rotation keeps lengths, so logits stay bounded at any position.
        q = rotate(self.q_norm(q), cos, sin)
        k = rotate(self.k_norm(k), cos, sin)
        if cache is not None:
            end = past + x.shape[1]
            keys, values = cache
            keys[:, :, past:end] = k
            values[:, :, past:end] = v
            k = keys[:, :, :end].to(v.dtype)  # (B, K, S, D), S = past + T
            v = values[:, :, :end].to(v.dtype)
        mixed = attend(q, k, v, mask, causal=mask is None and past == 0)  # (B, H, T, D)
        return self.o(mixed.transpose(1, 2).flatten(2))  # (B, T, H * D) -> (B, T, E)

    def _heads(self, x: Tensor) -> Tensor:
        """(B, T, n * D) -> (B, n, T, D)."""
        return x.unflatten(-1, (-1, self.width)).transpose(1, 2)


class SwiGLU(nn.Module):
    """Gated feed-forward layer: down(silu(gate(x)) * up(x)) (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.gate = nn.Linear(d_model, d_ff, bias=False)
        self.up = nn.Linear(d_model, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, E) -> (B, T, E)."""
        gate = F.silu(self.gate(x))  # (B, T, d_ff)
        return self.down(gate * self.up(x))
