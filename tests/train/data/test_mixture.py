"""Several datasets by weight: exact shares, epochs of each, and rows from the right one."""

import numpy as np
import pyarrow as pa
import pytest

from pipeline import storage
from pipeline.manifest import commit
from pipeline.storage import Store
from pipeline.train.data.mixture import PERIOD, MixedRows, Mixture, interleave, quotas
from pipeline.train.data.order import ANCHOR, Chain, Order
from pipeline.train.data.rows import Rows


def mixture(sizes=(37, 10, 64), weights=(5.0, 3.0, 2.0), seed=1, window=0) -> Mixture:
    orders = tuple(
        Order(group_rows=(8,) * (n // 8) + (n % 8,), seed=100 + k, window_groups=window) for k, n in enumerate(sizes)
    )
    return Mixture(orders=orders, weights=weights, seed=seed)


def stream(mix, samples, batch=7):
    steps = [mix.ids(step, batch) for step in range(-(-samples // batch))]
    return tuple(np.concatenate(part)[:samples] for part in zip(*steps, strict=True))


def dataset_of(mix, ids):
    return np.searchsorted(np.cumsum([order.num_samples for order in mix.orders]), ids, side="right")


@pytest.mark.parametrize(
    "counts", [[1], [3, 7], [1, 1, 1], [5, 3, 2], [1, 499], [997, 2, 1], [400, 300, 200, 60, 30, 9, 1]]
)
def test_every_prefix_holds_its_share_of_each(counts):
    counts = np.array(counts)
    turns = interleave(counts)
    seen = np.cumsum(turns[:, None] == np.arange(len(counts)), axis=0)  # (n, K)
    assert np.array_equal(seen[-1], counts)
    wanted = np.arange(1, len(turns) + 1)[:, None] * counts / counts.sum()
    bound = 1 - 1 / (2 * len(counts) - 2) if len(counts) > 1 else 0
    assert np.abs(seen - wanted).max() <= bound + 1e-9


def test_random_weights_keep_the_bound():
    noise = np.random.default_rng(0)
    for _ in range(30):
        counts = noise.integers(1, 60, noise.integers(2, 9))
        seen = np.cumsum(interleave(counts)[:, None] == np.arange(len(counts)), axis=0)
        wanted = np.arange(1, counts.sum() + 1)[:, None] * counts / counts.sum()
        assert np.abs(seen - wanted).max() < 1


def test_weights_become_the_least_whole_numbers():
    assert quotas((0.7, 0.3)).tolist() == [7, 3] and quotas((2, 2)).tolist() == [1, 1] and quotas((5,)).tolist() == [1]
    assert quotas((1, 1, 1)).tolist() == [1, 1, 1] and quotas((1, 2, 4)).tolist() == [1, 2, 4]
    assert quotas((1 / 7, 0.3, 1 / 3)).tolist() == [30, 63, 70]
    many = np.random.default_rng(0).uniform(size=20)
    found = quotas(many)  # no ratio of small numbers
    assert found.sum() == PERIOD
    assert np.abs(found / found.sum() - many / many.sum()).max() < 1 / PERIOD


@pytest.mark.parametrize("window", [0, 2])
def test_each_dataset_walks_through_its_epochs_as_it_would_alone(window):
    mix = mixture(window=window)
    ids, epochs = stream(mix, 900)
    dataset = dataset_of(mix, ids)
    first = 0
    for k, order in enumerate(mix.orders):
        mine = dataset == k
        alone, alone_epochs = order.at(np.arange(mine.sum()))
        assert np.array_equal(ids[mine], first + alone) and np.array_equal(epochs[mine], alone_epochs)
        first += order.num_samples
    assert epochs[dataset == 1].max() == 26 and epochs[dataset == 2].max() == 2  # 270 of 10 and 180 of 64


def test_the_sample_at_a_position_depends_on_nothing_before_it():
    mix = mixture()
    ids, epochs = stream(mix, 500, batch=7)
    for batch in (1, 12, 250):
        again, again_epochs = stream(mixture(), 500, batch)
        assert np.array_equal(again, ids) and np.array_equal(again_epochs, epochs)
    far = mix.ids(10**9, 8)
    assert (
        np.array_equal(far[0], mixture().ids(10**9, 8)[0])
        and len(set(zip(*map(np.ndarray.tolist, far), strict=True))) == 8
    )


def test_every_part_of_a_mixture_is_in_its_fingerprint_and_a_chain_refuses_another():
    mixes = [mixture(), mixture(weights=(5, 3, 3)), mixture(seed=2), mixture(sizes=(37, 11, 64)), mixture(window=1)]
    assert len({mix.fingerprint for mix in mixes}) == 5
    assert mixture(weights=(50, 30, 20)).fingerprint == mixture().fingerprint
    chain = Chain.start(mixes[0])
    for step in range(ANCHOR + 5):
        chain = chain.next(mixes[0].ids(step, 4)[0])
    chain.check(mixture(), 4)
    for other in mixes[1:2] + mixes[3:]:
        with pytest.raises(ValueError, match="other samples"):
            chain.check(other, 4)


@pytest.mark.parametrize("world", [2, 4])
def test_each_rank_is_dealt_its_part_of_each_dataset(world):
    mix = mixture(sizes=(4000, 4000, 4000))
    ids, _ = mix.ids(3, 200)
    slots = mix.dealt(ids)
    assert np.array_equal(np.sort(slots), np.arange(200))
    for k, share in enumerate((100, 60, 40)):
        parts = [part[dataset_of(mix, part) == k] for part in np.split(ids[slots], world)]
        assert {len(part) for part in parts} == {share // world}
        assert np.array_equal(
            np.concatenate(parts), np.sort(ids[dataset_of(mix, ids) == k])
        )  # of each dataset, one range


def dataset(folder, first, n, **columns) -> Rows:
    store = Store(str(folder))
    table = pa.table({"id": np.arange(first, first + n)} | columns)
    commit(store, "manifest.json", [storage.write_parquet(store, "a.parquet", table, row_group_rows=8)])
    return Rows.committed(store)


def test_rows_come_from_the_dataset_of_their_id(tmp_path):
    rows = MixedRows([dataset(tmp_path / "a", 0, 20), dataset(tmp_path / "b", 500, 30)], (1, 3))
    assert len(rows) == 50
    assert not rows.check(np.array([20, 27]))
    assert [len(part._checks) for part in rows._parts] == [0, 1]
    assert rows.check(np.array([0, 27]))
    for ids in ([0], [49, 0, 20, 19, 49], [30, 31]):
        wanted = [i if i < 20 else 480 + i for i in ids]
        assert rows.take(np.array(ids))["id"].to_pylist() == wanted
    order = rows.order(seed=0, window_groups=0)
    taken = np.array(rows.take(order.ids(0, 40)[0])["id"])
    assert (taken >= 500).sum() == 30
    assert not np.array_equal(order.orders[0].ids(0, 20)[0], Order(group_rows=(8, 8, 4), seed=0).ids(0, 20)[0])


def test_without_weights_each_row_comes_once_an_epoch(tmp_path):
    parts = [dataset(tmp_path / "a", 0, 20), dataset(tmp_path / "b", 500, 30)]
    order = MixedRows(parts).order(seed=0, window_groups=3)
    ids, epochs = order.ids(0, 50)
    assert np.array_equal(np.sort(ids), np.arange(50)) and set(epochs) == {0} and order.window_groups == 3
    assert order.fingerprint != MixedRows(parts[::-1]).order(seed=0, window_groups=3).fingerprint


def test_what_cannot_be_mixed_is_refused(tmp_path):
    a, b = dataset(tmp_path / "a", 0, 20), dataset(tmp_path / "b", 0, 20)
    for weights in ((1,), (1, 0), (1, -2), (1, float("nan")), (1, float("inf"))):
        with pytest.raises(ValueError, match=r"weights are .* for 2 datasets; give a positive number for each"):
            MixedRows([a, b], weights)
    with pytest.raises(ValueError, match=r"weights holds 1 for .*/b, less than one sample in 10000"):
        MixedRows([a, b], (10**6, 1))
    c = dataset(tmp_path / "c", 0, 20, more=np.zeros(20))
    with pytest.raises(ValueError, match=r"/c and .*/a cannot be mixed.*id int64, more double and id int64"):
        MixedRows([a, c], (1, 1))
