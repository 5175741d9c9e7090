"""Floating-point operations of one training step, in closed form from a network's config; for MFU and for predictions.

Counted are the multiplications and additions (two operations) of matrix products and convolutions, as in PaLM (arXiv
2204.02311, appendix B): attention over the whole T x T square although half of it is masked, the head, but neither
embedding lookups nor norms and activations. The backward pass costs twice the forward one; what activation
checkpointing computes again is not counted, since it is no progress. Checked against torch's own counter.

Letters as in the networks: T tokens, V vocabulary, E model width, H heads, K key-value heads, D head width, F hidden
width, L layers; C channels.
"""

from collections.abc import Mapping

from torch import Tensor, nn

from pipeline.models.config import DenoiserConfig, DVAEConfig, GPTConfig
from pipeline.models.denoiser import Denoiser
from pipeline.models.dvae import DVAE
from pipeline.models.gpt import GPT

_TRAIN = 3  # one forward, and a backward of twice its cost


def gpt(config: GPTConfig, seq_len: int) -> float:
    """FLOPs, forward and backward, of one row of `seq_len` tokens."""
    width = config.d_model // config.n_head
    projections = 2 * config.d_model * width * (2 * config.n_head + 2 * config.n_kv_head)  # q and o, k and v
    square = 4 * seq_len * config.n_head * width  # q k^T, and its product with v
    layer = projections + square + 6 * config.d_model * config.d_ff
    return float(_TRAIN * seq_len * (config.n_layer * layer + 2 * config.d_model * config.vocab_size))


def denoiser(config: DenoiserConfig, size: int) -> float:
    """FLOPs, forward and backward, of one image of `size` x `size` pixels."""
    widths, d_cond = [config.width * m for m in config.multipliers], 4 * config.width
    area = [(size >> i) ** 2 for i in range(len(widths))]  # pixels at each resolution

    def stage(i: int, c_in: int) -> int:
        first = _resblock(2, c_in, widths[i], area[i], d_cond)
        return first + (config.blocks - 1) * _resblock(2, widths[i], widths[i], area[i], d_cond)

    total = 2 * d_cond * (2 * config.width + d_cond)
    total += _conv(2, 2 * config.channels + len(config.levels), widths[0], area[0], 3)
    total += _conv(2, widths[0], config.channels, area[0], 3)
    for i, width in enumerate(widths):
        total += stage(i, width)
        if i:
            total += _conv(2, widths[i - 1], width, area[i], 4) + _conv(2, width, widths[i - 1], area[i - 1], 3)
            total += stage(i - 1, 2 * widths[i - 1])
    return float(_TRAIN * total)


def dvae(config: DVAEConfig, size: int) -> float:
    """FLOPs, forward and backward, of one image of `size` x `size` pixels, or of a sequence of `size` samples."""
    dims, widths = config.dims, [config.width * m for m in config.multipliers]
    area = [(size >> i) ** dims for i in range(len(widths))]
    total = 2 * _conv(dims, config.channels, widths[0], area[0], 3)  # the first of the encoder, the last of the decoder
    total += 2 * _conv(dims, widths[-1], len(config.levels), area[-1], 1)  # into and out of the quantizer
    for i, width in enumerate(widths):
        total += 2 * config.blocks * _resblock(dims, width, width, area[i], 0)
        if i:
            total += _conv(dims, widths[i - 1], width, area[i], 4) + _conv(dims, width, widths[i - 1], area[i - 1], 3)
    return float(_TRAIN * total)


def of_batch(model: nn.Module, batch: Mapping[str, Tensor]) -> float | None:
    """FLOPs, forward and backward, of a batch as the losses take it; None for a network that is none of the three."""
    if isinstance(model, GPT):
        rows, seq_len = batch["tokens"].shape
        return rows * gpt(model.config, seq_len)
    if isinstance(model, Denoiser):
        return len(batch["x"]) * denoiser(model.config, batch["x"].shape[-1])
    if isinstance(model, DVAE):
        return len(batch["x"]) * dvae(model.config, batch["x"].shape[-1])
    return None


def _conv(dims: int, c_in: int, c_out: int, area: int, kernel: int) -> int:
    """Of a convolution with `area` outputs per channel."""
    return 2 * c_in * c_out * area * kernel**dims


def _resblock(dims: int, c_in: int, c_out: int, area: int, d_cond: int) -> int:
    skip = _conv(dims, c_in, c_out, area, 1) if c_in != c_out else 0
    return _conv(dims, c_in, c_out, area, 3) + _conv(dims, c_out, c_out, area, 3) + skip + 4 * d_cond * c_out
