import itertools
from dataclasses import replace

import numpy as np
import pytest

from pipeline.train.data.order import ANCHOR, Chain, Draw, Order, permute


def key(word: int) -> np.ndarray:
    return np.random.default_rng(word).integers(0, 2**64, 8, dtype=np.uint64)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 255, 1000, 4097])
def test_permute_is_a_permutation(size):
    for word in range(4):
        assert np.array_equal(np.sort(permute(np.arange(size), size, key(word))), np.arange(size))


def test_permute_reaches_every_order_of_four_about_equally():
    counts = dict.fromkeys(itertools.permutations(range(4)), 0)
    for word in range(4800):
        counts[tuple(permute(np.arange(4), 4, key(word)).tolist())] += 1
    # 23 degrees of freedom: chi-square is above 50 once in a thousand fair draws, and the draws are fixed.
    assert sum((n - 200) ** 2 / 200 for n in counts.values()) < 50


def test_permute_of_a_huge_domain_stays_inside():
    size = 10**12 + 39
    found = permute(np.arange(1000), size, key(0))
    assert len(set(found.tolist())) == 1000 and found.min() >= 0 and found.max() < size
    assert found.max() > size // 2


ORDERS = [
    Order(group_rows=(37,), seed=1),
    Order(group_rows=(7, 3, 0, 9, 4, 4, 1), seed=3),
    Order(group_rows=(7, 3, 0, 9, 4, 4, 1), seed=3, window_groups=2),
    Order(group_rows=(16,) * 9 + (5,), seed=0, window_groups=3),
    Order(group_rows=(5, 5), seed=0, window_groups=8),
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: f"{len(order.group_rows)}-{order.window_groups}")
def test_each_epoch_holds_each_id_once_whatever_the_batch(order):
    n = order.num_samples
    stream = np.concatenate([order.ids(step, 5)[0] for step in range(-(-3 * n // 5))])
    epochs = np.concatenate([order.ids(step, 5)[1] for step in range(-(-3 * n // 5))])
    for epoch in range(3):
        ids = stream[epoch * n : (epoch + 1) * n]
        assert np.array_equal(np.sort(ids), np.arange(n))
        assert set(epochs[epoch * n : (epoch + 1) * n]) == {epoch}
    assert not np.array_equal(stream[:n], stream[n : 2 * n])
    bigger = np.concatenate([order.ids(step, 11)[0] for step in range(-(-3 * n // 11))])
    assert np.array_equal(bigger[: 3 * n], stream[: 3 * n])


def test_ids_of_a_step_need_no_history():
    order = ORDERS[3]
    forward = [order.ids(step, 8)[0].tolist() for step in range(60)]
    again = Order(group_rows=order.group_rows, seed=0, window_groups=3)
    assert [again.ids(step, 8)[0].tolist() for step in reversed(range(60))] == forward[::-1]


def test_a_window_keeps_reads_together():
    order = Order(group_rows=(10,) * 30, seed=5, window_groups=3)
    for start in range(0, 300, 30):
        blocks = {order.ids(i, 1)[0].item() // 10 for i in range(start, start + 30)}
        assert len(blocks) == 3
    first = [order.ids(i, 1)[0].item() // 10 for i in range(30)]
    assert len(set(first[:10])) > 1  # rows of several blocks mixed, not block after block


def test_a_window_over_everything_mixes_everything():
    order = Order(group_rows=(100,) * 10, seed=5)
    ids, _ = order.ids(0, 1000)
    assert abs(np.corrcoef(np.arange(1000), ids)[0, 1]) < 0.1


def test_of_four_ranks_each_reads_about_a_quarter_of_the_row_groups():
    order = Order(group_rows=(10,) * 100, seed=5, window_groups=40)
    read = [set(), set(), set(), set()]
    for step in range(5):  # 200 samples from 40 row groups
        ids, _ = order.ids(step, 40)
        slots = order.dealt(ids)
        assert np.array_equal(np.sort(slots), np.arange(40))
        for rank, part in enumerate(np.split(ids[slots], 4)):
            read[rank] |= set((part // 10).tolist())
    assert max(map(len, read)) < 18  # in an order without regard to ranks, about 29 of the 40


def test_seed_and_dataset_change_order_and_fingerprint():
    one = Order(group_rows=(50,), seed=1)
    other = Order(group_rows=(50,), seed=2)
    assert not np.array_equal(one.ids(0, 50)[0], other.ids(0, 50)[0])
    orders = (
        one,
        other,
        Order(group_rows=(50,), seed=1, dataset="x"),
        Order(group_rows=(25, 25), seed=1),
        Order(group_rows=(50,), seed=1, window_groups=1),
    )
    assert len({order.fingerprint for order in orders}) == 5


def test_an_empty_dataset_is_refused():
    with pytest.raises(ValueError, match="no rows"):
        Order(group_rows=(), seed=0)
    with pytest.raises(ValueError, match="no rows"):
        Order(group_rows=(0, 0), seed=0)
    with pytest.raises(ValueError, match="--train.window-blocks is -1"):
        Order(group_rows=(3,), seed=0, window_groups=-1)


@pytest.mark.parametrize("steps", [1, ANCHOR, ANCHOR + 1, 2 * ANCHOR + 3])
def test_a_chain_of_other_data_is_refused_at_any_step(steps):
    order = Order(group_rows=(64,) * 10, seed=0, dataset="a")
    chain = run_chain(order, steps)
    chain.check(order, 4)
    with pytest.raises(ValueError, match="the dataset, a weight"):
        chain.check(replace(order, dataset="b"), 4)


def run_chain(order: Order, steps: int, batch: int = 4) -> Chain:
    chain = Chain.start(order)
    for step in range(steps):
        chain = chain.next(order.ids(step, batch)[0])
    return chain


@pytest.mark.parametrize("steps", [0, 1, 7, ANCHOR, ANCHOR + 3])
def test_a_chain_accepts_its_own_order_and_no_other(steps):
    order = ORDERS[1]
    chain = run_chain(order, steps)
    chain.check(order, 4)
    if steps:
        for other in (ORDERS[2], Order(group_rows=order.group_rows, seed=4)):
            with pytest.raises(ValueError, match="other samples.*new run_dir"):
                chain.check(other, 4)
        with pytest.raises(ValueError, match="other samples"):
            chain.check(order, 3)


def draw(ids, epochs=None, seed=0) -> Draw:
    ids = np.asarray(ids)
    return Draw(seed, ids, np.zeros(len(ids), np.int64) if epochs is None else np.asarray(epochs))


def test_numbers_of_a_sample_do_not_depend_on_its_batch():
    whole, part = draw([5, 9, 2, 7]), draw([2, 5])
    for name, shape in (("uniform", (3,)), ("normal", (2, 2))):
        together, apart = getattr(whole, name)("p", shape), getattr(part, name)("p", shape)
        assert np.array_equal(together[[2, 0]], apart)
        assert together.shape == (4, *shape) and together.dtype == np.float32
    assert np.array_equal(whole.integers("c", 10)[[2, 0]], part.integers("c", 10))


def test_numbers_differ_by_seed_epoch_id_and_purpose_and_repeat_otherwise():
    base = draw([5]).uniform("p", (4,))
    others = [
        draw([5], seed=1).uniform("p", (4,)),
        draw([5], [1]).uniform("p", (4,)),
        draw([6]).uniform("p", (4,)),
        draw([5]).uniform("q", (4,)),
    ]
    assert all(not np.array_equal(base, other) for other in others)
    one = draw([5])
    one.normal("other", (7,))
    assert np.array_equal(one.uniform("p", (4,)), base) and np.array_equal(one.uniform("p", (4,)), base)


def test_numbers_are_distributed_as_named():
    many = draw(range(4000))
    uniform, normal, integers = many.uniform("u", (5,)), many.normal("n", (5,)), many.integers("i", 7)
    assert 0 <= uniform.min() and uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.01 and abs(uniform.var() - 1 / 12) < 0.003
    assert abs(normal.mean()) < 0.03 and abs(normal.std() - 1) < 0.02
    assert abs(np.corrcoef(normal[:-1, 0], normal[1:, 0])[0, 1]) < 0.05
    assert np.array_equal(np.unique(integers), np.arange(7))
    assert np.bincount(integers).min() > 4000 / 7 * 0.85


def test_integers_below_a_bound_of_each_sample():
    high = np.array([1, 2, 1000, 3])
    found = draw([1, 2, 3, 4]).integers("crop", high, (50,))
    assert (found < high[:, None]).all() and found[2].max() > 100 and (found[0] == 0).all()
