"""Which samples a step sees, and every random choice about them, computed instead of remembered.

Guarantees:
- the ids at (step, slot) are a pure function of (rows per row group, seed, window): no state, no history, and no trace
  of how many ranks there are. Each epoch holds every id exactly once, and a step may span two epochs.
- a random choice about a sample is a pure function of (seed, epoch, id, purpose): the same in any batch, on any rank.
- `Chain` condenses all ids seen so far into one hash; to check it against an order costs at most `ANCHOR` steps.

Shuffling is by row group and then by row within a window of row groups, so that a store is read in large ranges: at any
time only about two windows are in use. With `window_groups=0` the window is everything: a full shuffle.

Letters: n positions asked for, G row groups, W windows.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

ANCHOR = 200
"""Steps after which the chain takes a new anchor."""

_ROUNDS = 8  # of the Feistel network; four are enough for it to look random (Luby and Rackoff, 1988)


class Stream(Protocol):
    """An endless stream of samples: `Order` for one dataset, `Mixture` for several."""

    @property
    def seed(self) -> int:
        """Seed of the random numbers of its samples."""
        ...

    @property
    def fingerprint(self) -> str:
        """Sha256 (hex) of all that the stream depends on."""
        ...

    def ids(self, step: int, global_batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids of the global batch of a step and the epoch of each, both (global_batch,) int64; steps count from 0."""
        ...

    def dealt(self, ids: np.ndarray) -> np.ndarray:
        """The slots of a step in the order in which they are dealt to ranks, (len(ids),): neighbours to the same
        rank."""
        ...


@dataclass(frozen=True, kw_only=True)
class Order:
    """The order of a dataset of G row groups. Ids number rows through all row groups, in the groups' order."""

    group_rows: tuple[int, ...]
    """Rows in each row group, (G,)."""
    seed: int
    window_groups: int = 0
    """Row groups that are shuffled together; 0: all."""
    dataset: str = ""
    """Digest of the data behind the ids; it changes no order, only the fingerprint."""

    def __post_init__(self) -> None:
        if sum(self.group_rows) < 1 or min(self.group_rows) < 0:
            raise ValueError("the dataset has no rows; check that the steps before this one kept any")
        if self.window_groups < 0:
            raise ValueError(f"--train.window-blocks is {self.window_groups}; use 0 (all) or a number of row groups")

    @cached_property
    def num_samples(self) -> int:
        """Rows in one epoch."""
        return sum(self.group_rows)

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) of all that the order depends on."""
        rows = np.asarray(self.group_rows, np.int64).tobytes()
        return hashlib.sha256(f"{self.seed} {self.window_groups} {self.dataset} ".encode() + rows).hexdigest()

    def ids(self, step: int, global_batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids of the global batch of a step and the epoch of each, both (global_batch,) int64; steps count from 0."""
        return self.at(step * global_batch + np.arange(global_batch, dtype=np.int64))

    def at(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids and epochs at some positions of the endless stream, both (n,) int64; positions count from 0."""
        epoch, place = np.divmod(position, self.num_samples)  # (n,) each
        ids = np.empty(len(position), np.int64)
        for e in np.unique(epoch):  # two at most, but for a batch larger than the dataset
            ids[epoch == e] = self._ids(int(e), place[epoch == e])
        return ids, epoch

    def dealt(self, ids: np.ndarray) -> np.ndarray:
        """The slots of a step by id: of W ranks each reads about one W-th of the row groups of a window."""
        # Neighbours to one rank: it then has the row groups of its share in memory, and not those of all.
        return np.argsort(ids, kind="stable")

    def _ids(self, epoch: int, place: np.ndarray) -> np.ndarray:
        """Ids at some places of an epoch, (n,).

        Four row groups of 3, 2, 4 and 1 rows, in windows of two:

            as they are stored        0 0 0 1 1 2 2 2 2 3
            row groups shuffled       2 2 2 2 0 0 0 3 1 1     a window is read in few, large ranges
            windows                  [2 2 2 2 0 0 0|3 1 1]
            rows shuffled in each    [0 2 2 0 2 0 2|1 3 1]    place 0 is the first sample of the epoch
        """
        if self.window_groups == 0:
            return permute(place, self.num_samples, _key(self.seed, epoch))
        groups = self._shuffled_groups(epoch)
        window_starts = groups.starts[:: self.window_groups]  # (W,)
        window_ends = np.append(window_starts[1:], self.num_samples)  # (W,); the last window may be a shorter one
        window = np.searchsorted(window_starts, place, side="right") - 1  # (n,)
        shuffled = np.empty(len(place), np.int64)  # places before the rows of each window were shuffled
        for w in np.unique(window):
            mine = window == w
            start, size = window_starts[w], int(window_ends[w] - window_starts[w])
            shuffled[mine] = start + permute(place[mine] - start, size, _key(self.seed, epoch, int(w)))
        group = np.searchsorted(groups.ends, shuffled, side="right")  # (n,)
        return groups.first_ids[group] + shuffled - groups.starts[group]

    def _shuffled_groups(self, epoch: int) -> "_Groups":
        groups = self._shuffles.get(epoch)
        if groups is None:
            rows = np.asarray(self.group_rows, np.int64)  # (G,)
            order = permute(np.arange(len(rows), dtype=np.int64), len(rows), _key(self.seed, epoch, -1))  # (G,)
            ends = np.cumsum(rows[order])
            groups = _Groups(first_ids=(np.cumsum(rows) - rows)[order], starts=ends - rows[order], ends=ends)
            if len(self._shuffles) == 2:  # a step may span two epochs
                self._shuffles.clear()
            self._shuffles[epoch] = groups
        return groups

    @cached_property
    def _shuffles(self) -> "dict[int, _Groups]":
        return {}


@dataclass(frozen=True, kw_only=True)
class _Groups:
    """The row groups in the order of an epoch, (G,) each: first id, and where a group begins and ends in it."""

    first_ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


def _key(*parts: int) -> np.ndarray:
    """A word for each round, (_ROUNDS,) uint64, a pure function of the parts."""
    words = hashlib.blake2b(" ".join(map(str, parts)).encode(), digest_size=8 * _ROUNDS).digest()
    return np.frombuffer(words, np.uint64)


def permute(index: np.ndarray, size: int, key: np.ndarray) -> np.ndarray:
    """A keyed permutation of [0, size), evaluated at `index`.

    A Feistel network over the smallest domain 4**k >= size; what falls outside walks on along its cycle (Black and
    Rogaway, "Ciphers with Arbitrary Finite Domains", 2002), at most 4 times on average.
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)  # bits of each half of an index
    value = index.astype(np.uint64)  # (n,)
    value = _feistel(value, np.uint64(half), key)
    while (outside := value >= size).any():  # what is inside stays, so no two indices come to the same place
        value[outside] = _feistel(value[outside], np.uint64(half), key)
    return value.astype(np.int64)


def _feistel(value: np.ndarray, half: np.uint64, key: np.ndarray) -> np.ndarray:
    """A permutation of [0, 4**half), (n,) uint64: each round can be undone, whatever `_mix` is."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = value >> half, value & mask
    for word in key:
        left, right = right, left ^ (_mix(right + word) & mask)
    return (left << half) | right


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@dataclass(frozen=True, kw_only=True)
class Chain:
    """A hash over the ids of steps [0, step), `value`; `anchor` was its value at the multiple of ANCHOR before;
    `stream` is the fingerprint of what the ids are of."""

    step: int
    value: str
    anchor: str
    stream: str

    @staticmethod
    def start(order: Stream) -> "Chain":
        """The chain before the first step."""
        return Chain(step=0, value=order.fingerprint, anchor=order.fingerprint, stream=order.fingerprint)

    def next(self, ids: np.ndarray) -> "Chain":
        """The chain after one more step with these ids."""
        # Little-endian, so that machines of both kinds agree.
        value = hashlib.sha256(bytes.fromhex(self.value) + np.ascontiguousarray(ids, "<i8").tobytes()).hexdigest()
        return replace(
            self, step=self.step + 1, value=value, anchor=self.value if self.step % ANCHOR == 0 else self.anchor
        )

    def check(self, order: Stream, global_batch: int) -> None:
        """Raise ValueError unless `order` is of the same samples and yields the ids that this chain has seen since its
        anchor."""
        # From the last anchor on: to hash a long run again would take minutes, and what came before is in the anchor.
        first = max(0, self.step - 1) // ANCHOR * ANCHOR
        again = Chain.start(order) if first == 0 else replace(self, step=first, value=self.anchor)
        for step in range(first, self.step):
            again = again.next(order.ids(step, global_batch)[0])
        if again.value != self.value or order.fingerprint != self.stream:
            raise ValueError(
                f"the checkpoint of step {self.step} was trained on other samples: the dataset, a weight, "
                "--train.seed, --train.global-batch or --train.window-blocks changed; restore them, or choose a new "
                "run_dir"
            )


class Draw:
    """Random numbers for the n samples of a batch, each from its own counter-based stream.

    The stream of (seed, epoch, id, purpose) is Philox4x64 (Salmon et al., "Parallel Random Numbers: As Easy as 1, 2,
    3", 2011) under the key BLAKE2b-128 of the four. Asking again for a purpose gives the same numbers again.
    """

    def __init__(self, seed: int, ids: np.ndarray, epochs: np.ndarray) -> None:
        self.ids = ids  # (n,)
        self._epochs = epochs  # (n,)
        self._seed = seed
        self._bits = np.random.Philox(key=0)
        self._generator = np.random.Generator(self._bits)
        self._fresh = self._bits.state  # made once: a new generator for each sample costs 25 times as much

    def uniform(self, purpose: str, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Uniform in [0, 1), (n, *shape) float32."""
        return self._fill(purpose, shape, np.float32, lambda row, _: self._generator.random(dtype=np.float32, out=row))

    def normal(self, purpose: str, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Standard normal, (n, *shape) float32."""
        return self._fill(
            purpose, shape, np.float32, lambda row, _: self._generator.standard_normal(dtype=np.float32, out=row)
        )

    def integers(self, purpose: str, high: int | np.ndarray, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Uniform in [0, high), (n, *shape) int64; `high` is one number or one for each sample."""
        highs = np.broadcast_to(high, len(self.ids))  # (n,)

        def draw(row: np.ndarray, i: int) -> None:
            row[...] = self._generator.integers(highs[i], size=row.shape)

        return self._fill(purpose, shape, np.int64, draw)

    def _fill(
        self, purpose: str, shape: tuple[int, ...], dtype: type, draw: Callable[[np.ndarray, int], object]
    ) -> np.ndarray:
        values: np.ndarray = np.empty((len(self.ids), *shape), dtype)  # (n, *shape)
        flat = values.reshape(len(self.ids), -1)  # (n, numbers of a sample)
        for i, (sample, epoch) in enumerate(zip(self.ids.tolist(), self._epochs.tolist(), strict=True)):
            name = f"{self._seed} {epoch} {sample} {purpose}".encode()
            self._fresh["state"]["key"] = np.frombuffer(hashlib.blake2b(name, digest_size=16).digest(), np.uint64)
            self._bits.state = self._fresh  # counter 0 of the stream that the key names
            draw(flat[i], i)
        return values
