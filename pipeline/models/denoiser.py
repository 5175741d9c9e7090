"""The diffusion decoder: a small U-Net that turns noise into the picture behind a DVAE's reconstruction.

Diffusion: x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise, with the cosine alpha_bar of Nichol and Dhariwal
(arXiv 2102.09672); the target is v = sqrt(alpha_bar_t) noise - sqrt(1 - alpha_bar_t) x_0 (Salimans and Ho, arXiv
2202.00512).

The reconstruction is nearly right, so the network is preconditioned around it, as EDM is around zero (arXiv
2206.00364, section 5): what it sees, and what it has to find, have unit variance at every noise level if the picture
is the reconstruction plus normal detail of deviation DETAIL_STD. An untrained denoiser is the exact one for such
pictures, so it starts at the reconstruction, and whatever it learns is what the reconstruction lacks.

Letters: B batch, C channels, H, W pixels, h, w codes, T = NUM_TIMESTEPS.
"""

import itertools
import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models.config import NUM_TIMESTEPS, DenoiserConfig
from pipeline.models.layers import ResBlock, Upsample, conv, timestep_embedding
from pipeline.models.quantizers import FSQ

DETAIL_STD = 0.1
"""What a reconstruction lacks, as a deviation of pixels in [-1, 1] (26 dB). Only a scale: a factor of 5 is no harm."""


@lru_cache
def alpha_bar() -> Tensor:
    """The signal's share of the variance at each of the T timesteps, (T,) float64, falling from about 1 to about 0."""
    t = torch.arange(NUM_TIMESTEPS + 1, dtype=torch.float64) / NUM_TIMESTEPS
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2).square()
    # Beta is capped at 0.999 so that the last step keeps a trace of signal and nothing divides by zero.
    beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)
    return torch.cumprod(1 - beta, dim=0)


def signal_and_noise(t: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), each (B, 1, 1, 1) float32, for timesteps (B,) int64."""
    share = alpha_bar().to(t.device)[t][:, None, None, None]
    return share.sqrt().float(), (1 - share).sqrt().float()


def add_noise(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t for x_0 = `x` (B, C, H, W)."""
    signal, sigma = signal_and_noise(t)
    return signal * x + sigma * noise


def velocity(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """v_t, the target, for x_0 = `x` (B, C, H, W)."""
    signal, sigma = signal_and_noise(t)
    return signal * noise - sigma * x


def x0_of(x_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """The x_0 that a predicted v stands for."""
    signal, sigma = signal_and_noise(t)
    return signal * x_t - sigma * v


def precondition(x_t: Tensor, recon: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For pictures that are recon plus normal detail of DETAIL_STD: the noisy detail at unit variance (B, C, H, W), the
    expected v given x_t (B, C, H, W), and the deviation of v from it (B, 1, 1, 1)."""
    signal, sigma = signal_and_noise(t)
    scale = ((signal * DETAIL_STD).square() + sigma.square()).sqrt()
    detail = (x_t - signal * recon) / scale
    known = signal * sigma * (1 - DETAIL_STD**2) / scale * detail - sigma * recon
    return detail, known, DETAIL_STD / scale


class Denoiser(nn.Module):
    """A U-Net over noisy pixels, the DVAE's reconstruction and the vectors of the codes."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        widths, d_cond = [config.width * m for m in config.multipliers], 4 * config.width

        def stage(c_in: int, c_out: int) -> nn.ModuleList:
            sizes = [c_in, *[c_out] * config.blocks]
            return nn.ModuleList(
                ResBlock(2, a, b, groups=config.groups, d_cond=d_cond) for a, b in itertools.pairwise(sizes)
            )

        # The components of a code mean the same in every code; a vector learned for each would have to find that out
        # from the few pictures in which the code occurs.
        self.quantizer = FSQ(config.levels)
        self.cond = nn.Sequential(nn.Linear(2 * config.width, d_cond), nn.SiLU(), nn.Linear(d_cond, d_cond), nn.SiLU())
        self.stem = conv(2, 2 * config.channels + len(config.levels), widths[0])
        self.down = nn.ModuleList(stage(w, w) for w in widths)
        self.shrink = nn.ModuleList(conv(2, a, b, kernel=4, stride=2) for a, b in itertools.pairwise(widths))
        self.grow = nn.ModuleList(Upsample(2, b, a) for a, b in itertools.pairwise(widths))
        self.up = nn.ModuleList(stage(2 * w, w) for w in widths[:-1])
        self.norm = nn.GroupNorm(config.groups, widths[0])
        self.out = conv(2, widths[0], config.channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @property
    def blocks(self) -> list[nn.Module]:
        """What an engine may compile or compute twice: the modules in which the time is spent."""
        return [block for stage in (*self.down, *self.up) for block in stage]

    def forward(self, x_t: Tensor, t: Tensor, recon: Tensor, codes: Tensor, corruption: Tensor) -> Tensor:
        """Predicted v (B, C, H, W) float32.

        x_t and recon are (B, C, H, W); t (B,) int64; codes (B, h, w) int64, where H and W are multiples of h and w;
        corruption (B,) in [0, 1] is the share of codes that may be wrong. ValueError if the sides cannot be halved.
        """
        if any(n % 2 ** len(self.shrink) for n in x_t.shape[2:]):
            raise ValueError(
                f"an image of {tuple(x_t.shape[2:])} pixels cannot be halved {len(self.shrink)} times; "
                "use fewer multipliers"
            )
        vectors = self.quantizer.vectors(codes)  # (B, len(levels), h, w)
        vectors = F.interpolate(vectors, size=x_t.shape[2:], mode="nearest")
        width = self.config.width
        cond = self.cond(
            torch.cat([timestep_embedding(t, width), timestep_embedding(corruption * NUM_TIMESTEPS, width)], dim=1)
        )
        detail, known, error = precondition(x_t, recon, t)
        h, skips = self.stem(torch.cat([detail, recon, vectors], dim=1)), []
        for i, blocks in enumerate(self.down):
            h = self.shrink[i - 1](h) if i else h
            for block in blocks:
                h = block(h, cond)
            skips.append(h)
        for i in reversed(range(len(self.up))):
            h = torch.cat([self.grow[i](h), skips[i]], dim=1)
            for block in self.up[i]:
                h = block(h, cond)
        return known + error * self.out(F.silu(self.norm(h))).float()


def denoiser_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Mean squared error of v of each sample, in units of its deviation (see `precondition`), summed over samples.

    The weight is the number of samples. `batch` holds x, recon, noise (B, C, H, W), codes (B, h, w) and t (B,) int64,
    corruption (B,).
    """
    x, noise, t = batch["x"], batch["noise"], batch["t"]
    x_t = add_noise(x, noise, t)
    v = model(x_t, t, batch["recon"], batch["codes"], batch["corruption"]).float()
    error = precondition(x_t, batch["recon"], t)[2]
    loss = ((v - velocity(x, noise, t)) / error).square().flatten(1).mean(1)  # (B,)
    x0_mse = F.mse_loss(x0_of(x_t, v.detach(), t), x, reduction="none").flatten(1).mean(1)
    return loss.sum(), loss.new_tensor(float(len(x))), {"loss_v": loss.detach().sum(), "x0_mse": x0_mse.sum()}
