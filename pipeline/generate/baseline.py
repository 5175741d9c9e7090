"""What a generator must beat to have learned anything: tables of frequencies, and copies of what it was trained on.

A judge of samples rewards copies, and a likelihood alone says little until one knows what counting would have given. So
figures of generation stand beside these.
"""

import math
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

_EM_STEPS = 200  # of four weights: converged to the fourth digit of a bit long before


def table_bits(
    codes: NDArray[np.int64],
    conditions: Sequence[Hashable],
    heldout: NDArray[np.int64],
    heldout_conditions: Sequence[Hashable],
    codebook_size: int,
) -> float:
    """Bits per code of `heldout` (M, T) under the best table of the frequencies of `codes` (N, T).

    The table mixes chance, the frequency of a code anywhere, at its place, and at its place under its condition (such
    as the caption), as Jelinek and Mercer (1980) interpolate. The weights of the four are fitted, by expectation
    maximisation, on the held-out codes themselves: no such table does better, so whoever beats it has learned more than
    to count.
    """
    places = np.arange(codes.shape[1])
    unigram = np.bincount(codes.flatten(), minlength=codebook_size) / codes.size  # (K,)
    by_place = np.zeros((len(places), codebook_size))  # (T, K)
    np.add.at(by_place, (np.broadcast_to(places, codes.shape), codes), 1 / len(codes))
    rows_of: dict[Hashable, list[int]] = {}
    for row, condition in enumerate(conditions):
        rows_of.setdefault(condition, []).append(row)
    guesses = np.zeros((4, *heldout.shape))  # (4, M, T): what each table gives the codes that came
    guesses[0] = 1 / codebook_size
    guesses[1] = unigram[heldout]
    guesses[2] = by_place[places, heldout]
    for row, condition in enumerate(heldout_conditions):
        if mine := rows_of.get(condition):
            guesses[3, row] = (codes[mine] == heldout[row]).mean(0)
    return _mixed_bits(guesses.reshape(4, -1))


def _mixed_bits(guesses: NDArray[np.float64]) -> float:
    """Mean of -log2 of the best mixture of rows of probabilities (J, n)."""
    weights = np.full(len(guesses), 1 / len(guesses))  # (J,)
    for _ in range(_EM_STEPS):
        parts = weights[:, None] * guesses  # (J, n)
        weights = (parts / parts.sum(0)).mean(1)
    return float(-np.log2(weights @ guesses).mean())


def copy_rate(samples: Sequence[Sequence[int]], known: Sequence[Sequence[int]]) -> float:
    """Share of strings of codes that are among the known ones, code for code."""
    seen = {tuple(codes) for codes in known}
    return sum(tuple(codes) in seen for codes in samples) / len(samples)


def nearest(features: ArrayLike, known: ArrayLike) -> NDArray[np.float64]:
    """Euclidean distance (N,) of each of `features` (N, D) to the nearest of `known` (M, D)."""
    a, b = np.asarray(features, np.float64), np.asarray(known, np.float64)
    squares = (a**2).sum(1)[:, None] - 2 * a @ b.T + (b**2).sum(1)  # (N, M)
    return np.sqrt(squares.min(1).clip(min=0))


def frechet_distance(a: ArrayLike, b: ArrayLike) -> float:
    """Frechet distance between the normal distributions of two sets of features (N, D) and (M, D): FID, with features
    of one's own (arXiv 1706.08500, equation 6).

    It has a bias that grows as sets shrink: compare it only with that of sets as large.
    """
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    cov_x, cov_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)  # (D, D)
    # tr sqrt(C_x C_y), by a root that stays symmetric: C_x C_y and C_x^1/2 C_y C_x^1/2 have the same eigenvalues.
    root = _symmetric_root(cov_x)
    cross = np.linalg.eigvalsh(root @ cov_y @ root).clip(min=0)
    gap = np.square(x.mean(0) - y.mean(0)).sum()
    return float(gap + np.trace(cov_x) + np.trace(cov_y) - 2 * np.sqrt(cross).sum())


def _symmetric_root(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(matrix)
    root: NDArray[np.float64] = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    return root


def wilson_interval(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share that was seen among n (Wilson, 1927): unlike the normal one it stays within [0, 1]
    and has a width at 0 and at 1."""
    centre = share + z * z / (2 * n)
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)
