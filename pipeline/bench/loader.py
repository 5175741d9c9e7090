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

import contextlib
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from pipeline import storage
from pipeline.manifest import commit
from pipeline.storage import Store
from pipeline.train.data.batches import Batches
from pipeline.train.data.order import Draw, Order
from pipeline.train.data.rows import Rows

_GROUP_ROWS, _FILE_ROWS = 64, 1000
_LATE_S = 0.03
INSTALL = {
    "webdataset": "pip install -e '.[bench]'",
    # it pins an older numpy
    "streaming": "pip install -e '.[bench]' && pip install --no-deps mosaicml-streaming==0.13.0",
}


@dataclass(frozen=True, kw_only=True)
class _Task:
    """One dataset, in a folder of its own for each format."""

    folder: Path
    tokens: np.ndarray
    """(samples, T) int32; the first token of a sample is its number."""
    batch: int

    @property
    def window(self) -> int:
        """Samples that are shuffled together."""
        return max(1, len(self.tokens) // 10)

    @property
    def batches(self) -> int:
        """Whole batches in an epoch."""
        return len(self.tokens) // self.batch


Epoch = Callable[[_Task, int], Iterator[torch.Tensor]]
"""(task, seed) -> the batches of one epoch, (batch, T) int32 each."""


def measure(
    samples: int = 20_000, sample_bytes: int = 4096, batch: int = 256, rounds: int = 5
) -> Iterator[dict[str, Any]]:
    """One dict for each loader and number of workers. ValueError for sizes that make no batch."""
    if samples < 10 * batch or sample_bytes < 8 or rounds < 1:
        raise ValueError(
            f"--samples {samples} must be at least 10 times --batch {batch}, --sample-bytes {sample_bytes} "
            f"at least 8, and --rounds {rounds} at least 1"
        )
    tokens = np.random.default_rng(0).integers(0, 8192, (samples, sample_bytes // 4), dtype=np.int32)
    tokens[:, 0] = np.arange(samples)
    with tempfile.TemporaryDirectory() as folder:
        task = _Task(folder=Path(folder), tokens=tokens, batch=batch)
        epochs = _prepare(task)
        rates: dict[tuple[str, int], list[float]] = {key: [] for key in epochs}
        shuffles: dict[tuple[str, int], list[tuple[float, float]]] = {key: [] for key in epochs}
        for seed in range(rounds):
            for key, epoch in epochs.items():
                start = time.perf_counter()
                ids = np.concatenate([found[:, 0].numpy().copy() for found in epoch(task, seed)])
                rates[key].append(len(ids) / (time.perf_counter() - start))
                shuffles[key].append(quality(ids, samples, batch))
        for key, epoch in epochs.items():
            rate, (correlation, neighbours) = median(rates[key]), np.mean(shuffles[key], axis=0)
            waits = [_wait_percent(epoch(task, seed), 2 * batch / rate) for seed in range(rounds)]
            yield {
                "loader": key[0],
                "workers": key[1],
                "samples_per_s": round(rate),
                "least": round(min(rates[key])),
                "most": round(max(rates[key])),
                "wait_percent": round(median(waits), 1),
                "rank_correlation": round(float(correlation), 2),
                "neighbours": round(float(neighbours), 1),
            }
    yield dealt(samples, batch)
    for package, command in INSTALL.items():
        if find_spec(package) is None:
            yield {"not_installed": package, "command": command}


def quality(ids: np.ndarray, samples: int, batch: int) -> tuple[float, float]:
    """`rank_correlation` and `neighbours` of an epoch, from the numbers of its samples in the order in which they
    came."""
    ranks = np.argsort(np.argsort(ids))
    place = np.full(samples, -1)
    place[ids] = np.arange(len(ids)) // batch  # the batch of each sample; -1: in none
    together = np.mean((place[:-1] == place[1:]) & (place[1:] >= 0))
    expected = len(ids) / samples * (batch - 1) / (samples - 1)
    return abs(np.corrcoef(ranks, np.arange(len(ids)))[0, 1]), together / expected


def dealt(samples: int, batch: int, ranks: int = 8) -> dict[str, Any]:
    """Percent of the row groups of a window that a rank reads in the steps of that window, on average."""
    window = max(1, samples // 10 // _GROUP_ROWS)
    order = Order(group_rows=(_GROUP_ROWS,) * (samples // _GROUP_ROWS), seed=0, window_groups=window)
    read: dict[tuple[bool, int], set[int]] = {}
    for step in range(max(1, window * _GROUP_ROWS // batch)):
        ids, _ = order.ids(step, batch)
        for by_id, slots in ((True, order.dealt(ids)), (False, np.arange(batch))):
            for rank, part in enumerate(np.array_split(ids[slots], ranks)):
                read.setdefault((by_id, rank), set()).update((part // _GROUP_ROWS).tolist())
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
    next(batches)
    begin, waited, spent = time.perf_counter(), 0.0, 0.0
    while True:
        time.sleep(step_s)
        start = time.perf_counter()
        if next(batches, None) is None:  # what it takes to close is no waiting for data
            return 100 * waited / spent
        waited, spent = waited + time.perf_counter() - start, time.perf_counter() - begin


def _prepare(task: _Task) -> dict[tuple[str, int], Epoch]:
    """Write the samples in each format; how to read them, by name and number of workers."""
    _write_tables(task)
    found: dict[tuple[str, int], Epoch] = {
        ("triptych", 0): _tables,
        ("triptych, full shuffle", 0): _all_tables,
        ("triptych, requests 30 ms late", 0): _late_tables,
    }
    for package, name, write, read in (
        ("streaming", "mosaicml-streaming", _write_mds, _mds),
        ("webdataset", "webdataset", _write_tars, _tars),
    ):
        if find_spec(package) is not None:
            write(task)
            for workers in (0, 2):
                found[name, workers] = lambda task, seed, read=read, workers=workers: read(task, seed, workers)
    return found


class _LateStore(Store):
    """A store that answers after 30 ms, as an object store does."""

    def read_range(self, name: str, start: int, end: int) -> bytes:
        time.sleep(_LATE_S)
        return super().read_range(name, start, end)


def _write_tables(task: _Task) -> None:
    store, files = Store(str(task.folder / "parquet")), []
    for first in range(0, len(task.tokens), _FILE_ROWS):
        part = task.tokens[first : first + _FILE_ROWS]
        ends = np.arange(len(part) + 1, dtype=np.int32) * part.shape[1]
        table = pa.table({"tokens": pa.ListArray.from_arrays(ends, part.reshape(-1))})
        files.append(storage.write_parquet(store, f"part-{first}.parquet", table, _GROUP_ROWS))
    commit(store, "manifest.json", files)


def _tables(
    task: _Task, seed: int, store: type[Store] = Store, window_groups: int | None = None
) -> Iterator[torch.Tensor]:
    rows = Rows.committed(store(str(task.folder / "parquet")))
    order = rows.order(seed, max(1, task.window // _GROUP_ROWS) if window_groups is None else window_groups)
    with Batches(
        rows, _collate, order, global_batch=task.batch, micro_batch=None, first=0, last=task.batches
    ) as batches:
        yield from (batch.micro[0]["tokens"] for batch in batches)


def _all_tables(task: _Task, seed: int) -> Iterator[torch.Tensor]:
    return _tables(task, seed, window_groups=0)


def _late_tables(task: _Task, seed: int) -> Iterator[torch.Tensor]:
    return _tables(task, seed, _LateStore)


def _collate(table: pa.Table, draw: Draw) -> dict[str, torch.Tensor]:
    flat = [chunk.flatten().to_numpy() for chunk in table["tokens"].chunks]
    return {"tokens": torch.from_numpy(np.concatenate(flat).reshape(table.num_rows, -1))}  # (B, T)


@contextlib.contextmanager
def _without_torchvision() -> Iterator[None]:
    """mosaicml-streaming imports torchvision for its picture datasets, which are not used here."""
    import transformers.feature_extraction_utils  # noqa: F401 - first: it asks whether torchvision is there
    from transformers import PreTrainedTokenizerBase  # noqa: F401

    names = ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional")
    made = {name: types.ModuleType(name) for name in names if find_spec("torchvision") is None}
    if made:
        made["torchvision.datasets"].VisionDataset = object
        made["torchvision.transforms.functional"].to_tensor = None
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]


def _write_mds(task: _Task) -> None:
    with _without_torchvision():
        from streaming import MDSWriter

    columns = {"tokens": f"ndarray:int32:{task.tokens.shape[1]}"}
    size_limit = _FILE_ROWS * (8 + 4 * task.tokens.shape[1])
    with MDSWriter(out=str(task.folder / "mds"), columns=columns, size_limit=size_limit) as writer:
        for row in task.tokens:
            writer.write({"tokens": row})


def _mds(task: _Task, seed: int, workers: int) -> Iterator[torch.Tensor]:
    from streaming import StreamingDataset

    dataset = StreamingDataset(
        local=str(task.folder / "mds"),
        batch_size=task.batch,
        shuffle=True,
        shuffle_seed=seed,
        shuffle_block_size=task.window,
    )
    loader = torch.utils.data.DataLoader(dataset, batch_size=task.batch, num_workers=workers, drop_last=True)
    yield from (batch["tokens"] for batch in loader)


def _write_tars(task: _Task) -> None:
    import webdataset

    (task.folder / "tar").mkdir()
    with webdataset.ShardWriter(str(task.folder / "tar/%06d.tar"), maxcount=_FILE_ROWS, verbose=0) as writer:
        for i, row in enumerate(task.tokens):
            writer.write({"__key__": f"{i:09d}", "tokens.bin": row.tobytes()})


def _decoded(sample: dict[str, Any]) -> dict[str, np.ndarray]:
    return {"tokens": np.frombuffer(sample["tokens.bin"], np.int32)}


def _tars(task: _Task, seed: int, workers: int) -> Iterator[torch.Tensor]:
    import webdataset

    shards = [str(path) for path in sorted((task.folder / "tar").iterdir())]
    dataset = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=seed, empty_check=False)
    dataset = dataset.shuffle(task.window, seed=seed).map(_decoded).batched(task.batch, partial=False)
    for batch in webdataset.WebLoader(dataset, batch_size=None, num_workers=workers):
        yield torch.as_tensor(batch["tokens"])
