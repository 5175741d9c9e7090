"""The three networks: one line each. Whoever asks which networks there are, or what belongs to one, reads this table.

Floating-point operations are counted in closed form, from a network's config and the shapes of a batch: the
multiplications and additions (two operations) of matrix products and convolutions, as in PaLM (arXiv 2204.02311,
appendix B). Attention counts over the whole T x T square although half of it is masked, and so does the head; embedding
lookups, norms and activations do not. What activation checkpointing computes again is no progress and is not counted.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from pipeline.models.config import DenoiserConfig, DVAEConfig, GPTConfig
from pipeline.models.denoiser import Denoiser, denoiser_flops, denoiser_loss
from pipeline.models.dvae import DVAE, dvae_flops, dvae_loss
from pipeline.models.gpt import GPT, gpt_flops, gpt_loss

C = TypeVar("C")
M = TypeVar("M", bound=nn.Module)

Tensors = dict[str, Tensor]
"""The tensors that a loss reads, each (B, ...)."""

LossFn = Callable[[nn.Module, Tensors], tuple[Tensor, Tensor, Tensors]]
"""(model, batch) -> (loss_sum, weight, sums): sums over the micro-batch; `sums` are further ones to log, always the
same names, see `pipeline.train.loss`. All are 0-dimensional, and only `loss_sum` needs a gradient."""

_TRAIN = 3
"""Passes of a training step: one forward, and a backward of twice its cost (the gradients of inputs and weights)."""


@dataclass(frozen=True, kw_only=True)
class Network(Generic[C, M]):
    """What belongs to one network; `build(config)` makes it."""

    title: str
    config: type[C]
    build: type[M]
    loss: LossFn
    forward_flops: Callable[[C, Mapping[str, Tensor]], float]
    """Operations of a forward pass over a batch as the loss takes it."""


NETWORKS: dict[str, Network[Any, Any]] = {
    "dvae": Network(title="Discrete VAE", config=DVAEConfig, build=DVAE, loss=dvae_loss, forward_flops=dvae_flops),
    "gpt": Network(title="Transformer", config=GPTConfig, build=GPT, loss=gpt_loss, forward_flops=gpt_flops),
    "denoiser": Network(
        title="Diffusion decoder",
        config=DenoiserConfig,
        build=Denoiser,
        loss=denoiser_loss,
        forward_flops=denoiser_flops,
    ),
}
"""By the name that stands in the config.json of exported weights."""


def flops(model: nn.Module, batch: Mapping[str, Tensor]) -> float | None:
    """Operations of a training step on a batch as the losses take it; None for a network that is not in the table."""
    for network in NETWORKS.values():
        # By class: the engine hands over the module that it trains, and not its name.
        if isinstance(model, network.build):
            return _TRAIN * network.forward_flops(model.config, batch)
    return None
