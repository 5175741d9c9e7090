"""Tables of frequencies, copies and distances, beside closed forms and scipy."""

import math

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.stats import binomtest

from pipeline.generate import baseline

RANDOM = np.random.default_rng(0)


def test_a_table_of_independent_codes_needs_their_entropy() -> None:
    p = np.array([0.5, 0.25, 0.125, 0.125])
    codes = RANDOM.choice(4, (4000, 6), p=p)
    bits = baseline.table_bits(codes[:2000], [0] * 2000, codes[2000:], [0] * 2000, 4)
    assert bits == pytest.approx(-(p * np.log2(p)).sum(), abs=0.02)


def test_a_table_uses_the_place_and_the_condition() -> None:
    conditions = RANDOM.integers(0, 3, 600)
    codes = (conditions[:, None] * 5 + np.arange(5)) % 11  # a function of both
    by_both = baseline.table_bits(codes[:500], conditions[:500].tolist(), codes[500:], conditions[500:].tolist(), 11)
    assert by_both < 0.01
    by_place = baseline.table_bits(codes[:500], [0] * 500, codes[500:], [0] * 100, 11)
    assert by_place == pytest.approx(math.log2(3), abs=0.1)


def test_codes_that_never_came_cost_what_chance_does() -> None:
    assert baseline.table_bits(np.zeros((9, 4), int), ["a"] * 9, np.ones((5, 4), int), ["b"] * 5, 64) == 6


def test_no_other_weights_of_the_mixture_do_better() -> None:
    guesses = RANDOM.dirichlet(np.ones(8), (4, 300))[:, :, 0]
    best = baseline._mixed_bits(guesses)
    for weights in RANDOM.dirichlet(np.ones(4), 500):
        assert best <= -np.log2(weights @ guesses).mean() + 1e-6


def test_copies_are_equal_strings() -> None:
    known = [[1, 2, 3], [4, 5, 6], [1, 2]]
    assert baseline.copy_rate([[1, 2, 3], [3, 2, 1], [1, 2], [4, 5]], known) == 0.5


def test_distances_are_scipy_s() -> None:
    a, b = RANDOM.normal(size=(20, 7)), RANDOM.normal(size=(30, 7))
    np.testing.assert_allclose(baseline.nearest(a, b), cdist(a, b).min(1), rtol=1e-9)
    assert baseline.nearest(a, a).max() < 1e-6


def test_frechet_distance_is_the_formula_with_scipy_s_root() -> None:
    a = RANDOM.normal(size=(200, 6)) @ RANDOM.normal(size=(6, 6)) + 1
    b = RANDOM.normal(size=(150, 6)) @ RANDOM.normal(size=(6, 6))
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    expected = np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert baseline.frechet_distance(a, b) == pytest.approx(expected, rel=1e-8)
    assert baseline.frechet_distance(a, a + 2) == pytest.approx(6 * 4)
    flat = np.hstack([a, np.zeros((200, 1))])  # a feature that never changes
    assert baseline.frechet_distance(flat, flat) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (7, 20), (20, 20), (350, 360)])
def test_interval_is_scipy_s(hits: int, n: int) -> None:
    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert baseline.wilson_interval(hits / n, n) == pytest.approx((expected.low, expected.high), abs=1e-4)
