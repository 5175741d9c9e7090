"""The diffusion decoder: a small U-Net that turns noise into the picture behind a DVAE's reconstruction.

It predicts v (see `diffusion`). The reconstruction is nearly right, so the network is preconditioned around it, as EDM
is around zero: what it sees, and what it has to find, have unit variance at every noise level if the picture is the
reconstruction plus normal detail of deviation DETAIL_STD. An untrained denoiser is the exact one for such pictures, so
it starts at the reconstruction, and whatever it learns is what the reconstruction lacks.

Letters: B batch, C channels, H, W pixels, h, w codes, K components of a code vector; W_i channels at resolution i,
H_i, W_i its sides; E = 4 * width, of the condition. With dims 1 there is one axis for two.
"""

import itertools
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models.config import NUM_TIMESTEPS, DenoiserConfig
from pipeline.models.diffusion import add_noise, precondition, velocity, x0_of
from pipeline.models.layers import (
    ResBlock,
    Upsample,
    conv,
    conv_flops,
    resblock_flops,
    timestep_embedding,
    zero,
)

DETAIL_STD = 0.1
"""What a reconstruction lacks, as a deviation of pixels in [-1, 1] (26 dB). Only a scale: a factor of 5 is no harm."""


class Stage(nn.ModuleList):
    """The residual blocks of one resolution, each told the condition."""

    def __init__(self, config: DenoiserConfig, c_in: int, c_out: int) -> None:
        widths = [c_in, *[c_out] * config.blocks]
        super().__init__(
            ResBlock(config.dims, a, b, groups=config.groups, d_cond=4 * config.width)
            for a, b in itertools.pairwise(widths)
        )

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """(B, c_in, ...), condition (B, E) -> (B, c_out, ...)."""
        for block in self:
            x = block(x, cond)
        return x


class Denoiser(nn.Module):
    """A U-Net over noisy pixels, the DVAE's reconstruction and the vectors of the codes."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        dims, widths, d_cond = config.dims, config.widths, 4 * config.width
        self.cond = nn.Sequential(nn.Linear(2 * config.width, d_cond), nn.SiLU(), nn.Linear(d_cond, d_cond), nn.SiLU())
        self.stem = conv(dims, config.stem_channels, widths[0])
        self.down = nn.ModuleList(Stage(config, width, width) for width in widths)
        self.shrink = nn.ModuleList(conv(dims, a, b, kernel=4, stride=2) for a, b in itertools.pairwise(widths))
        self.grow = nn.ModuleList(Upsample(dims, b, a) for a, b in itertools.pairwise(widths))
        # Twice the width goes in: what comes from below, and what was there on the way down.
        self.up = nn.ModuleList(Stage(config, 2 * width, width) for width in widths[:-1])
        self.norm = nn.GroupNorm(config.groups, widths[0])
        self.out = conv(dims, widths[0], config.channels)
        zero(self.out)

    @property
    def blocks(self) -> list[nn.Module]:
        """What an engine may compile or compute twice: the modules in which the time is spent."""
        return [block for stage in (*self.down, *self.up) for block in stage.children()]

    def forward(self, x_t: Tensor, t: Tensor, recon: Tensor, vectors: Tensor, corruption: Tensor) -> Tensor:
        """Predicted v (B, C, H, W) float32.

        x_t and recon are (B, C, H, W); t (B,) int64; vectors (B, K, h, w), those of the codes, as the quantizer of the
        tokenizer gives them, where H and W are multiples of h and w; corruption (B,) in [0, 1] is the share of codes
        that may be wrong. ValueError if the sides cannot be halved.
        """
        sides = x_t.shape[2:]
        if any(n % 2 ** len(self.shrink) for n in sides):
            raise ValueError(
                f"an image of {tuple(sides)} pixels cannot be halved {len(self.shrink)} times; use fewer multipliers"
            )
        detail, expected, error = precondition(x_t, recon, DETAIL_STD, t)
        # The components of a code mean the same in every code, so the network reads them as they are; a vector learned
        # for each code would have to find that out from the few pictures in which the code occurs.
        spread = F.interpolate(vectors, size=sides, mode="nearest")  # (B, K, H, W)
        x = self.stem(torch.cat([detail, recon, spread], dim=1))  # (B, 2 C + K, H, W) -> (B, W_0, H, W)
        x = self._unet(x, self._condition(t, corruption))  # (B, W_0, H, W)
        rest = self.out(F.silu(self.norm(x))).float()  # (B, C, H, W), of unit variance once trained
        return expected + error * rest

    def _condition(self, t: Tensor, corruption: Tensor) -> Tensor:
        """(B,) and (B,) -> (B, E)."""
        width = self.config.width
        when = timestep_embedding(t, width)  # (B, width)
        doubt = timestep_embedding(corruption * NUM_TIMESTEPS, width)  # (B, width), over the same range as t
        return self.cond(torch.cat([when, doubt], dim=1))

    def _unet(self, x: Tensor, cond: Tensor) -> Tensor:
        """(B, W_0, H, W) -> (B, W_0, H, W)."""
        skips: list[Tensor] = []
        for i, stage in enumerate(self.down):
            if i > 0:
                x = self.shrink[i - 1](x)  # (B, W_{i-1}, ...) -> (B, W_i, half of each side)
            x = stage(x, cond)
            skips.append(x)
        # The coarsest output is where the way up begins, and needs no skip.
        for i in reversed(range(len(self.up))):
            x = self.grow[i](x)  # (B, W_{i+1}, ...) -> (B, W_i, twice each side)
            x = torch.cat([x, skips[i]], dim=1)  # (B, 2 W_i, ...): fine detail passes by the coarse resolutions
            x = self.up[i](x, cond)  # (B, W_i, ...)
        return x


def denoiser_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Mean squared error of v of each sample, in units of its deviation, summed over samples.

    The weight is the number of samples. `batch` holds x, recon, noise (B, C, H, W), vectors (B, K, h, w), t (B,) int64
    and corruption (B,). The units are those of `diffusion.precondition`, so every noise level weighs alike, as in EDM.
    """
    x, noise, t = batch["x"], batch["noise"], batch["t"]
    x_t = add_noise(x, noise, t)
    v = model(x_t, t, batch["recon"], batch["vectors"], batch["corruption"]).float()  # (B, C, H, W)
    _, _, error = precondition(x_t, batch["recon"], DETAIL_STD, t)  # (B, 1, 1, 1)
    loss = ((v - velocity(x, noise, t)) / error).square().flatten(1).mean(1)  # (B,)
    x0_mse = F.mse_loss(x0_of(x_t, v.detach(), t), x, reduction="none").flatten(1).mean(1)  # (B,), in pixels
    return loss.sum(), loss.new_tensor(float(len(x))), {"loss_v": loss.detach().sum(), "x0_mse": x0_mse.sum()}


def denoiser_flops(config: DenoiserConfig, batch: Mapping[str, Tensor]) -> float:
    """Operations of a forward pass over batch["x"] (B, C, H, W); see `networks.flops`."""
    dims, widths, x = config.dims, config.widths, batch["x"]
    d_cond = 4 * config.width
    area = [(x.shape[-1] >> i) ** dims for i in range(len(widths))]  # pixels at each resolution

    def stage(i: int, c_in: int) -> int:
        first = resblock_flops(dims, c_in, widths[i], area[i], d_cond)
        return first + (config.blocks - 1) * resblock_flops(dims, widths[i], widths[i], area[i], d_cond)

    count = 2 * d_cond * (2 * config.width + d_cond)  # the condition's two layers
    count += conv_flops(dims, config.stem_channels, widths[0], area[0])
    count += conv_flops(dims, widths[0], config.channels, area[0])
    for i, width in enumerate(widths):
        count += stage(i, width)
        if i > 0:
            count += conv_flops(dims, widths[i - 1], width, area[i], kernel=4)  # shrink
            count += conv_flops(dims, width, widths[i - 1], area[i - 1])  # grow
            count += stage(i - 1, 2 * widths[i - 1])  # up
    return float(len(x) * count)
