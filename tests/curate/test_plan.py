"""The cut of a plan, its pin, and the fingerprint that a run is bound to."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from pipeline.curate import plan
from pipeline.curate.journal import Journal
from pipeline.storage import Store


def test_costs_are_relative_to_the_usual_input() -> None:
    assert plan.estimate(pa.chunked_array([[None, 10, 20, 40, 0]])).tolist() == [1.0, 0.5, 1.0, 2.0, 1.0]
    lies = plan.estimate(pa.chunked_array([[1, 10, 10, 10**15]])).tolist()
    assert lies == [0.1, 1.0, 1.0, 32.0]
    assert plan.estimate(pa.chunked_array([pa.nulls(3, pa.int64())])).tolist() == [1.0] * 3


def test_longest_first_and_ties_in_the_order_of_the_list() -> None:
    assert plan.longest_first(np.array([1.0, 5.0, 1.0, 5.0])).tolist() == [1, 3, 0, 2]
    assert plan.longest_first(np.ones(4)) is None and plan.longest_first(np.ones(0)) is None


@pytest.mark.parametrize(
    ("costs", "ends"),
    [
        ([1.0] * 7, [3, 6, 7]),
        ([9.0, 2.0, 1.0, 0.5, 0.5, 0.5, 0.5], [1, 3, 6, 7]),
        ([], []),
    ],
)
def test_a_costly_input_is_a_wave_of_its_own(costs: list[float], ends: list[int]) -> None:
    assert plan.cut(costs, 3) == ends


def test_every_cut_keeps_its_limits() -> None:
    costs = -np.sort(-np.random.default_rng(0).pareto(1.0, 1000))
    ends = plan.cut(costs, 20)
    parts = np.split(costs, ends[:-1])
    assert sum(map(len, parts)) == 1000 and all(len(p) == 1 or (p.sum() <= 20 and len(p) <= 20) for p in parts)


def test_a_pinned_plan_stays_whatever_is_asked_later(tmp_path: Path) -> None:
    store, keys = Store(str(tmp_path)), pa.chunked_array([[f"{i:032x}" for i in range(10)]])
    first = plan.pin(Journal(store), keys, np.ones(10), 4)
    assert [wave.rows for wave in first] == [4, 4, 2]
    assert plan.pin(Journal(store), keys, np.ones(10), 5) == first
    assert first[1].keys_sha256 == plan.keys_digest(keys.slice(4, 4)) != first[0].keys_sha256
    with pytest.raises(ValueError, match="plans 10 inputs, but there are 9"):
        plan.pin(Journal(store), keys.slice(1), np.ones(9), 4)


def test_a_changed_plan_is_refused_with_the_difference(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    one, two, three = ({"job": "toy", "stages": {"0 Cut": {"min_s": n, "sizes": (1, n)}}} for n in (1, 2, 3))
    plan.bind(Journal(store), one)
    plan.bind(Journal(store), one)
    with pytest.raises(ValueError, match=r"stages\.0 Cut\.min_s: 1 -> 2.*--accept-plan"):
        plan.bind(Journal(store), two)
    plan.bind(Journal(store), two, accept=True)
    plan.bind(Journal(store), two)
    assert plan.is_bound(Journal(store), one) and not plan.is_bound(Journal(store), three)
