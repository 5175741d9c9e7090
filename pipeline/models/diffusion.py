"""Diffusion: the noise schedule, v-prediction, and preconditioning around a known mean; for samples of any shape.

x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise, at the timesteps t = 0 ... T - 1 (Ho et al., arXiv
2006.11239, equation 4). In code sqrt(alpha_bar_t) is `signal` and sqrt(1 - alpha_bar_t) is `sigma`, and so signal^2 +
sigma^2 = 1.

Letters: B batch, T = NUM_TIMESTEPS, `...` channels and any number of axes.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor

from pipeline.models.config import NUM_TIMESTEPS


@lru_cache
def alpha_bar() -> Tensor:
    """The signal's share of the variance at each of the T timesteps, (T,) float64, falling from about 1 to about 0.

    The cosine schedule of Nichol and Dhariwal (arXiv 2102.09672, equation 17).
    """
    t = torch.arange(NUM_TIMESTEPS + 1, dtype=torch.float64) / NUM_TIMESTEPS  # (T + 1,)
    f = torch.cos((t + 0.008) / 1.008 * math.pi / 2).square()
    # Beta is capped at 0.999 so that the last step keeps a trace of signal and nothing divides by zero.
    beta = (1 - f[1:] / f[:-1]).clamp(max=0.999)  # (T,)
    return torch.cumprod(1 - beta, dim=0)


def signal_and_sigma(t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), each (B, 1, ...) float32, for timesteps (B,) int64.

    They have as many axes as `like` (B, ...), which they are to be multiplied with.
    """
    share = alpha_bar().to(t.device)[t]  # (B,) float64: 1 - share loses nothing near 1
    share = share.view(-1, *[1] * (like.ndim - 1))  # (B, 1, ...)
    return share.sqrt().float(), (1 - share).sqrt().float()


def add_noise(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t for x_0 = `x` (B, ...)."""
    signal, sigma = signal_and_sigma(t, x)
    return signal * x + sigma * noise


def velocity(x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """v_t, the target, for x_0 = `x` (B, ...): signal noise - sigma x_0 (Salimans and Ho, arXiv 2202.00512, 4)."""
    signal, sigma = signal_and_sigma(t, x)
    return signal * noise - sigma * x


def x0_of(x_t: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """The x_0 (B, ...) that a predicted v stands for: the rotation of (x_t, v) back by the angle of t."""
    signal, sigma = signal_and_sigma(t, x_t)
    return signal * x_t - sigma * v


def precondition(x_t: Tensor, mean: Tensor, std: float, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What is known of v at x_t (B, ...) if x_0 is normal with this mean (B, ...) and deviation.

    Three tensors: the noisy detail x_t - signal mean at unit variance (B, ...), the expected v given x_t (B, ...), and
    the deviation of v from it (B, 1, ...). It is EDM's preconditioning (arXiv 2206.00364, section 5 and appendix B.6)
    for v, and around a mean other than zero: a network that sees the first, and whose output is scaled by the third and
    added to the second, has inputs and targets of unit variance at every noise level.
    """
    signal, sigma = signal_and_sigma(t, x_t)
    # The variance of x_t around signal mean: that of the detail, and that of the noise.
    scale = ((signal * std).square() + sigma.square()).sqrt()
    detail = (x_t - signal * mean) / scale
    # E[v | x_t] of two jointly normal variables: the mean of v, and its covariance with x_t over the variance of x_t.
    expected = signal * sigma * (1 - std**2) / scale * detail - sigma * mean
    # Var[v | x_t] = std^2 / scale^2, since signal^2 + sigma^2 = 1.
    return detail, expected, std / scale
