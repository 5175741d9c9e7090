"""The loss on samples that are not trained on, computed as in training: same collate, same precision, shared out over
ranks.

Guarantees: each evaluation sees the same samples with the same random choices, whatever the step and the number of
ranks, so its numbers can be compared over a run and between runs.
"""

import numpy as np
import torch
from torch import nn

from pipeline.train import ranks
from pipeline.train.config import TrainConfig
from pipeline.train.data.batches import Collate, Dataset, num_micro
from pipeline.train.data.order import Draw
from pipeline.train.engine import LossFn, WithLoss
from pipeline.train.loop import Evaluate
from pipeline.train.metrics import means

_EPOCH = -1  # of the random choices: that of no training step


def held_out(rows: Dataset, collate: Collate, loss_fn: LossFn, config: TrainConfig, device: torch.device) -> Evaluate:
    """What `loop.train` takes as `evaluate`: the means that training logs, over the first `train.eval_samples` rows.

    ValueError if there are none, or none from which anything could be learned.
    """
    if not len(rows):
        raise ValueError("the held-out data has no rows; name other data with --held-out, or leave it out")
    ids = np.arange(min(len(rows), config.eval_samples))
    micro_batch = config.micro_batch or max(1, config.global_batch // ranks.world_size())
    parts = np.array_split(ids[ranks.share(len(ids))], num_micro(len(ids), micro_batch))

    def evaluate(model: nn.Module) -> dict[str, float]:
        module = WithLoss(model, loss_fn, config.engine.precision)
        total = torch.zeros((), dtype=torch.float64, device=device)
        for part in parts:
            some = (
                part if len(part) else ids[:1]
            )  # all ranks go forward equally often: under ZeRO 3 they gather together
            batch = collate(rows.take(some), Draw(config.seed, some, np.full(len(some), _EPOCH)))
            sums = module({name: tensor.to(device) for name, tensor in batch.items()})[1]
            total = total + (sums if len(part) else 0 * sums)
        sums = ranks.total(total).tolist()
        if sums[1] == 0:
            raise ValueError(
                "the held-out data has no weight: none of its samples has anything to learn; name other data with "
                "--held-out, or leave it out"
            )
        return means(module.names, sums)

    return evaluate
