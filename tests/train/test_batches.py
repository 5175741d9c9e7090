import threading

import numpy as np
import pyarrow as pa
import pytest
import torch

from pipeline import storage
from pipeline.storage import CorruptFileError, File, Store
from pipeline.train import ranks
from pipeline.train.batches import Batches, Rows, check_split
from pipeline.train.order import Order
from tests.train import tiny


@pytest.fixture
def store(tmp_path):
    return tiny.dataset(tmp_path / "data")


def test_take_returns_the_rows_asked_for_in_order(store):
    rows = Rows.committed(store, columns=["id"])
    assert rows.block_rows == (16, 16, 8, 16, 16, 8, 16, 5) and len(rows) == 101
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
        assert rows._cached_bytes == sum(t.nbytes for t in rows._cache.values()) <= 3 * one_group
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
    file = storage.manifest(store, "manifest.json")["files"][0]
    wrong = File(path=file.path, size_bytes=file.size_bytes, sha256=file.sha256, rows=39)
    with pytest.raises(CorruptFileError, match="40 rows where the manifest says 39"):
        Rows(store, [wrong])


def read(store, monkeypatch=None, *, rank=0, world=1, micro=None, first=0, last=4, collate=tiny.collate):
    if monkeypatch:
        monkeypatch.setattr(ranks, "world_size", lambda: world)
        monkeypatch.setattr(ranks, "rank", lambda: rank)
    rows = Rows.committed(store)
    order = Order(block_rows=rows.block_rows, seed=7)
    with Batches(rows, collate, order, global_batch=12, micro_batch=micro, first=first, last=last) as batches:
        return list(batches)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
@pytest.mark.parametrize("micro", [None, 1, 3])
def test_ranks_and_micro_batches_share_out_the_same_samples(store, monkeypatch, world, micro):
    if micro and (12 // world) % micro:
        pytest.skip("does not divide")
    whole = read(store)
    parts = [read(store, monkeypatch, rank=rank, world=world, micro=micro) for rank in range(world)]
    for step, batch in enumerate(whole):
        assert all(np.array_equal(p[step].ids, batch.ids) and p[step].step == step for p in parts)
        for name in ("x", "w"):
            joined = torch.cat([m[name] for p in parts for m in p[step].micro])
            assert torch.equal(joined, batch.micro[0][name])  # the same rows, under the same random masks


def test_starting_in_the_middle_gives_the_rest(store):
    later = read(store, first=2)
    assert [b.step for b in later] == [2, 3]
    assert torch.equal(later[0].micro[0]["w"], read(store)[2].micro[0]["w"])


def test_an_error_in_the_background_is_raised(store):
    def collate(table, draw):
        raise RuntimeError("cannot decode")

    with pytest.raises(RuntimeError, match="cannot decode"):
        read(store, collate=collate)


def test_closing_early_ends_the_thread(store):
    rows = Rows.committed(store)
    order = Order(block_rows=rows.block_rows, seed=7)
    with Batches(rows, tiny.collate, order, global_batch=12, micro_batch=None, first=0, last=10**6) as batches:
        next(iter(batches))
    assert "batches" not in {thread.name for thread in threading.enumerate()}


def test_prefetch_is_bounded(store):
    made = []

    def collate(table, draw):
        made.append(1)
        return tiny.collate(table, draw)

    rows = Rows.committed(store)
    order = Order(block_rows=rows.block_rows, seed=7)
    with Batches(rows, collate, order, global_batch=4, micro_batch=None, first=0, last=100, prefetch=2) as batches:
        iterator = iter(batches)
        next(iterator)
        batches._closed.wait(0.3)
        assert len(made) <= 4  # one taken, two waiting, one in the making


def test_batches_that_do_not_divide_are_refused(monkeypatch):
    monkeypatch.setattr(ranks, "world_size", lambda: 4)
    check_split(12, 3, 100)
    with pytest.raises(ValueError, match="global_batch is 10.*multiple of 4, such as 8"):
        check_split(10, None, 100)
    with pytest.raises(ValueError, match="micro_batch is 2.*share of 3 samples"):
        check_split(12, 2, 100)
    with pytest.raises(ValueError, match="4 workers for a dataset of 3 samples"):
        check_split(12, None, 3)
