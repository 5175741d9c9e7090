"""What the processes of one training run say to each other; with one process, nothing.

All functions are collectives: every rank calls them, in the same order.
"""

import os
from typing import TypeVar

import torch
import torch.distributed as dist

from cluster import env

T = TypeVar("T")


def world_size() -> int:
    """How many processes train together; 1 where no process group was started."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's number among them."""
    return dist.get_rank() if dist.is_initialized() else 0


def share(count: int) -> slice:
    """This rank's part of `count` things in a row; no rank's is larger than another's by more than one."""
    return slice(count * rank() // world_size(), count * (rank() + 1) // world_size())


def device(use_gpu: bool) -> torch.device:
    """Where this rank computes: the GPU of its `LOCAL_RANK`, or the CPU; ValueError if there is no GPU to use."""
    if not use_gpu:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ValueError("a GPU was asked for and torch sees none; use --cluster.no-use-gpu, or another machine")
    env.apply("worker")
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device


def total(values: torch.Tensor) -> torch.Tensor:
    """The sum of a tensor over ranks, in place."""
    if world_size() > 1:
        dist.all_reduce(values)
    return values


def all_true(value: bool, on: torch.device) -> bool:
    """Whether `value` is true on every rank."""
    if world_size() == 1:
        return value
    flag = torch.tensor([0 if value else 1], device=on)
    dist.all_reduce(flag)
    return int(flag.item()) == 0


def from_first(value: T, on: torch.device) -> T:
    """The value that rank 0 gave; the others' are ignored."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0, device=on)
    return box[0]


def barrier(on: torch.device) -> None:
    """Wait until every rank is here."""
    all_true(True, on)
