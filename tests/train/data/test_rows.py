"""Rows of committed files by id, on a disk and on S3, and what it costs to read them."""

import logging

import numpy as np
import pyarrow as pa
import pytest
import s3fs

from pipeline import storage
from pipeline.manifest import Manifest, commit, read_manifest
from pipeline.storage import CorruptFileError, File, Store
from pipeline.train import ranks
from pipeline.train.data import rows as rows_module
from pipeline.train.data.order import Order
from pipeline.train.data.rows import Rows
from tests.train import tiny


@pytest.fixture
def store(tmp_path):
    return tiny.dataset(tmp_path / "data")


def test_take_returns_the_rows_asked_for_in_order(store):
    rows = Rows.committed(store, columns=["id"])
    assert rows.group_rows == (16, 16, 8, 16, 16, 8, 16, 5) and len(rows) == 101
    for ids in ([0], [100, 0, 50], [3, 3, 3], list(range(101))[::-1]):
        table = rows.take(np.array(ids))
        assert table.column_names == ["id"] and table["id"].to_pylist() == ids


def test_only_what_the_manifest_names_is_read(store):
    storage.write_parquet(store, "part-9.parquet", pa.table({"x": [[0] * 5] * 7, "id": np.arange(7)}))
    assert len(Rows.committed(store)) == 101


def test_the_cache_is_bounded(store):
    one_group = Rows.committed(store).take(np.arange(16)).nbytes
    rows = Rows.committed(store, cache_bytes=3 * one_group)
    for start in (0, 20, 40, 60, 80, 0):
        assert rows.take(np.arange(start, start + 20))["id"].to_pylist() == list(range(start, start + 20))
        assert rows._cache.held == sum(t.nbytes for t in rows._cache._values.values()) <= 3 * one_group
    tight = Rows.committed(store, cache_bytes=1)
    assert tight.take(np.arange(101))["id"].to_pylist() == list(range(101)) and len(tight._cache) == 1


def test_a_missing_dataset_names_the_manifest(tmp_path):
    with pytest.raises(ValueError, match=r"no committed dataset at .*manifest\.json"):
        Rows.committed(Store(str(tmp_path)))


def break_file(store: Store, how: str) -> None:
    data = bytearray(store.read("part-1.parquet"))
    if how == "missing":
        store.delete("part-1.parquet")
    elif how == "truncated":
        store.write("part-1.parquet", bytes(data[: len(data) // 2]))
    elif how == "flipped":
        data[40] ^= 1
        store.write("part-1.parquet", bytes(data))
    elif how == "swapped":
        store.write("part-1.parquet", store.read("part-0.parquet"))


@pytest.mark.parametrize("how", ["missing", "truncated", "flipped", "swapped"])
def test_a_bad_file_is_named(store, how):
    break_file(store, how)
    with pytest.raises(CorruptFileError, match=r"part-1\.parquet"):
        Rows.committed(store).take(np.array([0, 50]))


def test_rows_that_disagree_with_the_manifest_are_refused(store):
    file = read_manifest(store, "manifest.json", Manifest).files[0]
    wrong = File(path=file.path, size_bytes=file.size_bytes, sha256=file.sha256, rows=39)
    with pytest.raises(CorruptFileError, match="40 rows where the manifest says 39"):
        Rows(store, [wrong])


def test_an_altered_file_is_found_in_whatever_chunk_it_differs(store, monkeypatch):
    monkeypatch.setattr(rows_module, "CHUNK_BYTES", 100)
    assert Rows.committed(store).take(np.array([50]))["id"].to_pylist() == [50]
    for name in ("part-1.parquet", "part-2.parquet"):
        store.write(name, store.read(name) + b"more")
    with pytest.raises(CorruptFileError, match=r"part-1\.parquet"):
        Rows.committed(store).take(np.array([0, 50, 100]))


def test_files_can_be_checked_before_they_are_needed_and_are_checked_once(store, monkeypatch):
    assert not Rows.committed(store).check(np.array([100, 3])) and Rows.committed(store).check(np.array([100, 3, 50]))
    break_file(store, "flipped")
    rows, check, checked = Rows.committed(store), Rows._check, []
    monkeypatch.setattr(Rows, "_check", lambda self, file: checked.append(file) or check(self, file))
    for _ in range(2):
        rows.check(np.array([100, 3, 99, 0]))
    assert checked == [0, 2]
    assert rows.take(np.array([3, 100]))["id"].to_pylist() == [3, 100] and checked == [0, 2]
    for use in (rows.check, rows.take):
        with pytest.raises(CorruptFileError, match=r"part-1\.parquet"):
            use(np.array([50]))


def test_a_file_that_changes_while_it_is_used_is_named(store):
    rows = Rows.committed(store, cache_bytes=1)
    rows.take(np.array([40]))
    store.write("part-1.parquet", store.read("part-1.parquet")[:100])
    with pytest.raises(CorruptFileError, match=r"part-1\.parquet cannot be read"):
        rows.take(np.array([0, 79]))


def wide_dataset(store: Store, files: int, groups: int) -> Rows:
    """Row groups of 4 rows, each of two columns of noise, 8 kB a row and column."""
    noise = np.random.default_rng(0)
    made = []
    for f in range(files):
        ids = np.arange(f * 4 * groups, (f + 1) * 4 * groups)
        table = pa.table({"id": ids, "x": [noise.bytes(8000) for _ in ids], "unused": [noise.bytes(8000) for _ in ids]})
        made.append(storage.write_parquet(store, f"part-{f}.parquet", table, row_group_rows=4))
    commit(store, "manifest.json", made)
    return Rows.committed(store, columns=["id", "x"])


@pytest.fixture
def requests(monkeypatch):
    """What was asked of S3: (method, bytes asked for)."""
    asked, call = [], s3fs.S3FileSystem._call_s3

    async def counted(self, method, *args, **kwargs):
        first, _, last = kwargs.get("Range", "bytes=0--1").removeprefix("bytes=").partition("-")
        asked.append((method if callable(method) is False else method.__name__, int(last) - int(first) + 1))
        return await call(self, method, *args, **kwargs)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    return asked


def test_s3_is_asked_for_footers_once_and_then_for_row_groups(bucket, requests):
    rows = wide_dataset(Store(f"{bucket}/data"), files=2, groups=6)
    reads = [size for method, size in requests if method == "get_object"]
    assert reads[-2:] == [1 << 16] * 2 and len(reads) == 3  # the manifest, and the footer of each file
    requests.clear()
    assert rows.take(np.array([1, 25, 2, 5]))["id"].to_pylist() == [1, 25, 2, 5]
    assert {method for method, _ in requests} == {"get_object"}
    checks = [size for _, size in requests if size == rows_module.CHUNK_BYTES]
    groups = [size for _, size in requests if size != rows_module.CHUNK_BYTES]
    assert len(checks) == 2 and len(groups) == 3  # two files; ids 1 and 2 share a row group
    assert all(32_000 < size < 34_000 for size in groups)  # 4 rows of one of the two columns of 8 kB
    requests.clear()
    rows.take(np.array([0, 3, 24, 7]))
    rows.take(np.array([8]))
    assert len(requests) == 1  # the second row group of the second take; all others are in memory


def test_a_window_bounds_the_row_groups_in_use_and_reads_each_once_an_epoch(tmp_path):
    rows = wide_dataset(Store(str(tmp_path)), files=4, groups=10)
    group_bytes = rows.take(np.arange(4)).nbytes
    rows._cache = rows_module.Cache(2 * 5 * group_bytes, lambda table: table.nbytes)
    read, reads = rows._read, []
    rows._read = lambda block: reads.append(block) or read(block)
    order = rows.order(seed=1, window_groups=5)
    for step in range(20):  # one epoch of 160 rows
        ids, _ = order.ids(step, 8)
        assert len({i // 4 for i in np.concatenate([ids, order.ids(step + 1, 8)[0]])}) <= 10  # two windows
        rows.take(ids)
    assert len(reads) == len(set(reads)) == 40
    everything = Order(group_rows=rows.group_rows, seed=1)
    reads.clear()
    for step in range(20):
        rows.take(everything.ids(step, 8)[0])
    assert len(reads) > 80  # without windows, row groups are dropped and read again


def test_windows_that_do_not_stay_in_memory_are_told(tmp_path, caplog, monkeypatch):
    store = Store(str(tmp_path))
    wide_dataset(store, files=1, groups=10)
    rows = Rows.committed(store, columns=["id", "x"], cache_bytes=200_000)
    with caplog.at_level(logging.WARNING, "triptych"):
        rows.order(seed=0, window_groups=6)
        monkeypatch.setattr(ranks, "world_size", lambda: 2)
        rows.order(seed=0, window_groups=0)
        assert not caplog.records
        monkeypatch.undo()
        rows.order(seed=0, window_groups=0)
        rows.order(seed=0, window_groups=10**6)  # there are 10
    assert len(caplog.records) == 2 and caplog.messages[0] == caplog.messages[1]
    assert "10 row groups" in caplog.messages[0] and "--train.window-blocks 6 or less" in caplog.messages[0]


def test_the_schema_is_that_of_the_columns_that_are_read(store):
    rows = Rows.committed(store, columns=["id"])
    assert rows.schema == rows.take(np.array([0])).schema and rows.schema.names == ["id"]
    assert Rows.committed(store).schema.names == ["x", "id"]


def test_a_store_that_does_not_answer_is_no_damage(store, monkeypatch):
    rows = Rows.committed(store)

    def refuse(*args):
        raise TimeoutError("the file server is away")

    monkeypatch.setattr(Store, "read_range", refuse)
    for call in (lambda: rows.take(np.arange(4)), lambda: rows.check(np.arange(4)), lambda: Rows.committed(store)):
        with pytest.raises(TimeoutError, match="the file server is away"):
            call()
