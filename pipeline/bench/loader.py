"""Batches of committed tables beside two loaders of files: samples per second, time spent waiting, quality of the
shuffle.

The same samples (rows of int32 tokens) are written in each one's own format and defaults: zstd Parquet that is checked
against its sha256 (ours), MDS (mosaicml-streaming), tar (webdataset). Each delivers one epoch of the same batches,
shuffled within a tenth of the samples, in turn over rounds; files hold 1000 samples and are in the page cache, and
nobody keeps anything from one epoch for the next. `workers` 0 is one process; 2 are DataLoader's. A peer that is not
installed is left out, with the command that installs it.

- `samples_per_s`: of one epoch, from opening the data to the last batch; median of the rounds, with the least and the
  most.
- `wait_percent`: median, of the time of an epoch whose steps take twice as long as the loader's own median batch.
- `rank_correlation`: mean |Spearman| of place in the files and order of delivery; 0 is a full shuffle, 1 none.
- `neighbours`: how often two samples that are neighbours in the files meet in a batch, over what a full shuffle
  expects.

The last line is computed, not timed: which part of the row groups of a window each of 8 ranks reads in a window's
steps, and which it would read if it were given its samples in the order of the stream.
"""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import torch

from pipeline.bench.config import Loader
from pipeline.bench.formats import GROUP_ROWS, INSTALL, Epoch, Task, prepare
from pipeline.bench.report import Line
from pipeline.train.data.order import Order


@dataclass(frozen=True, kw_only=True)
class _Epochs:
    """What one loader's epochs came to."""

    epoch: Epoch
    rates: list[float] = field(default_factory=list)
    """Samples per second."""
    shuffles: list[tuple[float, float]] = field(default_factory=list)
    """Of each epoch, its `quality`."""

    def read(self, task: Task, seed: int) -> None:
        """Read one epoch as fast as it comes."""
        start_s = time.perf_counter()
        # A sample's number is its first token; the others are only carried.
        ids = np.concatenate([batch[:, 0].numpy().copy() for batch in self.epoch(task, seed)])
        self.rates.append(len(ids) / (time.perf_counter() - start_s))
        self.shuffles.append(quality(ids, len(task.tokens), task.batch))

    def line(self, task: Task) -> Line:
        """Rates, and the waiting of a consumer whose steps take twice a batch."""
        rate = median(self.rates)
        step_s = 2 * task.batch / rate
        waits = [_wait_percent(self.epoch(task, seed), step_s) for seed in range(len(self.rates))]
        correlation, neighbours = np.mean(self.shuffles, axis=0)
        return {
            "samples_per_s": round(rate),
            "least": round(min(self.rates)),
            "most": round(max(self.rates)),
            "wait_percent": round(median(waits), 1),
            "rank_correlation": round(float(correlation), 2),
            "neighbours": round(float(neighbours), 1),
        }


def measure(config: Loader) -> Iterator[Line]:
    """One line for each loader and number of workers."""
    tokens = np.random.default_rng(0).integers(0, 8192, (config.samples, config.sample_bytes // 4), dtype=np.int32)
    tokens[:, 0] = np.arange(config.samples)
    with tempfile.TemporaryDirectory() as folder:
        task = Task(folder=Path(folder), tokens=tokens, batch=config.batch)
        loaders = {key: _Epochs(epoch=epoch) for key, epoch in prepare(task).items()}
        for seed in range(config.rounds):
            for loader in loaders.values():
                loader.read(task, seed)
        for (name, workers), loader in loaders.items():
            yield {"loader": name, "workers": workers, **loader.line(task)}
    yield dealt(config.samples, config.batch)
    for package, command in INSTALL.items():
        if find_spec(package) is None:
            yield {"not_installed": package, "command": command}


def quality(ids: npt.NDArray[np.int64], samples: int, batch: int) -> tuple[float, float]:
    """`rank_correlation` and `neighbours` of an epoch, from the numbers of its samples in the order in which they
    came."""
    # Spearman's correlation is Pearson's of the ranks.
    ranks = np.argsort(np.argsort(ids))
    place = np.full(samples, -1)
    place[ids] = np.arange(len(ids)) // batch  # the batch of each sample; -1: in none
    together = np.mean((place[:-1] == place[1:]) & (place[1:] >= 0))
    # In a full shuffle a sample's neighbour is in its batch with (batch - 1) of (samples - 1) chances.
    expected = len(ids) / samples * (batch - 1) / (samples - 1)
    return abs(np.corrcoef(ranks, np.arange(len(ids)))[0, 1]), together / expected


def dealt(samples: int, batch: int, ranks: int = 8) -> Line:
    """Percent of the row groups of a window that a rank reads in the steps of that window, on average."""
    window = max(1, samples // 10 // GROUP_ROWS)
    order = Order(group_rows=(GROUP_ROWS,) * (samples // GROUP_ROWS), seed=0, window_groups=window)
    read: dict[tuple[bool, int], set[int]] = {}
    for step in range(max(1, window * GROUP_ROWS // batch)):
        ids, _ = order.ids(step, batch)
        for by_id, slots in ((True, order.dealt(ids)), (False, np.arange(batch))):
            for rank, part in enumerate(np.array_split(ids[slots], ranks)):
                read.setdefault((by_id, rank), set()).update((part // GROUP_ROWS).tolist())
    shares = {
        by_id: 100 * np.mean([len(read[by_id, rank]) for rank in range(ranks)]) / window for by_id in (True, False)
    }
    return {
        "ranks": ranks,
        "row_groups_of_a_window": window,
        "read_by_a_rank_percent": round(shares[True], 1),
        "in_stream_order_percent": round(shares[False], 1),
    }


def _wait_percent(batches: Iterator[torch.Tensor], step_s: float) -> float:
    """Percent of an epoch spent waiting, after its first batch, by a consumer that needs `step_s` for each."""
    # To open the data is no waiting: a run does it once.
    next(batches)
    began_s = time.perf_counter()
    waited_s = spent_s = 0.0
    while True:
        time.sleep(step_s)
        start_s = time.perf_counter()
        if next(batches, None) is None:  # what it takes to close is no waiting for data
            return 100 * waited_s / spent_s
        end_s = time.perf_counter()
        waited_s += end_s - start_s
        spent_s = end_s - began_s
