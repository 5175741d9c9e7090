"""The discrete VAE: an encoder to a grid of integers and a decoder back, for images (dims 2) and sequences (dims 1).

No normalisation and no attention: a code depends on the pixels of its receptive field alone, so neither padding nor
neighbours in a batch can change it. Reconstructions are blurry by intent; detail is the diffusion decoder's work.

Letters: B batch, C channels, H, W pixels, h, w codes, K components of a code vector, `...` one or two axes of either.
"""

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models import quantizers
from pipeline.models.config import DVAEConfig
from pipeline.models.layers import ResBlock, Upsample, conv, conv_flops, resblock_flops


class DVAE(nn.Module):
    """The network; inputs are float in [-1, 1], (B, C, H, W) for images and (B, C, T) for sequences."""

    def __init__(self, config: DVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.quantizer = quantizers.build(config.quantizer)
        widths, k = config.widths, self.quantizer.width
        # The order of these lines is that in which random weights are drawn.
        down = _down(config)
        up = [conv(config.dims, k, widths[-1], kernel=1), *_up(config)]
        to_vectors = conv(config.dims, widths[-1], k, kernel=1)
        to_samples = conv(config.dims, widths[0], config.channels)
        self.encoder = nn.Sequential(*down, nn.SiLU(), to_vectors)
        self.decoder = nn.Sequential(*up, nn.SiLU(), to_samples)

    @property
    def blocks(self) -> list[nn.Module]:
        """What an engine may compile or compute twice: the modules in which the time is spent."""
        return [part for part in (*self.encoder, *self.decoder) if isinstance(part, ResBlock)]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, C, ...) -> reconstruction like x, codes (B, h, w) int64, auxiliary loss (B,) of the quantizer."""
        vectors, codes, aux = self.quantizer(self.latents(x))  # (B, K, h, w), (B, h, w), (B,)
        return self.decoder(vectors), codes, aux

    def latents(self, x: Tensor) -> Tensor:
        """What the quantizer rounds: (B, C, H, W) -> (B, K, h, w).

        ValueError if an axis is no multiple of the stride.
        """
        if any(n % self.config.stride for n in x.shape[2:]):
            raise ValueError(
                f"an input of shape {tuple(x.shape)} cannot be cut into codes of {self.config.stride} "
                "samples; pad or crop it"
            )
        return self.encoder(x)

    def encode(self, x: Tensor) -> Tensor:
        """(B, C, H, W) in [-1, 1] -> codes (B, h, w) int64."""
        return self.quantizer(self.latents(x))[1]

    def decode(self, codes: Tensor) -> Tensor:
        """Codes (B, h, w) -> (B, C, H, W), in [-1, 1] up to the decoder's error."""
        return self.decoder(self.quantizer.vectors(codes))


def _down(config: DVAEConfig) -> list[nn.Module]:
    """From samples (B, C, H, W) to (B, widths[-1], h, w)."""
    widths = config.widths
    layers: list[nn.Module] = [conv(config.dims, config.channels, widths[0])]
    for i, width in enumerate(widths):
        if i > 0:  # a kernel of twice the stride: every pixel counts in equally many outputs
            layers.append(conv(config.dims, widths[i - 1], width, kernel=4, stride=2))
        layers += [ResBlock(config.dims, width, width) for _ in range(config.blocks)]
    return layers


def _up(config: DVAEConfig) -> list[nn.Module]:
    """From (B, widths[-1], h, w) to (B, widths[0], H, W)."""
    widths = config.widths
    layers: list[nn.Module] = []
    for i in reversed(range(len(widths))):
        layers += [ResBlock(config.dims, widths[i], widths[i]) for _ in range(config.blocks)]
        if i > 0:
            layers.append(Upsample(config.dims, widths[i], widths[i - 1]))
    return layers


def dvae_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Mean absolute error of each sample of batch["x"] (B, C, ...), summed over samples; the weight is their number."""
    x = batch["x"]
    recon, _, aux = model(x)
    recon = recon.float()  # bf16 would round away errors of a grey level
    # Absolute, not squared: where several pictures are likely it takes one of them, and not their grey mean.
    l1 = F.l1_loss(recon, x, reduction="none").flatten(1).mean(1)  # (B,)
    mse = F.mse_loss(recon.detach(), x, reduction="none").flatten(1).mean(1)  # (B,)
    sums = {"l1": l1.detach().sum(), "mse": mse.sum(), "aux": aux.detach().sum()}
    return (l1 + aux).sum(), l1.new_tensor(float(len(x))), sums


def dvae_flops(config: DVAEConfig, batch: Mapping[str, Tensor]) -> float:
    """Operations of a forward pass over batch["x"] (B, C, H, W) or (B, C, T); see `networks.flops`."""
    dims, widths, x = config.dims, config.widths, batch["x"]
    area = [(x.shape[-1] >> i) ** dims for i in range(len(widths))]  # positions at each resolution
    count = 2 * conv_flops(dims, config.channels, widths[0], area[0])  # the encoder's first, the decoder's last
    count += 2 * conv_flops(
        dims, widths[-1], config.quantizer.width, area[-1], kernel=1
    )  # into and out of code vectors
    for i, width in enumerate(widths):
        count += 2 * config.blocks * resblock_flops(dims, width, width, area[i])
        if i > 0:
            count += conv_flops(dims, widths[i - 1], width, area[i], kernel=4)  # down
            count += conv_flops(dims, width, widths[i - 1], area[i - 1])  # up
    return float(len(x) * count)
