"""Which samples a step sees, and every random choice about them, computed instead of remembered.

Guarantees:
- the ids at (step, slot) are a pure function of (rows per block, seed, window): no state, no history, and no trace of
  how many ranks there are. Each epoch holds every id exactly once, and a step may span two epochs.
- a random choice about a sample is a pure function of (seed, epoch, id, purpose): the same in any batch, on any rank.
- `Chain` condenses all ids seen so far into one hash; to check it against an order costs at most `ANCHOR` steps.

Shuffling is by block (row group) and then by row within a window of blocks, so that a store is read in large ranges:
at any time only about two windows are in use. With `window_blocks=0` the window is everything: a full shuffle.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import numpy as np

ANCHOR = 200
"""Steps after which the chain takes a new anchor."""

_ROUNDS = 8


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
    """The order of a dataset of `len(block_rows)` blocks. Ids number rows through all blocks, in the blocks' order."""

    block_rows: tuple[int, ...]
    seed: int
    window_blocks: int = 0
    dataset: str = ""
    """Digest of the data behind the ids; it changes no order, only the fingerprint."""

    def __post_init__(self) -> None:
        if sum(self.block_rows) < 1 or min(self.block_rows) < 0:
            raise ValueError("the dataset has no rows; check that the steps before this one kept any")
        if self.window_blocks < 0:
            raise ValueError(f"--train.window-blocks is {self.window_blocks}; use 0 (all) or a number of row groups")

    @cached_property
    def num_samples(self) -> int:
        """Rows in one epoch."""
        return sum(self.block_rows)

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 (hex) of all that the order depends on."""
        rows = np.asarray(self.block_rows, np.int64).tobytes()
        return hashlib.sha256(f"{self.seed} {self.window_blocks} {self.dataset} ".encode() + rows).hexdigest()

    def ids(self, step: int, global_batch: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids of the global batch of a step and the epoch of each, both (global_batch,) int64; steps count from 0."""
        return self.at(step * global_batch + np.arange(global_batch, dtype=np.int64))

    def at(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ids and epochs at some positions of the endless stream, both (n,) int64; positions count from 0."""
        epoch, place = np.divmod(position, self.num_samples)
        out = np.empty(len(position), np.int64)
        for e in np.unique(epoch):
            out[epoch == e] = self._at(int(e), place[epoch == e])
        return out, epoch

    def dealt(self, ids: np.ndarray) -> np.ndarray:
        """The slots of a step by id: of W ranks each reads about one W-th of the row groups of a window."""
        return np.argsort(ids, kind="stable")

    def _at(self, epoch: int, place: np.ndarray) -> np.ndarray:
        if self.window_blocks == 0:
            return permute(place, self.num_samples, _key(self.seed, epoch))
        first_ids, rows, ends = self._shuffled_blocks(epoch)
        first = ends[self.window_blocks - 1 :: self.window_blocks]  # where each window but a shorter last one ends
        out = np.empty(len(place), np.int64)
        window = np.searchsorted(first, place, side="right")
        for w in np.unique(window):
            mine = window == w
            lo = 0 if w == 0 else first[w - 1]
            hi = first[w] if w < len(first) else self.num_samples
            at = lo + permute(place[mine] - lo, int(hi - lo), _key(self.seed, epoch, int(w)))
            block = np.searchsorted(ends, at, side="right")
            out[mine] = first_ids[block] + at - (ends[block] - rows[block])
        return out

    def _shuffled_blocks(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the blocks in this epoch's order: first id, rows, and where each ends in that order."""
        found = self._shuffles.get(epoch)
        if found is None:
            rows = np.asarray(self.block_rows, np.int64)
            blocks = permute(np.arange(len(rows), dtype=np.int64), len(rows), _key(self.seed, epoch, -1))
            found = (np.cumsum(rows) - rows)[blocks], rows[blocks], np.cumsum(rows[blocks])
            if len(self._shuffles) == 2:  # a step may span two epochs
                self._shuffles.clear()
            self._shuffles[epoch] = found
        return found

    @cached_property
    def _shuffles(self) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        return {}


def _key(*parts: int) -> np.ndarray:
    words = hashlib.blake2b(" ".join(map(str, parts)).encode(), digest_size=8 * _ROUNDS).digest()
    return np.frombuffer(words, np.uint64)


def permute(index: np.ndarray, size: int, key: np.ndarray) -> np.ndarray:
    """A keyed permutation of [0, size), evaluated at `index`.

    A Feistel network over the smallest domain 4**k >= size; what falls outside walks on along its cycle (Black and
    Rogaway, "Ciphers with Arbitrary Finite Domains", 2002), at most 4 times on average.
    """
    half = max(1, (max(size - 1, 1).bit_length() + 1) // 2)
    value = index.astype(np.uint64)
    value = _feistel(value, np.uint64(half), key)
    while (outside := value >= size).any():
        value[outside] = _feistel(value[outside], np.uint64(half), key)
    return value.astype(np.int64)


def _feistel(value: np.ndarray, half: np.uint64, key: np.ndarray) -> np.ndarray:
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
        value = hashlib.sha256(bytes.fromhex(self.value) + np.ascontiguousarray(ids, "<i8").tobytes()).hexdigest()
        return replace(
            self, step=self.step + 1, value=value, anchor=self.value if self.step % ANCHOR == 0 else self.anchor
        )

    def check(self, order: Stream, global_batch: int) -> None:
        """Raise ValueError unless `order` is of the same samples and yields the ids that this chain has seen since its
        anchor."""
        first = max(0, self.step - 1) // ANCHOR * ANCHOR
        again = replace(self, step=first, value=self.anchor)
        if first == 0:
            again = Chain.start(order)
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
        self.ids, self._seed, self._epochs = ids, seed, epochs
        self._bits = np.random.Philox(key=0)
        self._generator = np.random.Generator(self._bits)
        self._fresh = self._bits.state  # made once: a new generator for each sample costs 25 times as much

    def uniform(self, purpose: str, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Uniform in [0, 1), (n, *shape) float32."""
        return self._fill(purpose, shape, np.float32, lambda out, _: self._generator.random(dtype=np.float32, out=out))

    def normal(self, purpose: str, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Standard normal, (n, *shape) float32."""
        return self._fill(
            purpose, shape, np.float32, lambda out, _: self._generator.standard_normal(dtype=np.float32, out=out)
        )

    def integers(self, purpose: str, high: int | np.ndarray, shape: tuple[int, ...] = ()) -> np.ndarray:
        """Uniform in [0, high), (n, *shape) int64; `high` is one number or one for each sample."""
        high = np.broadcast_to(high, len(self.ids))

        def draw(out: np.ndarray, i: int) -> None:
            out[...] = self._generator.integers(high[i], size=out.shape)

        return self._fill(purpose, shape, np.int64, draw)

    def _fill(
        self, purpose: str, shape: tuple[int, ...], dtype: type, draw: Callable[[np.ndarray, int], object]
    ) -> np.ndarray:
        out = np.empty((len(self.ids), *shape), dtype)  # (n, *shape)
        flat = out.reshape(len(self.ids), -1)
        for i, (sample, epoch) in enumerate(zip(self.ids.tolist(), self._epochs.tolist(), strict=True)):
            name = f"{self._seed} {epoch} {sample} {purpose}".encode()
            self._fresh["state"]["key"] = np.frombuffer(hashlib.blake2b(name, digest_size=16).digest(), np.uint64)
            self._bits.state = self._fresh
            draw(flat[i], i)
        return out
