"""The discrete VAE: an encoder to a grid of integers and a decoder back, for images (dims 2) and sequences (dims 1).

No normalisation and no attention: a code depends on the pixels of its receptive field alone, so neither padding nor
neighbours in a batch can change it. Reconstructions are blurry by intent; detail is the diffusion decoder's work.

Letters: B batch, C channels, H, W pixels, h, w codes, `...` either.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models.config import DVAEConfig
from pipeline.models.layers import ResBlock, Upsample, conv
from pipeline.models.quantizers import FSQ


class DVAE(nn.Module):
    """The network; inputs are float in [-1, 1], (B, C, H, W) for images and (B, C, T) for sequences."""

    def __init__(self, config: DVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.quantizer = FSQ(config.levels)
        widths = [config.width * m for m in config.multipliers]
        down: list[nn.Module] = [conv(config.dims, config.channels, widths[0])]
        for i, width in enumerate(widths):
            if i > 0:
                down.append(conv(config.dims, widths[i - 1], width, kernel=4, stride=2))
            down += [ResBlock(config.dims, width, width) for _ in range(config.blocks)]
        up: list[nn.Module] = [conv(config.dims, self.quantizer.width, widths[-1], kernel=1)]
        for i in reversed(range(len(widths))):
            up += [ResBlock(config.dims, widths[i], widths[i]) for _ in range(config.blocks)]
            if i > 0:
                up.append(Upsample(config.dims, widths[i], widths[i - 1]))
        self.encoder = nn.Sequential(*down, nn.SiLU(), conv(config.dims, widths[-1], self.quantizer.width, kernel=1))
        self.decoder = nn.Sequential(*up, nn.SiLU(), conv(config.dims, widths[0], config.channels))

    @property
    def blocks(self) -> list[nn.Module]:
        """What an engine may compile or compute twice: the modules in which the time is spent."""
        return [part for part in (*self.encoder, *self.decoder) if isinstance(part, ResBlock)]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, C, ...) -> reconstruction like x, codes (B, h, w) int64, auxiliary loss (B,) of the quantizer."""
        vectors, codes, aux = self.quantizer(self.latents(x))
        return self.decoder(vectors), codes, aux

    def latents(self, x: Tensor) -> Tensor:
        """What the quantizer rounds: (B, C, ...) -> (B, len(levels), ...).

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


def dvae_loss(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Mean absolute error of each sample of batch["x"], summed over samples; the weight is their number."""
    x = batch["x"]
    recon, _, aux = model(x)
    recon = recon.float()
    l1 = F.l1_loss(recon, x, reduction="none").flatten(1).mean(1)  # (B,)
    mse = F.mse_loss(recon.detach(), x, reduction="none").flatten(1).mean(1)
    sums = {"l1": l1.detach().sum(), "mse": mse.sum(), "aux": aux.detach().sum()}
    return (l1 + aux).sum(), l1.new_tensor(float(len(x))), sums
