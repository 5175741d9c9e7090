import contextlib
import shutil
import threading
import time

import numpy as np
import pytest
import torch

from pipeline import storage
from pipeline.manifest import commit
from pipeline.storage import CorruptFileError, Store
from pipeline.train import loop, ranks
from pipeline.train.data.batches import CHECK_AHEAD, Batches, check_same, check_split
from pipeline.train.data.mixture import MixedRows
from pipeline.train.data.order import Order
from pipeline.train.data.rows import Rows
from tests.train import tiny


@pytest.fixture
def store(tmp_path):
    return tiny.dataset(tmp_path / "data")


def read(store, monkeypatch=None, *, rank=0, world=1, micro=None, first=0, last=4, collate=tiny.collate):
    if monkeypatch:
        monkeypatch.setattr(ranks, "world_size", lambda: world)
        monkeypatch.setattr(ranks, "rank", lambda: rank)
    rows = Rows.committed(store)
    order = Order(block_rows=rows.block_rows, seed=7)
    with Batches(rows, collate, order, global_batch=12, micro_batch=micro, first=first, last=last) as batches:
        return list(batches)


@pytest.mark.parametrize("world", [1, 2, 3, 4, 5, 7, 12])
@pytest.mark.parametrize("micro", [None, 1, 2, 3])
def test_ranks_and_micro_batches_share_out_the_same_samples(store, monkeypatch, world, micro):
    if micro == 1 and 12 % world:
        pytest.skip("refused: a rank would have fewer samples than micro-batches")
    whole = read(store)
    parts = [read(store, monkeypatch, rank=rank, world=world, micro=micro) for rank in range(world)]
    sizes = {sum(len(m["x"]) for m in part[0].micro) for part in parts}
    assert max(sizes) - min(sizes) <= 1 and len({len(part[0].micro) for part in parts}) == 1
    assert not micro or all(1 <= len(m["x"]) <= micro for part in parts for m in part[0].micro)
    for step, batch in enumerate(whole):
        assert all(np.array_equal(p[step].ids, batch.ids) and p[step].step == step for p in parts)
        for name in ("x", "w"):
            joined = torch.cat([m[name] for p in parts for m in p[step].micro])
            assert torch.equal(joined, batch.micro[0][name])  # the same rows, under the same random masks


def test_starting_in_the_middle_gives_the_rest(store):
    later = read(store, first=2)
    assert [b.step for b in later] == [2, 3]
    assert torch.equal(later[0].micro[0]["w"], read(store)[2].micro[0]["w"])


def test_files_are_checked_before_the_steps_that_need_them(store, monkeypatch):
    rows, asked = Rows.committed(store), []
    monkeypatch.setattr(rows, "check", lambda ids: asked.append(sorted(ids.tolist())))
    order = Order(block_rows=rows.block_rows, seed=7)
    with Batches(rows, tiny.collate, order, global_batch=5, micro_batch=None, first=0, last=CHECK_AHEAD + 3) as batches:
        list(batches)
    assert sorted(asked) == sorted(sorted(order.ids(CHECK_AHEAD + i, 5)[0].tolist()) for i in range(3))


def test_a_bad_file_that_is_found_ahead_stops_the_step_that_needs_it(store):
    data = bytearray(store.read("part-2.parquet"))
    data[20] ^= 1
    store.write("part-2.parquet", bytes(data))
    rows = Rows.committed(store)
    order = Order(block_rows=rows.block_rows, seed=7, window_blocks=1)
    first = next(step for step in range(101) if order.ids(step, 1)[0] >= 80)
    assert first > 3
    with Batches(rows, tiny.collate, order, global_batch=1, micro_batch=None, first=0, last=101) as batches:
        iterator = iter(batches)
        assert [next(iterator).step for _ in range(first)] == list(range(first))
        with pytest.raises(CorruptFileError, match=r"part-2\.parquet"):
            next(iterator)


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
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("batches")]


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
        time.sleep(0.3)
        assert len(made) <= 3  # one taken, two ahead


def test_batches_that_cannot_be_shared_out_are_refused(monkeypatch):
    monkeypatch.setattr(ranks, "world_size", lambda: 4)
    check_split(10, 2, 100)
    check_split(12, 1, 100)
    with pytest.raises(ValueError, match="--train.global-batch is 3, and there are 4 workers; use 4 or more"):
        check_split(3, None, 100)
    with pytest.raises(ValueError, match="--train.micro-batch is 0; use 1 or more"):
        check_split(12, 0, 100)
    with pytest.raises(ValueError, match="--train.micro-batch is 1, and 4 workers cannot share 10 .*multiple of 4"):
        check_split(10, 1, 100)
    with pytest.raises(ValueError, match="4 workers for a dataset of 3 samples"):
        check_split(12, None, 3)
    with pytest.raises(ValueError, match="the dataset has no rows"):
        check_split(12, None, 0)


def test_ranks_that_see_other_data_are_refused(monkeypatch):
    order = Order(block_rows=(4, 4), seed=0)
    check_same(order, torch.device("cpu"))
    monkeypatch.setattr(ranks, "from_first", lambda value, on: Order(block_rows=(4, 5), seed=0).fingerprint)
    with pytest.raises(ValueError, match="do not all see the same dataset.*run the same command again"):
        check_same(order, torch.device("cpu"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("world", "200 workers for a dataset of 101 samples; use fewer workers"),
        ("batch", "--train.global-batch is 12, and there are 13 workers; use 13 or more"),
        ("micro", "--train.micro-batch is 1, and 5 workers cannot share 12 samples"),
        ("torn", r"part-1.parquet is torn or altered"),
    ],
)
def test_data_that_does_not_fit_is_refused_before_the_first_step(store, tmp_path, monkeypatch, change, message):
    if change == "torn":
        store.write("part-1.parquet", b"PAR1")
    else:
        monkeypatch.setattr(ranks, "world_size", lambda: {"world": 200, "batch": 13, "micro": 5}[change])
    host = tiny.Record()
    with pytest.raises(ValueError, match=message):
        tiny.train(tiny.config("torch", micro_batch=1), store.url, str(tmp_path / "run"), host=host)
    assert host.losses == [] and not (tmp_path / "run").exists()


def train_mixed(folders, weights, run, settings, host=None):
    host = host or tiny.Record()
    torch.manual_seed(0)
    rows = MixedRows([Rows.committed(Store(str(folder))) for folder in folders], weights)
    loop.train(
        settings,
        model=tiny.Net(),
        loss_fn=tiny.loss_fn,
        rows=rows,
        collate=tiny.collate,
        store=Store(str(run)),
        kind="tiny",
        model_config={},
        host=host,
    )
    return host


def test_a_mixture_is_resumed_where_it_was_and_not_with_other_weights_or_rows(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    tiny.dataset(folders[0])
    other = tiny.dataset(folders[1], rows=50)
    settings = tiny.config("torch", steps=20)
    straight = train_mixed(folders, (0.3, 0.7), tmp_path / "straight", settings).losses
    with contextlib.suppress(RuntimeError):
        train_mixed(folders, (0.3, 0.7), tmp_path / "run", settings, Fail(at=8))
    for path, weights in ((folders, (0.4, 0.6)), (folders[::-1], (0.3, 0.7))):
        with pytest.raises(ValueError, match="other samples: the dataset, a weight"):
            train_mixed(path, weights, tmp_path / "run", settings)
    host = train_mixed(folders, (0.3, 0.7), tmp_path / "run", settings)
    assert host.start == 5 and host.losses == straight[5:]

    # The same rows in another order are another dataset, though no id tells.
    table = Rows.committed(other).take(np.arange(50)[::-1].copy())
    shutil.rmtree(folders[1])
    commit(other, "manifest.json", [storage.write_parquet(other, "part-0.parquet", table, row_group_rows=50)])
    with pytest.raises(ValueError, match="other samples"):
        train_mixed(folders, (0.3, 0.7), tmp_path / "run", tiny.config("torch", steps=24))


class Fail(tiny.Record):
    """An error after step `at`."""

    def __init__(self, at):
        super().__init__()
        self._at = at

    def progress(self, step, loss):
        if step == self._at:
            raise RuntimeError("enough")
