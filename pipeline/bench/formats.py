"""The same samples in three formats, each with its own defaults, and an epoch of each as its own loader reads it."""

import contextlib
import sys
import time
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from pipeline.manifest import commit
from pipeline.storage import Store, write_parquet
from pipeline.train.data.batches import Batches
from pipeline.train.data.order import Draw
from pipeline.train.data.rows import Rows

GROUP_ROWS = 64
"""Samples in a row group of our tables."""
# In every format, so that none has more files to open.
_FILE_ROWS = 1000
# A common time to the first byte of an object store.
_LATE_S = 0.03
INSTALL = {
    "webdataset": "pip install -e '.[bench]'",
    # it pins an older numpy
    "streaming": "pip install -e '.[bench]' && pip install --no-deps mosaicml-streaming==0.13.0",
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """One dataset, in a folder of its own for each format."""

    folder: Path
    tokens: npt.NDArray[np.int32]
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


Epoch = Callable[[Task, int], Iterator[torch.Tensor]]
"""(task, seed) -> the batches of one epoch, (batch, T) int32 each."""


def prepare(task: Task) -> dict[tuple[str, int], Epoch]:
    """Write the samples in each format whose loader is installed; how to read them, by name and number of workers."""
    _write_tables(task)
    epochs: dict[tuple[str, int], Epoch] = {
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
                epochs[name, workers] = partial(read, workers=workers)
    return epochs


class _LateStore(Store):
    """A store that answers after 30 ms, as an object store does."""

    def read_range(self, name: str, start: int, end: int) -> bytes:
        time.sleep(_LATE_S)
        return super().read_range(name, start, end)


def _write_tables(task: Task) -> None:
    store, files = Store(str(task.folder / "parquet")), []
    for first in range(0, len(task.tokens), _FILE_ROWS):
        part = task.tokens[first : first + _FILE_ROWS]
        ends = np.arange(len(part) + 1, dtype=np.int32) * part.shape[1]
        table = pa.table({"tokens": pa.ListArray.from_arrays(ends, part.reshape(-1))})
        files.append(write_parquet(store, f"part-{first}.parquet", table, GROUP_ROWS))
    commit(store, "manifest.json", files)


def _tables(
    task: Task, seed: int, store: type[Store] = Store, window_blocks: int | None = None
) -> Iterator[torch.Tensor]:
    rows = Rows.committed(store(str(task.folder / "parquet")))
    # The window of the others, in row groups.
    order = rows.order(seed, max(1, task.window // GROUP_ROWS) if window_blocks is None else window_blocks)
    with Batches(
        rows, _collate, order, global_batch=task.batch, micro_batch=None, first=0, last=task.batches
    ) as batches:
        yield from (batch.micro[0]["tokens"] for batch in batches)


def _all_tables(task: Task, seed: int) -> Iterator[torch.Tensor]:
    return _tables(task, seed, window_blocks=0)


def _late_tables(task: Task, seed: int) -> Iterator[torch.Tensor]:
    return _tables(task, seed, _LateStore)


def _collate(table: pa.Table, draw: Draw) -> dict[str, torch.Tensor]:
    flat = [chunk.flatten().to_numpy() for chunk in table["tokens"].chunks]
    return {"tokens": torch.from_numpy(np.concatenate(flat).reshape(table.num_rows, -1))}  # (B, T)


class _Torchvision(types.ModuleType):
    """As much of torchvision as is imported and not used."""

    VisionDataset = object
    to_tensor = None


@contextlib.contextmanager
def _without_torchvision() -> Iterator[None]:
    """mosaicml-streaming imports torchvision for its picture datasets, which are not used here."""
    import transformers.feature_extraction_utils  # noqa: F401 - first: it asks whether torchvision is there
    from transformers import PreTrainedTokenizerBase  # noqa: F401

    names = ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional")
    stand_ins = {} if find_spec("torchvision") else {name: _Torchvision(name) for name in names}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


def _write_mds(task: Task) -> None:
    with _without_torchvision():
        from streaming import MDSWriter

    columns = {"tokens": f"ndarray:int32:{task.tokens.shape[1]}"}
    # Rows are of one size: a file is full after just so many.
    size_limit = _FILE_ROWS * (8 + 4 * task.tokens.shape[1])
    with MDSWriter(out=str(task.folder / "mds"), columns=columns, size_limit=size_limit) as writer:
        for row in task.tokens:
            writer.write({"tokens": row})


def _mds(task: Task, seed: int, workers: int) -> Iterator[torch.Tensor]:
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


def _write_tars(task: Task) -> None:
    import webdataset

    (task.folder / "tar").mkdir()
    with webdataset.ShardWriter(str(task.folder / "tar/%06d.tar"), maxcount=_FILE_ROWS, verbose=0) as writer:
        for i, row in enumerate(task.tokens):
            writer.write({"__key__": f"{i:09d}", "tokens.bin": row.tobytes()})


def _decoded(sample: Mapping[str, bytes]) -> dict[str, npt.NDArray[np.int32]]:
    return {"tokens": np.frombuffer(sample["tokens.bin"], np.int32)}


def _tars(task: Task, seed: int, workers: int) -> Iterator[torch.Tensor]:
    import webdataset

    shards = [str(path) for path in sorted((task.folder / "tar").iterdir())]
    dataset = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=seed, empty_check=False)
    dataset = dataset.shuffle(task.window, seed=seed).map(_decoded).batched(task.batch, partial=False)
    for batch in webdataset.WebLoader(dataset, batch_size=None, num_workers=workers):
        yield torch.as_tensor(batch["tokens"])
