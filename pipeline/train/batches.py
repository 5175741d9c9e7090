"""Committed Parquet tables as rows that can be asked for by id, and the batches that a rank trains on.

Guarantees: only files that a manifest names are read, each checked against its size and sha256 before its first row is
used; memory holds at most `cache_bytes` of decoded row groups (or one, if a single one is larger) and `prefetch` global
batches' worth of this rank's share; a rank reads the row groups of its own share and no others. A batch is prepared by
one background thread while the step before it runs; an error in that thread is raised where the batch is asked for.
"""
import hashlib
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from pipeline import storage
from pipeline.storage import CorruptFileError, File, Store
from pipeline.train import ranks
from pipeline.train.order import Draw, Order

Collate = Callable[[pa.Table, Draw], dict[str, torch.Tensor]]
"""Rows of a micro-batch (in the order of `draw.ids`) -> the tensors that the loss reads."""


class Rows:
    """Row access by id over committed Parquet files; ids count through the files in their order.

    `block_rows` are the rows of each row group, the unit that is read at once; `digest` identifies the data.
    """

    def __init__(self, store: Store, files: Sequence[File], *, columns: list[str] | None = None,
                 cache_bytes: int = 1 << 30, verify: bool = True) -> None:
        self._store, self._files, self._columns, self._verify = store, list(files), columns, verify
        self._cache_bytes, self._cached_bytes = cache_bytes, 0
        self._cache: OrderedDict[int, pa.Table] = OrderedDict()
        self._open: OrderedDict[int, pq.ParquetFile] = OrderedDict()
        self._verified: set[int] = set()
        with ThreadPoolExecutor(8) as pool:
            groups = list(pool.map(self._group_rows, self._files))
        self.block_rows: tuple[int, ...] = tuple(rows for file in groups for rows in file)
        self._place = [(f, g) for f, file in enumerate(groups) for g in range(len(file))]
        self._ends = np.cumsum(self.block_rows, dtype=np.int64)
        self._starts = self._ends - np.asarray(self.block_rows, np.int64)
        self.digest = hashlib.sha256(" ".join(file.sha256 for file in self._files).encode()).hexdigest()

    @staticmethod
    def committed(store: Store, manifest: str = "manifest.json", *, columns: list[str] | None = None,
                  cache_bytes: int = 1 << 30) -> "Rows":
        """The Parquet files that a manifest names; ValueError if there is no such manifest."""
        found = storage.manifest(store, manifest)
        if found is None:
            raise ValueError(f"no committed dataset at {store.url}/{manifest}; run the step that makes it first")
        files = [file for file in found["files"] if file.path.endswith(".parquet")]
        return Rows(store, files, columns=columns, cache_bytes=cache_bytes)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def take(self, ids: np.ndarray) -> pa.Table:
        """The rows with these ids, in this order. CorruptFileError names a file that is missing, torn or altered."""
        block = np.searchsorted(self._ends, ids, side="right")
        row = ids - self._starts[block]
        parts, order = [], []
        for b in np.unique(block):
            here = np.flatnonzero(block == b)
            parts.append(self._block(int(b)).take(pa.array(row[here])))
            order.append(here)
        return pa.concat_tables(parts).take(pa.array(np.argsort(np.concatenate(order), kind="stable")))

    def _block(self, block: int) -> pa.Table:
        if block in self._cache:
            self._cache.move_to_end(block)
            return self._cache[block]
        file, group = self._place[block]
        if self._verify and file not in self._verified:
            self._check(self._files[file])
            self._verified.add(file)
        try:
            table = self._parquet(file).read_row_group(group, columns=self._columns)
        except (OSError, pa.ArrowInvalid) as error:
            raise CorruptFileError(f"{self._store.url}/{self._files[file].path} cannot be read: {error}") from error
        self._cache[block] = table
        self._cached_bytes += table.nbytes
        while self._cached_bytes > self._cache_bytes and len(self._cache) > 1:
            self._cached_bytes -= self._cache.popitem(last=False)[1].nbytes
        return table

    def _parquet(self, file: int) -> pq.ParquetFile:
        if file not in self._open:
            handle = self._store.open(self._files[file].path)
            self._open[file] = pq.ParquetFile(handle, page_checksum_verification=True)
            if len(self._open) > 32:
                self._open.popitem(last=False)[1].close(force=True)
        self._open.move_to_end(file)
        return self._open[file]

    def _group_rows(self, file: File) -> list[int]:
        name = f"{self._store.url}/{file.path}"
        try:
            with self._store.open(file.path) as handle, pq.ParquetFile(handle) as parquet:
                found = [parquet.metadata.row_group(g).num_rows for g in range(parquet.metadata.num_row_groups)]
        except FileNotFoundError as error:
            raise CorruptFileError(f"{name} is committed but missing") from error
        except (OSError, pa.ArrowInvalid) as error:
            raise CorruptFileError(f"{name} is torn or altered: {error}") from error
        if file.rows and sum(found) != file.rows:
            raise CorruptFileError(f"{name} is torn or altered: {sum(found)} rows where the manifest says {file.rows}")
        return found

    def _check(self, file: File) -> None:
        digest, size = hashlib.sha256(), 0
        with self._store.open(file.path) as handle:
            while data := handle.read(8 << 20):
                digest.update(data)
                size += len(data)
        if size != file.size_bytes or digest.hexdigest() != file.sha256:
            raise CorruptFileError(f"{self._store.url}/{file.path} is torn or altered: another sha256 than "
                                   "the manifest's; delete its manifest and run the step that makes it again")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What one rank trains on in one step: its micro-batches, and the ids of the whole global batch."""

    step: int
    ids: np.ndarray
    micro: list[dict[str, torch.Tensor]]


def check_split(global_batch: int, micro_batch: int | None, num_samples: int) -> None:
    """Raise ValueError if a global batch cannot be shared out equally."""
    world = ranks.world_size()
    if world > num_samples:
        raise ValueError(f"{world} workers for a dataset of {num_samples} samples; use fewer workers")
    if global_batch < 1 or global_batch % world:
        raise ValueError(f"train.global_batch is {global_batch}, which {world} workers cannot share equally; "
                         f"use a multiple of {world}, such as {max(1, round(global_batch / world)) * world}")
    if micro_batch is not None and (micro_batch < 1 or (global_batch // world) % micro_batch):
        raise ValueError(f"train.micro_batch is {micro_batch}, which does not divide a worker's share of "
                         f"{global_batch // world} samples; use one of its divisors")


class Batches:
    """Iterate over this rank's share of the steps [first, last), prepared ahead; close it, or use it in a `with`."""

    def __init__(self, rows: Rows, collate: Collate, order: Order, *, global_batch: int, micro_batch: int | None,
                 first: int, last: int, prefetch: int = 2, pin_memory: bool = False) -> None:
        self._rows, self._collate, self._order, self._pin = rows, collate, order, pin_memory
        self._global_batch, self._steps = global_batch, range(first, last)
        share = global_batch // ranks.world_size()
        self._share = slice(ranks.rank() * share, (ranks.rank() + 1) * share)
        self._num_micro = share // (micro_batch or share)
        self._queue: queue.Queue[Batch | BaseException] = queue.Queue(prefetch)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="batches", daemon=True)
        self._thread.start()

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Batch]:
        for _ in self._steps:
            found = self._queue.get()
            if isinstance(found, BaseException):
                raise found
            yield found

    def close(self) -> None:
        """Stop preparing batches."""
        self._closed.set()
        self._thread.join()

    def _work(self) -> None:
        try:
            for step in self._steps:
                self._put(self._batch(step))
                if self._closed.is_set():
                    return
        except BaseException as error:  # noqa: BLE001 - whatever it is, the trainer must hear of it
            self._put(error)

    def _put(self, value: Batch | BaseException) -> None:
        while not self._closed.is_set():
            try:
                return self._queue.put(value, timeout=0.2)
            except queue.Full:
                continue

    def _batch(self, step: int) -> Batch:
        ids, epochs = self._order.ids(step, self._global_batch)
        micro = []
        for part in np.split(np.arange(self._share.start, self._share.stop), self._num_micro):
            draw = Draw(self._order.seed, ids[part], epochs[part])
            tensors = self._collate(self._rows.take(ids[part]), draw)
            micro.append({k: v.pin_memory() for k, v in tensors.items()} if self._pin else tensors)
        return Batch(step=step, ids=ids, micro=micro)
