"""The loss on samples that are not trained on, computed as in training: same collate, same precision, shared out over
ranks.

Guarantees: each evaluation sees the same samples with the same random choices, whatever the step and the number of
ranks, so its numbers can be compared over a run and between runs.
"""

import numpy as np
import torch
from torch import nn

from pipeline.models.networks import LossFn
from pipeline.train import ranks
from pipeline.train.config import TrainConfig
from pipeline.train.data.batches import Collate, Dataset, num_micro
from pipeline.train.data.order import Draw
from pipeline.train.loop import Evaluate
from pipeline.train.loss import Sums, WithLoss, added

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
        part_sums: list[Sums] = []
        for part in parts:
            # All ranks go forward equally often, as under ZeRO 3 they gather together; what is too much counts nothing.
            batch_ids = part if len(part) else ids[:1]
            draw = Draw(config.seed, batch_ids, np.full(len(batch_ids), _EPOCH))
            batch = collate(rows.take(batch_ids), draw)
            values = module({name: tensor.to(device) for name, tensor in batch.items()})[1]
            part_sums.append(Sums(module.names, values if len(part) else 0 * values))
        total, _ = added(part_sums).over_ranks()
        if total.weight == 0:
            raise ValueError(
                "the held-out data has no weight: none of its samples has anything to learn; name other data with "
                "--held-out, or leave it out"
            )
        return total.means()

    return evaluate
