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
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.log import logger
from pipeline.manifest import Manifest, read_manifest
from pipeline.storage import CorruptFileError, File, Store
from pipeline.train.data.cache import Cache
from pipeline.train.data.order import Order

READERS = 8
"""Row groups that are read at once: a remote store answers late, and in parallel."""

CHUNK_BYTES = 8 << 20

_FOOTER_BYTES = 1 << 16  # holds the footer of some 100 row groups of 10 columns
_FOOTERS = 256


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """The unit of a Parquet file that is read at once."""

    file: int
    number: int
    """Within its file."""
    rows: int
    start: int
    """First byte, of the columns that are read."""
    stop: int
    size_bytes: int
    """When decoded."""


class Rows:
    """Row access by id over committed Parquet files; ids count through the files in their order.

    `group_rows` are the rows of each row group, the unit that is read at once; `digest` identifies the data; `schema`
    is that of what `take` returns.
    """

    def __init__(
        self, store: Store, files: Sequence[File], *, columns: list[str] | None = None, cache_bytes: int = 1 << 30
    ) -> None:
        self._store = store
        self._files = list(files)
        self._columns = columns
        self._cache_bytes = cache_bytes
        self._cache: Cache[int, pa.Table] = Cache(cache_bytes, lambda table: table.nbytes)
        self._footers: Cache[int, pq.FileMetaData] = Cache(_FOOTERS, lambda _: 1)
        self._checks: Cache[int, None] = Cache(len(self._files), lambda _: 1)
        self._pool = ThreadPoolExecutor(READERS, "rows")
        by_file = self._pool.map(self._row_groups_of, range(len(self._files)))
        self._row_groups = [group for groups in by_file for group in groups]
        self.group_rows = tuple(group.rows for group in self._row_groups)
        self.size_bytes = sum(group.size_bytes for group in self._row_groups)
        self._ends = np.cumsum(self.group_rows, dtype=np.int64)  # (G,): where the ids of each row group end
        self._first_ids = self._ends - np.asarray(self.group_rows, np.int64)  # (G,)
        self.digest = hashlib.sha256(" ".join(file.sha256 for file in self._files).encode()).hexdigest()

    @staticmethod
    def committed(
        store: Store, manifest: str = "manifest.json", *, columns: list[str] | None = None, cache_bytes: int = 1 << 30
    ) -> "Rows":
        """The Parquet files that a manifest names; ValueError if there is no such manifest."""
        listed = read_manifest(store, manifest, Manifest)
        if listed is None:
            raise ValueError(f"no committed dataset at {store.url}/{manifest}; run the step that makes it first")
        files = [file for file in listed.files if file.path.endswith(".parquet")]
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
        schema = self._footer(0).schema.to_arrow_schema().remove_metadata()
        return schema if self._columns is None else pa.schema([schema.field(name) for name in self._columns])

    def order(self, seed: int, window_groups: int) -> Order:
        """The order in which these rows are trained on; a warning if its windows do not stay in memory."""
        from pipeline.train import ranks  # torch, which who only checks the weights of a mixture does without

        order = Order(group_rows=self.group_rows, seed=seed, window_groups=window_groups, dataset=self.digest)
        groups = len(self.group_rows)
        together = min(window_groups or groups, groups)
        group_bytes = self.size_bytes / groups / ranks.world_size()  # on one rank: neighbours go to the same
        needed = group_bytes * together
        if needed > self._cache_bytes and ranks.rank() == 0:
            logger.warning(
                "warning: %d row groups of %s are shuffled together, %.1f GB on each worker, where %.1f GB are "
                "kept, so most will be read many times; use --train.window-blocks %d or less",
                together,
                self.url,
                needed / 1e9,
                self._cache_bytes / 1e9,
                max(1, int(self._cache_bytes / group_bytes)),
            )
        return order

    def take(self, ids: np.ndarray) -> pa.Table:
        """The rows with these ids (n,), in this order. CorruptFileError names a file that is missing, torn or
        altered."""
        group = np.searchsorted(self._ends, ids, side="right")  # (n,): the row group of each
        by_group = np.argsort(group, kind="stable")  # (n,): the ids of a row group side by side
        groups, starts = np.unique(group[by_group], return_index=True)  # (u,) each: those needed, and where they begin
        parts = []
        # A few at a time: a batch may touch more row groups than fit in memory.
        for i in range(0, len(groups), READERS):
            for j, table in enumerate(self._tables(groups[i : i + READERS].tolist()), start=i):
                here = by_group[starts[j] : starts[j + 1] if j + 1 < len(starts) else None]
                parts.append(table.take(pa.array(ids[here] - self._first_ids[groups[j]])))
        return in_order(pa.concat_tables(parts), by_group)

    def check(self, ids: np.ndarray) -> bool:
        """Check the files of these rows, those that were not yet; True when all are. CorruptFileError as from
        `take`."""
        groups = np.unique(np.searchsorted(self._ends, ids, side="right")).tolist()
        for file in sorted({self._row_groups[group].file for group in groups}):
            self._checks.get(file, self._check)
        return len(self._checks) == len(self._files)

    def _tables(self, groups: list[int]) -> list[pa.Table]:
        """Row groups, decoded; those that are not in memory are read side by side."""
        missing = sum(group not in self._cache for group in groups)
        reads = self._pool.map if missing > 1 else map
        return list(reads(lambda group: self._cache.get(group, self._read), groups))

    def _read(self, index: int) -> pa.Table:
        group = self._row_groups[index]
        self._checks.get(group.file, self._check)
        source = self._files[group.file]
        data = storage.read_part(self._store, source, group.start, group.stop)
        window = _Part(data, group.start, source.size_bytes)
        footer = self._footer(group.file)
        try:
            parquet = pq.ParquetFile(window, metadata=footer, page_checksum_verification=True)
            return parquet.read_row_group(group.number, columns=self._columns, use_threads=False)
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

    def _row_groups_of(self, file: int) -> list[RowGroup]:
        footer = self._footer(file)
        row_groups = []
        for number in range(footer.num_row_groups):
            group = footer.row_group(number)
            columns = [group.column(c) for c in range(group.num_columns)]
            used = [c for c in columns if self._columns is None or c.path_in_schema.split(".")[0] in self._columns]
            starts = [c.dictionary_page_offset if c.has_dictionary_page else c.data_page_offset for c in used]
            stops = [start + c.total_compressed_size for start, c in zip(starts, used, strict=True)]
            row_groups.append(
                RowGroup(
                    file=file,
                    number=number,
                    rows=group.num_rows,
                    start=min(starts),
                    stop=max(stops),
                    size_bytes=sum(c.total_uncompressed_size for c in used),
                )
            )
        rows, promised = footer.num_rows, self._files[file].rows
        if promised and rows != promised:
            raise CorruptFileError(
                f"{self._store.url}/{self._files[file].path} is torn or altered: {rows} rows where the "
                f"manifest says {promised}"
            )
        return row_groups

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


def in_order(table: pa.Table, taken: np.ndarray) -> pa.Table:
    """Undo a permutation: row i of `table` (n rows) goes to place `taken[i]`."""
    if np.array_equal(taken, np.arange(len(taken))):
        return table
    return table.take(pa.array(np.argsort(taken)))


class _Part(io.RawIOBase):
    """A file of which only the bytes from `start` on, `data`, are here."""

    def __init__(self, data: bytes, start: int, size_bytes: int) -> None:
        self._data = memoryview(data)
        self._start = start
        self._size_bytes = size_bytes
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size_bytes}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int = -1) -> memoryview:
        offset = self._position - self._start
        if offset < 0 or size < 0 or offset + size > len(self._data):
            raise OSError(f"bytes {self._position} to {self._position + size} are no part of this row group")
        self._position += size
        return self._data[offset : offset + size]
