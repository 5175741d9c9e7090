"""The loss as training sees it: a function of a model and a batch, and the sums over samples that it leaves.

Only sums travel between micro-batches, ranks and steps; a mean is taken at the very end. So no figure depends on how a
global batch was cut, and samples of unequal weight count by it.
"""

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import torch
from torch import nn

from pipeline.models.networks import LossFn, Tensors
from pipeline.train import ranks


@dataclass(frozen=True)
class Sums:
    """Sums over the samples of a micro-batch, a step, or several steps."""

    names: tuple[str, ...]
    """The K further sums, sorted."""
    values: torch.Tensor
    """(2 + K,) float64: the loss, its weight, and one sum for each name."""

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(self.names, self.values + other.values)

    def over_ranks(self, vote: bool = False) -> tuple["Sums", bool]:
        """The sums over all ranks, on the host, and whether any rank voted yes; a collective.

        This is where a step waits for its GPU. The vote rides along, so that it costs no message of its own.
        """
        # One message of a few numbers: what a collective costs is its start, not its bytes.
        packed = torch.cat([self.values, self.values.new_full((1,), float(vote))])  # (2 + K + 1,)
        packed = ranks.total(packed).cpu()
        return Sums(self.names, packed[:-1]), bool(packed[-1])

    @property
    def loss(self) -> float:
        """The mean loss."""
        return float(self.values[0]) / self.weight

    @property
    def weight(self) -> float:
        """What the sum of losses is divided by."""
        return float(self.values[1])

    @property
    def tokens(self) -> float:
        """How many tokens were learned; 0 for a network without any."""
        return self._named().get("tokens", 0.0)

    def means(self) -> dict[str, float]:
        """What to log: `loss` and each name, divided by its own weight if it has one.

        The sum `x` is divided by the sum `x/weight` if there is such a one (and left out where that is 0), else by the
        weight of the loss. `tokens` is no mean: see `Clock.step`.
        """
        named = self._named()
        values = {"loss": self.loss}
        for name, value in named.items():
            own = named.get(f"{name}/weight", self.weight)
            # A weight of 0: no sample of the step had any, and there is no mean to log.
            if own and name != "tokens" and not name.endswith("/weight"):
                values[name] = value / own
        return values

    def _named(self) -> dict[str, float]:
        return dict(zip(self.names, self.values[2:].tolist(), strict=True))


def added(parts: Iterable[Sums]) -> Sums:
    """The sums of several parts, one or more, added in their order."""
    return reduce(operator.add, parts)


class WithLoss(nn.Module):
    """Model and loss as one module, so that an engine that wraps `forward` wraps whatever the loss does."""

    def __init__(self, model: nn.Module, loss_fn: LossFn, precision: str) -> None:
        super().__init__()
        self.model = model
        self.names: tuple[str, ...] = ()
        """Of the further sums; known after the first `forward`."""
        self._loss_fn = loss_fn
        self._bf16 = precision == "bf16"

    def forward(self, batch: Tensors) -> tuple[torch.Tensor, torch.Tensor]:
        """(loss_sum, the `values` of its `Sums`). Tensors alone: DeepSpeed hooks what a module returns."""
        device = next(iter(batch.values())).device.type
        with torch.autocast(device, dtype=torch.bfloat16, enabled=self._bf16):
            loss_sum, weight, sums = self._loss_fn(self.model, batch)
        # Sorted: ranks add their values by position.
        self.names = tuple(sorted(sums))
        # In float64: sums of a whole epoch of tokens keep their last digits.
        values = [loss_sum, weight, *(sums[name] for name in self.names)]
        # Times 1, or nan: a loss that is not finite must not step even where its gradient is finite.
        finite = 1 + 0 * loss_sum.detach().float()
        return loss_sum.float() * finite, torch.stack([value.detach().double() for value in values])
