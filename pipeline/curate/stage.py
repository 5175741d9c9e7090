"""The contract of a curation step.

A stage is a frozen dataclass: its fields are its config, its one method is its work, and it knows nothing of Ray.
Rows are dicts. A row whose `state` is set has left: it keeps its key and its reason and passes every later stage
untouched, so one pass writes rows that stay and rows that left alike. A filter decides on numbers that an earlier stage
stored (`score`), so that thresholds can be replayed.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

_DETAIL_CHARS = 500
# How Python shows what has no text of its own: an address, another one in each run.
_ADDRESS = re.compile(r"<[^<>]{1,200} at 0x[0-9a-fA-F]+>")
# Bytes as only a debugger reads them.
_HEX = re.compile(r"\b0x[0-9a-fA-F]+|b'[^']{0,500}\\x[^']{0,500}'")

Row = dict[str, Any]
State = Literal["kept", "dropped", "failed", "unknown", "deferred"]


class Leave(Exception):  # noqa: N818 - control flow of one row, not an error of ours
    """Raised in a stage: this row leaves here, in `state`, for `reason` (a stable snake_case code)."""

    def __init__(self, state: State, reason: str, *, retryable: bool = False, detail: str = "") -> None:
        super().__init__(f"{state}: {reason} {detail}".rstrip())
        self.state, self.reason, self.retryable, self.detail = state, reason, retryable, detail

    def __reduce__(self) -> tuple[object, ...]:
        return _leave, (self.state, self.reason, self.retryable, self.detail)


def _leave(state: State, reason: str, retryable: bool, detail: str) -> Leave:
    return Leave(state, reason, retryable=retryable, detail=detail)


def left(row: Row, leave: Leave) -> Row:
    """The row as it leaves."""
    return row | {"state": leave.state, "reason": leave.reason, "retryable": leave.retryable, "detail": leave.detail}


def failure(error: Exception) -> Leave:
    """Any exception as a way to leave: *failed*, under its class name."""
    if isinstance(error, Leave):
        return error
    if isinstance(error, MemoryError):
        return Leave("failed", "out_of_memory", detail=str(error)[:_DETAIL_CHARS] or "an allocation was refused")
    name = type(error).__name__
    if name.lower() in ("error", "exception"):  # csv.Error, zlib.error: their module says more
        name = f"{type(error).__module__.lstrip('_')}_{name}"
    name = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    code = "_".join(re.findall(r"[a-z0-9]+", name))  # metrics take ASCII only
    detail = _HEX.sub("(bytes)", _ADDRESS.sub("<an object>", str(error)[:_DETAIL_CHARS]))
    return Leave("failed", code[:80] or "unnamed_error", detail=detail)


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one worker of a stage needs; `workers` (least, most) makes it a pool of actors, None stateless tasks.

    `memory_mb` is what Ray sets aside for it on its node; None leaves that to Ray."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory_mb: int | None = None
    workers: tuple[int, int] | None = None


class Stage:
    """One step of curation; use one of its four kinds."""

    resources: ClassVar[Resources] = Resources()
    batch_rows: ClassVar[int] = 32

    def rows(self, batch: list[Row]) -> Iterator[Row]:
        """What becomes of rows that have not left; exceptions are the caller's to handle."""
        raise NotImplementedError

    def answer(self, question: bytes, run_dir: str | None) -> bytes:
        """In the worker: the answer to what this stage asked by `upcall` from a child process."""
        raise NotImplementedError(f"{type(self).__name__} asks its worker nothing")

    def depends_on(self) -> dict[str, str]:
        """What the rows depend on beside fields and code: of a model its weights' sha256, under a name that says so."""
        return {}


class Map(Stage):
    """One row in, one row out."""

    def map(self, row: Row) -> Row:
        """The row with more columns; raise Leave to let it go."""
        raise NotImplementedError

    def rows(self, batch: list[Row]) -> Iterator[Row]:  # noqa: D102 - as in Stage
        for row in batch:
            yield self.map(row)


class Split(Stage):
    """One row in, any number out."""

    def split(self, row: Row) -> Iterator[Row]:
        """The parts of a row, each under a key of its own. The row itself is gone unless it is yielded."""
        raise NotImplementedError

    def rows(self, batch: list[Row]) -> Iterator[Row]:  # noqa: D102 - as in Stage
        for row in batch:
            yield from self.split(row)


class Filter(Stage):
    """Says why a row is dropped."""

    def reason(self, row: Row) -> str | None:
        """A stable snake_case code, or None to keep; raise Leave("unknown", …) if the score is missing."""
        raise NotImplementedError

    def rows(self, batch: list[Row]) -> Iterator[Row]:  # noqa: D102 - as in Stage
        for row in batch:
            reason = self.reason(row)
            yield row if reason is None else left(row, Leave("dropped", reason))


class Batch(Stage):
    """Many rows at once, for models on GPUs and for concurrent I/O."""

    def batch(self, rows: list[Row]) -> list[Row]:
        """As many rows as came, in the same order; `left` marks those that leave."""
        raise NotImplementedError

    def rows(self, batch: list[Row]) -> Iterator[Row]:  # noqa: D102 - as in Stage
        answers = self.batch(batch)
        assert len(answers) == len(batch), f"{type(self).__name__} returned {len(answers)} rows for {len(batch)}"
        yield from answers


def score(row: Row, name: str) -> float:
    """A stored score; leaves as unknown `<name>_missing` if it was never computed, which is neither good nor bad."""
    value: float | None = row.get(name)
    if value is None:
        raise Leave("unknown", f"{name}_missing")
    return value
