"""What torch.compile and activation checkpointing are applied to: the parts of a network that it names itself.

A network names its `blocks`, any modules, and perhaps a `head`: the last layer, from (B, ...) and, for a loss, targets
(B, ...) to what the loss reads. No parameter changes its name, so checkpoints fit with or without.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")
Outputs = tuple[torch.Tensor, ...]


def prepare(model: nn.Module, *, compiled: bool, recomputed: bool) -> None:
    """Compile the blocks and the head, in place, or make them keep only their inputs; ValueError if there are none.

    A head that keeps only its inputs takes a row of the batch at a time, as its logits outweigh all else.
    """
    if not (compiled or recomputed):
        return
    blocks = getattr(model, "blocks", None)
    if blocks is None:
        raise ValueError(
            f"{type(model).__name__} names no blocks; leave out --train.engine.compile and "
            "--train.engine.activation-checkpointing"
        )
    if compiled:  # blocks of one class share their code, and each shape counts as compiled again; a U-Net has many
        torch._dynamo.config.recompile_limit = max(64, torch._dynamo.config.recompile_limit)
    for block in blocks:
        forward = torch.compile(block.forward) if compiled else block.forward
        block.forward = partial(_again, forward) if recomputed else forward
    head = getattr(model, "head", None)
    if head is not None:
        forward = torch.compile(head.forward) if compiled else head.forward
        head.forward = partial(_again_by_row, forward) if recomputed else forward


def _again(forward: Callable[..., T], *args: torch.Tensor) -> T:
    if not torch.is_grad_enabled():
        return forward(*args)
    return checkpoint(forward, *args, use_reentrant=False)  # draws the same random numbers again


def _again_by_row(
    forward: Callable[..., Outputs], x: torch.Tensor, targets: torch.Tensor | None = None
) -> Outputs | torch.Tensor:
    if targets is None:
        return forward(x)
    rows = [_again(forward, *row) for row in zip(x.split(1), targets.split(1), strict=True)]  # B times (1, ...)
    return tuple(map(torch.cat, zip(*rows, strict=True)))
