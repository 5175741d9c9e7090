"""The batches that a rank trains on, prepared while the steps before them run.

Guarantees: a rank reads the rows of its own share and no others, and of a step's samples it gets neighbours, so that
several ranks seldom read the same row group; which samples a step has does not depend on it. Batches come in the order
of their steps; `prefetch` of them, of this rank's share, are in memory or in the making. An error in the making is
raised where the batch is asked for.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import torch

from pipeline.train import ranks
from pipeline.train.data.order import Draw, Stream


class Dataset(Protocol):
    """Rows by id, and their order: `Rows`, or `MixedRows` of several."""

    def __len__(self) -> int: ...

    def order(self, seed: int, window_groups: int) -> Stream:
        """The order in which these rows are trained on."""
        ...

    def take(self, ids: np.ndarray) -> pa.Table:
        """The rows with these ids, in this order."""
        ...

    def check(self, ids: np.ndarray) -> bool:
        """Check the files of these rows, those that were not yet; True when all files are."""
        ...


CHECK_AHEAD = 50
"""Steps before a file is first needed at which its check begins: a large one takes seconds."""

Collate = Callable[[pa.Table, Draw], dict[str, torch.Tensor]]
"""Rows of a micro-batch (in the order of `draw.ids`) -> the tensors that the loss reads."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one rank trains on in one step: its micro-batches; and the ids of the whole global batch, in the stream's
    order."""

    step: int
    ids: np.ndarray
    micro: list[dict[str, torch.Tensor]]


def check_split(
    global_batch: int, micro_batch: int | None, num_samples: float = math.inf, world: int | None = None
) -> None:
    """Raise ValueError if a global batch cannot be shared out: every rank needs a sample for each of its
    micro-batches."""
    world = world or ranks.world_size()
    if num_samples == 0:
        raise ValueError("the dataset has no rows; check that the steps before this one kept any")
    if world > num_samples:
        raise ValueError(f"{world} workers for a dataset of {num_samples} samples; use fewer workers")
    if global_batch < world:
        raise ValueError(f"--train.global-batch is {global_batch}, and there are {world} workers; use {world} or more")
    if micro_batch is not None and micro_batch < 1:
        raise ValueError(f"--train.micro-batch is {micro_batch}; use 1 or more")
    if num_micro(global_batch, micro_batch, world) > global_batch // world:
        raise ValueError(
            f"--train.micro-batch is {micro_batch}, and {world} workers cannot share {global_batch} samples "
            f"equally; use 2 or more, or a --train.global-batch that is a multiple of {world}"
        )


def num_micro(global_batch: int, micro_batch: int | None, world: int | None = None) -> int:
    """How many micro-batches, of at most `micro_batch` samples, each of `world` ranks (or of all) makes of its
    share."""
    largest = -(-global_batch // (world or ranks.world_size()))
    return -(-largest // (micro_batch or largest))


def check_same(order: Stream, device: torch.device) -> None:
    """Raise ValueError, on every rank, unless all ranks see the same data in the same order; a collective."""
    if not ranks.all_true(ranks.from_first(order.fingerprint, device) == order.fingerprint, device):
        raise ValueError(
            "the workers do not all see the same dataset: it changed while they started, or their disks differ; "
            "use storage that all nodes see, and run the same command again"
        )


class Batches:
    """Iterate over this rank's share of the steps [first, last), prepared ahead; close it, or use it in a `with`."""

    def __init__(
        self,
        rows: Dataset,
        collate: Collate,
        order: Stream,
        *,
        global_batch: int,
        micro_batch: int | None,
        first: int,
        last: int,
        prefetch: int = 4,
        pin_memory: bool = False,
    ) -> None:
        self._rows = rows
        self._collate = collate
        self._order = order
        self._pin = pin_memory
        self._global_batch = global_batch
        self._last = last
        self._share = ranks.share(global_batch)
        self._num_micro = num_micro(global_batch, micro_batch)
        self._pool = ThreadPoolExecutor(2, "batches")  # two: one waits for a store while the other decodes
        self._checkers = ThreadPoolExecutor(2, "checks")
        self._all_checked = False
        self._ahead: deque[Future[Batch]] = deque()
        self._next = first
        for _ in range(prefetch):
            self._prepare()

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Batch]:
        while self._ahead:
            batch = self._ahead.popleft().result()
            self._prepare()
            yield batch

    def close(self) -> None:
        """Stop preparing batches."""
        self._checkers.shutdown(cancel_futures=True)
        self._pool.shutdown(cancel_futures=True)

    def _prepare(self) -> None:
        if self._next < self._last:
            self._ahead.append(self._pool.submit(self._batch, self._next))
            if self._next + CHECK_AHEAD < self._last and not self._all_checked:
                self._checkers.submit(self._check, self._next + CHECK_AHEAD)
            self._next += 1

    def _check(self, step: int) -> None:
        ids, _ = self._order.ids(step, self._global_batch)
        mine = self._order.dealt(ids)[self._share]
        self._all_checked = self._rows.check(ids[mine])  # what is wrong is raised by `take`

    def _batch(self, step: int) -> Batch:
        ids, epochs = self._order.ids(step, self._global_batch)
        mine = self._order.dealt(ids)[self._share]  # (share,): slots of the global batch
        micro = []
        for part in np.array_split(mine, self._num_micro):
            draw = Draw(self._order.seed, ids[part], epochs[part])
            tensors = self._collate(self._rows.take(ids[part]), draw)
            micro.append({k: v.pin_memory() for k, v in tensors.items()} if self._pin else tensors)
        return Batch(step=step, ids=ids, micro=micro)
