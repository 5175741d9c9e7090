"""Building blocks shared by the three networks; each takes and returns plain tensors of one device.

Letters: B batch, T tokens, E model width, H heads, K key-value heads, D head width, S cached tokens, C channels,
`...` one or two spatial axes.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models.config import Dims

_CONV: dict[int, type[nn.Conv1d] | type[nn.Conv2d]] = {1: nn.Conv1d, 2: nn.Conv2d}


def conv(dims: Dims, c_in: int, c_out: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    """A convolution over `dims` axes that keeps their length, or divides it by `stride` where it divides evenly."""
    return _CONV[dims](c_in, c_out, kernel, stride, padding=(kernel - 1) // 2)


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
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """(B, c_in, ...) -> (B, c_out, ...)."""
        h = self.norm_out(self.conv_in(F.silu(self.norm_in(x))))
        if self.film is not None:
            scale, shift = self.film(cond).unflatten(1, (2, -1)).unbind(1)  # (B, C) each
            broadcast = (...,) + (None,) * (h.ndim - 2)
            h = h * (1 + scale[broadcast]) + shift[broadcast]
        return self.skip(x) + self.conv_out(F.silu(h))


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
    angles = t[:, None].float() * powers.exp()  # (B, width / 2)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


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
    exponent = torch.arange(0, head_width, 2, dtype=torch.float32, device=positions.device) / head_width
    angles = positions[:, None, :, None].float() * base**-exponent  # (B, 1, T, D / 2)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn pairs (i, i + D/2) of each head by their position's angle (Su et al. 2021, half-split layout of Llama)."""
    a, b = x.float().chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
    """Scaled dot-product attention; q (B, H, T, D) and k, v (B, K, S, D) with H a multiple of K -> (B, H, T, D)."""
    kind = q.device.type
    # The bf16 backward of the CPU kernel is three times slower than its float32 one.
    dtype = torch.float32 if kind == "cpu" else v.dtype
    if kind != "cpu" and (mask is not None or dtype == torch.float32):  # the kernels that take those take no groups
        k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    with torch.autocast(kind, enabled=False):
        return F.scaled_dot_product_attention(
            q.to(dtype),
            k.to(dtype),
            v.to(dtype),
            attn_mask=mask,
            is_causal=causal,
            enable_gqa=q.shape[1] != k.shape[1],
        ).to(v.dtype)


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
        q, k, v = (part(x).unflatten(-1, (-1, self.width)).transpose(1, 2) for part in (self.q, self.k, self.v))
        q, k = rotate(self.q_norm(q), cos, sin), rotate(self.k_norm(k), cos, sin)  # (B, H, T, D), (B, K, T, D)
        if cache is not None:
            end = past + x.shape[1]
            for store, new in zip(cache, (k, v), strict=True):
                store[:, :, past:end] = new
            k, v = (store[:, :, :end].to(v.dtype) for store in cache)
        out = attend(q, k, v, mask, causal=mask is None and past == 0)
        return self.o(out.transpose(1, 2).flatten(2))  # (B, T, H * D) -> (B, T, E)


class SwiGLU(nn.Module):
    """Gated feed-forward layer: down(silu(gate(x)) * up(x)) (Shazeer 2020, arXiv 2002.05202)."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.gate = nn.Linear(d_model, d_ff, bias=False)
        self.up = nn.Linear(d_model, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, E) -> (B, T, E)."""
        return self.down(F.silu(self.gate(x)) * self.up(x))
