"""Several datasets trained on together, each with its share of the samples.

Guarantees: which dataset fills (step, slot) is a pure function of the weights; after any number of samples the count of
each dataset is less than 1 away from its weight times that number (weights that are no ratio of whole numbers of a sum
up to `PERIOD` are rounded to such first). Each dataset walks through epochs of its own, in which each of its ids comes
once, as it would alone. Neither depends on how many ranks there are.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from pipeline.train.data.order import Order
from pipeline.train.data.rows import Rows, in_order

PERIOD = 10_000
"""Samples after which the pattern of datasets repeats at the latest: the resolution of weights."""


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """The orders of several datasets, interleaved by weight; ids number the rows through all datasets, in their
    order."""

    orders: tuple[Order, ...]
    weights: tuple[float, ...]
    """Share of each dataset in what is seen; their sum does not matter."""
    seed: int

    @cached_property
    def quotas(self) -> np.ndarray:
        """Samples of each dataset in one period, (K,) int64."""
        return quotas(self.weights)

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) of all that the stream depends on."""
        parts = [*(order.fingerprint for order in self.orders), *map(str, self.quotas), str(self.seed)]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def ids(self, step: int, global_batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids of the global batch of a step, and of each the epoch of its dataset, both (global_batch,) int64."""
        turns, places = self._pattern  # (period,) each
        slots = step * global_batch + np.arange(global_batch, dtype=np.int64)  # (global_batch,), as all below
        periods, phase = np.divmod(slots, len(turns))
        dataset = turns[phase]
        position = periods * self.quotas[dataset] + places[phase]  # among the samples of its dataset
        ids = np.empty_like(position)
        epochs = np.empty_like(position)
        for k in np.unique(dataset):
            mine = dataset == k
            own_ids, epochs[mine] = self.orders[k].at(position[mine])
            ids[mine] = self._first_ids[k] + own_ids
        return ids, epochs

    def dealt(self, ids: np.ndarray) -> np.ndarray:
        """The slots of a step in the order in which they are dealt to ranks: neighbours of one dataset together, and to
        each rank about the same share of every dataset."""
        # Six samples of dataset a and two of b, by id, and where each falls if its dataset is spread over the step:
        #
        #     a a a a a a b b      sample i of c  ->  (i + 1/2) / c
        #     a at 1/12 3/12 5/12 7/12 9/12 11/12, b at 1/4 3/4  ->  a a b a a a b a: two ranks get 3 of a, 1 of b each
        by_id = np.argsort(ids, kind="stable")  # (n,), as all below but `counts`
        dataset = np.searchsorted(self._first_ids, ids[by_id], side="right") - 1
        counts = np.bincount(dataset, minlength=len(self.orders))  # (K,)
        first = (np.cumsum(counts) - counts)[dataset]  # where its dataset begins
        spread = (np.arange(len(ids)) - first + 0.5) / counts[dataset]
        return by_id[np.argsort(spread, kind="stable")]

    @cached_property
    def _first_ids(self) -> np.ndarray:
        sizes = np.array([order.num_samples for order in self.orders])
        return np.cumsum(sizes) - sizes

    @cached_property
    def _pattern(self) -> tuple[np.ndarray, np.ndarray]:
        """Of each place in a period, (period,) each: whose turn it is, and how many turns that dataset had before."""
        turns = interleave(self.quotas)
        places = np.empty_like(turns)
        for k, quota in enumerate(self.quotas):
            places[turns == k] = np.arange(quota)
        return turns, places


def quotas(weights: Sequence[float]) -> np.ndarray:
    """Weights as whole numbers, (K,) int64, of the least sum up to PERIOD that has their ratio; else rounded to that
    sum."""
    shares = np.asarray(weights, np.float64) / np.sum(weights)
    scaled = np.arange(1, PERIOD + 1)[:, None] * shares  # (sum, K)
    exact = (np.abs(scaled - scaled.round()) < 1e-9).all(axis=1)
    if exact.any():
        return scaled[exact.argmax()].round().astype(np.int64)
    counts = np.floor(shares * PERIOD + 1e-6).astype(np.int64)  # (K,)
    for k in np.argsort(counts - shares * PERIOD, kind="stable")[: PERIOD - counts.sum()]:  # the largest remainders
        counts[k] += 1
    return counts // np.gcd.reduce(counts)


def check_weights(weights: Sequence[float], names: Sequence[str]) -> None:
    """Raise ValueError unless there is a weight for each of the datasets named, of at least one sample in a period."""
    if len(weights) != len(names) or not all(0 < weight < np.inf for weight in weights):
        raise ValueError(f"weights are {tuple(weights)} for {len(names)} datasets; give a positive number for each")
    for name, weight, quota in zip(names, weights, quotas(weights), strict=True):
        if quota == 0:
            raise ValueError(
                f"weights holds {weight:g} for {name}, less than one sample in {PERIOD}; raise it, or leave it out"
            )


def interleave(counts: np.ndarray) -> np.ndarray:
    """A sequence in which k comes counts[k] times, and as evenly as can be: (sum(counts),) int64.

    Tijdeman, "The chairman assignment problem" (1980): in each prefix of length n the count of k differs from
    n * counts[k] / sum(counts) by at most 1 - 1 / (2 K - 2).
    """
    total = int(counts.sum())
    seen = np.zeros(len(counts), np.int64)  # (K,): turns so far
    slack = 1 - 1 / (2 * len(counts) - 2) if len(counts) > 1 else 0.0
    turns = np.empty(total, np.int64)
    for n in range(total):
        due = (n + 1) * counts / total - seen  # (K,): how far each is behind
        # Of those that may come without running ahead, the one that would be too late soonest.
        deadline = np.where(due >= 1 - slack - 1e-9, (slack - due) / counts, np.inf)
        turns[n] = np.argmin(deadline)
        seen[turns[n]] += 1
    return turns


class MixedRows:
    """Rows of several datasets by id; ids count through the datasets in their order.

    Without weights they are one dataset: each row comes once an epoch. ValueError for weights that do not fit
    (`check_weights`), and for datasets of which the columns differ.
    """

    def __init__(self, parts: Sequence[Rows], weights: Sequence[float] = ()) -> None:
        if weights:
            check_weights(weights, [part.url for part in parts])
        for part in parts:
            if part.schema != parts[0].schema:
                raise ValueError(
                    f"{part.url} and {parts[0].url} cannot be mixed, their columns differ: {_columns(part)} and "
                    f"{_columns(parts[0])}; make them with the same version of the same job"
                )
        self._parts = list(parts)
        self._weights = tuple(weights)
        sizes = np.array([len(part) for part in parts])
        self._first_ids = np.cumsum(sizes) - sizes  # (K,)

    def __len__(self) -> int:
        return sum(len(part) for part in self._parts)

    def order(self, seed: int, window_groups: int) -> Mixture | Order:
        """The order in which these rows are trained on; with weights, `window_groups` is that of each dataset."""
        if len(self._parts) == 1:
            return self._parts[0].order(seed, window_groups)
        if not self._weights:
            return Order(
                group_rows=tuple(rows for part in self._parts for rows in part.group_rows),
                seed=seed,
                window_groups=window_groups,
                dataset=" ".join(part.digest for part in self._parts),
            )
        orders = (part.order(_seed(seed, k), window_groups) for k, part in enumerate(self._parts))
        return Mixture(orders=tuple(orders), weights=self._weights, seed=seed)

    def take(self, ids: np.ndarray) -> pa.Table:
        """The rows with these ids (n,), in this order. CorruptFileError names a file that is missing, torn or
        altered."""
        dataset = self._dataset(ids)
        tables = [self._parts[k].take(ids[dataset == k] - self._first_ids[k]) for k in np.unique(dataset)]
        return in_order(pa.concat_tables(tables), np.argsort(dataset, kind="stable"))

    def check(self, ids: np.ndarray) -> bool:
        """Check the files of these rows, those that were not yet; True when all are. CorruptFileError as from
        `take`."""
        dataset = self._dataset(ids)
        done = [part.check(ids[dataset == k] - self._first_ids[k]) for k, part in enumerate(self._parts)]
        return all(done)

    def _dataset(self, ids: np.ndarray) -> np.ndarray:
        """Of which dataset each id is, (n,)."""
        return np.searchsorted(self._first_ids, ids, side="right") - 1


def _seed(seed: int, dataset: int) -> int:
    """Seed of one dataset: two that are alike in shape, such as a translation, must not come in the same order."""
    return int.from_bytes(hashlib.blake2b(f"{seed} {dataset}".encode(), digest_size=8).digest(), "little") >> 1


def _columns(rows: Rows) -> str:
    return ", ".join(f"{field.name} {field.type}" for field in rows.schema)
