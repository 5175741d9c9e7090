"""Committed Parquet tables as rows that can be asked for by id, read a row group at a time.

Guarantees: only files that a manifest names are read, each checked against its size and sha256 before its first row is
used. Memory holds `cache_bytes` of decoded row groups (or one, if a single one is larger), and at most `READERS` more
while they are read. A file costs one request for its footer and one for each `CHUNK_BYTES` that are checked; a row
group that is not in memory costs one request, of its own bytes and no more. All methods may be called from several
threads.
"""

import hashlib
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.log import logger
from pipeline.manifest import read_manifest
from pipeline.storage import CorruptFileError, File, Store
from pipeline.train.data.cache import Shared
from pipeline.train.data.order import Order

READERS = 8
"""Row groups that are read at once: a remote store answers late, and in parallel."""

CHUNK_BYTES = 8 << 20

_FOOTER_BYTES = 1 << 16  # holds the footer of some 100 row groups of 10 columns
_FOOTERS = 256


class Rows:
    """Row access by id over committed Parquet files; ids count through the files in their order.

    `block_rows` are the rows of each row group, the unit that is read at once; `digest` identifies the data; `schema`
    is that of what `take` returns.
    """

    def __init__(
        self, store: Store, files: Sequence[File], *, columns: list[str] | None = None, cache_bytes: int = 1 << 30
    ) -> None:
        self._store, self._files, self._columns = store, list(files), columns
        self._cache_bytes = cache_bytes
        self._cache: Shared[pa.Table] = Shared(cache_bytes, lambda table: table.nbytes)
        self._footers: Shared[pq.FileMetaData] = Shared(_FOOTERS, lambda _: 1)
        self._checks: Shared[None] = Shared(len(self._files), lambda _: 1)
        self._pool = ThreadPoolExecutor(READERS, "rows")
        groups = list(self._pool.map(self._groups, range(len(self._files))))
        self._file = np.repeat(np.arange(len(groups)), [len(file) for file in groups])
        # Of each row group: its number in its file, rows, first byte, end, and bytes when decoded.
        self._group, rows, self._start, self._stop, size_bytes = np.concatenate([np.empty((0, 5), np.int64), *groups]).T
        self.block_rows: tuple[int, ...] = tuple(rows.tolist())
        self.size_bytes = int(size_bytes.sum())
        self._ends = np.cumsum(rows)
        self._first_ids = self._ends - rows
        self.digest = hashlib.sha256(" ".join(file.sha256 for file in self._files).encode()).hexdigest()

    @staticmethod
    def committed(
        store: Store, manifest: str = "manifest.json", *, columns: list[str] | None = None, cache_bytes: int = 1 << 30
    ) -> "Rows":
        """The Parquet files that a manifest names; ValueError if there is no such manifest."""
        found = read_manifest(store, manifest)
        if found is None:
            raise ValueError(f"no committed dataset at {store.url}/{manifest}; run the step that makes it first")
        files = [file for file in found["files"] if file.path.endswith(".parquet")]
        if not files:
            raise ValueError(f"the dataset at {store.url}/{manifest} has no rows; check that the steps before kept any")
        return Rows(store, files, columns=columns, cache_bytes=cache_bytes)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def url(self) -> str:
        """The folder that the files are in."""
        return self._store.url

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        found = self._footer(0).schema.to_arrow_schema().remove_metadata()
        return found if self._columns is None else pa.schema([found.field(name) for name in self._columns])

    def order(self, seed: int, window_blocks: int) -> Order:
        """The order in which these rows are trained on; a warning if its windows do not stay in memory."""
        order = Order(block_rows=self.block_rows, seed=seed, window_blocks=window_blocks, dataset=self.digest)
        blocks = len(self.block_rows)
        from pipeline.train import ranks  # torch, which who only checks the weights of a mixture does without

        share, together = self.size_bytes / blocks / ranks.world_size(), min(window_blocks or blocks, blocks)
        needed, fit = share * together, max(1, int(self._cache_bytes / share))
        if needed > self._cache_bytes and ranks.rank() == 0:
            logger.warning(
                "warning: %d row groups of %s are shuffled together, %.1f GB on each worker, where %.1f GB are "
                "kept, so most will be read many times; use --train.window-blocks %d or less",
                together,
                self.url,
                needed / 1e9,
                self._cache_bytes / 1e9,
                fit,
            )
        return order

    def take(self, ids: np.ndarray) -> pa.Table:
        """The rows with these ids, in this order. CorruptFileError names a file that is missing, torn or altered."""
        block = np.searchsorted(self._ends, ids, side="right")
        by_block = np.argsort(block, kind="stable")
        blocks, starts = np.unique(block[by_block], return_index=True)
        parts = []
        for i in range(
            0, len(blocks), READERS
        ):  # a few at a time: a batch may touch more row groups than fit in memory
            some = blocks[i : i + READERS].tolist()
            for j, table in enumerate(self._blocks(some), start=i):
                here = by_block[starts[j] : starts[j + 1] if j + 1 < len(starts) else None]
                parts.append(table.take(pa.array(ids[here] - self._first_ids[blocks[j]])))
        table = pa.concat_tables(parts)
        if np.array_equal(by_block, np.arange(len(ids))):
            return table
        back = np.empty_like(by_block)
        back[by_block] = np.arange(len(ids))
        return table.take(pa.array(back))

    def check(self, ids: np.ndarray) -> bool:
        """Check the files of these rows, those that were not yet; True when all are. CorruptFileError as from
        `take`."""
        for file in np.unique(self._file[np.searchsorted(self._ends, ids, side="right")]).tolist():
            self._checks.get(file, self._check)
        return len(self._checks) == len(self._files)

    def _blocks(self, blocks: list[int]) -> list[pa.Table]:
        reads = self._pool.map if sum(block not in self._cache for block in blocks) > 1 else map
        return list(reads(lambda block: self._cache.get(block, self._read), blocks))

    def _read(self, block: int) -> pa.Table:
        file, group = int(self._file[block]), int(self._group[block])
        self._checks.get(file, self._check)
        start, stop, source = int(self._start[block]), int(self._stop[block]), self._files[file]
        data = _Part(storage.read_part(self._store, source, start, stop), start, source.size_bytes)
        footer = self._footer(file)
        try:
            parquet = pq.ParquetFile(data, metadata=footer, page_checksum_verification=True)
            return parquet.read_row_group(group, columns=self._columns, use_threads=False)
        except (OSError, pa.ArrowInvalid) as error:  # of the bytes, which are here
            raise CorruptFileError(f"{self._store.url}/{source.path} cannot be read: {error}") from error

    def _footer(self, file: int) -> pq.FileMetaData:
        return self._footers.get(file, self._read_footer)

    def _read_footer(self, file: int) -> pq.FileMetaData:
        source, size_bytes = self._files[file], self._files[file].size_bytes
        tail = storage.read_part(self._store, source, max(0, size_bytes - _FOOTER_BYTES), size_bytes)
        length = int.from_bytes(tail[-8:-4], "little") + 8
        if len(tail) < length <= size_bytes:
            tail = storage.read_part(self._store, source, size_bytes - length, size_bytes)
        try:
            return pq.read_metadata(pa.BufferReader(tail))
        except (OSError, pa.ArrowInvalid) as error:  # of the bytes, which are here
            raise CorruptFileError(f"{self._store.url}/{source.path} is torn or altered: {error}") from error

    def _groups(self, file: int) -> np.ndarray:
        """Of each row group of a file: its number, rows, first byte, end, and bytes when decoded; (n, 5) int64."""
        footer, out = self._footer(file), []
        for g in range(footer.num_row_groups):
            group = footer.row_group(g)
            columns = [group.column(c) for c in range(group.num_columns)]
            used = [c for c in columns if self._columns is None or c.path_in_schema.split(".")[0] in self._columns]
            starts = [c.dictionary_page_offset if c.has_dictionary_page else c.data_page_offset for c in used]
            stop = max(start + c.total_compressed_size for start, c in zip(starts, used, strict=True))
            out.append((g, group.num_rows, min(starts), stop, sum(c.total_uncompressed_size for c in used)))
        rows, wanted = footer.num_rows, self._files[file].rows
        if wanted and rows != wanted:
            raise CorruptFileError(
                f"{self._store.url}/{self._files[file].path} is torn or altered: {rows} rows where the "
                f"manifest says {wanted}"
            )
        return np.asarray(out, np.int64).reshape(-1, 5)

    def _check(self, file: int) -> None:
        digest, size_bytes, source = hashlib.sha256(), 0, self._files[file]
        while data := storage.read_part(self._store, source, size_bytes, size_bytes + CHUNK_BYTES):
            digest.update(data)
            size_bytes += len(data)
            if size_bytes >= source.size_bytes:
                break
        if size_bytes != source.size_bytes or digest.hexdigest() != source.sha256:
            raise CorruptFileError(
                f"{self._store.url}/{source.path} is torn or altered: another sha256 than "
                "the manifest's; delete its manifest and run the step that makes it again"
            )


class _Part(io.RawIOBase):
    """A file of which only the bytes from `start` on, `data`, are here."""

    def __init__(self, data: bytes, start: int, size_bytes: int) -> None:
        self._data, self._start, self._size_bytes, self._at = memoryview(data), start, size_bytes, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size_bytes}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> memoryview:
        at = self._at - self._start
        if at < 0 or size < 0 or at + size > len(self._data):
            raise OSError(f"bytes {self._at} to {self._at + size} are no part of this row group")
        self._at += size
        return self._data[at : at + size]
