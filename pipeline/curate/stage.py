"""The contract between a curation step and Ray Data; the only adapter to it.

A stage is a frozen dataclass: its fields are its config, its one method is its work, and it knows nothing of Ray.
Rows are dicts. A row whose `state` is set has left: it keeps its key and its reason and passes every later stage
untouched, so one pass writes rows that stay and rows that left alike.

Guarantees: an exception in a stage costs one row, which becomes *failed* with the exception's class as its reason;
`through` casts every block to one declared schema, so types never depend on what a block happens to hold.
"""
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.curate import meter

if TYPE_CHECKING:
    from ray.data import Dataset

    from pipeline.curate.guard import Guard

Row = dict[str, Any]
State = Literal["kept", "dropped", "failed", "unknown", "deferred"]


class Leave(Exception):  # noqa: N818 - control flow of one row, not an error of ours
    """Raised in a stage: this row leaves here, in `state`, for `reason` (a stable snake_case code)."""

    def __init__(self, state: State, reason: str, *, retryable: bool = False, detail: str = "") -> None:
        super().__init__(f"{state}: {reason} {detail}".rstrip())
        self.state, self.reason, self.retryable, self.detail = state, reason, retryable, detail

    def __reduce__(self) -> tuple[Any, ...]:
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
        return Leave("failed", "out_of_memory", detail=str(error)[:500] or "an allocation was refused")
    words = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower())  # metrics take ASCII only
    return Leave("failed", "_".join(words)[:80] or "error", detail=str(error)[:500])


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one worker of a stage needs; `workers` (least, most) makes it a pool of actors, None stateless tasks."""

    cpus: float = 1.0
    gpus: float = 0.0
    workers: tuple[int, int] | None = None


class Stage:
    """One step of curation; use one of its four kinds."""

    resources: ClassVar[Resources] = Resources()
    batch_rows: ClassVar[int] = 32

    def rows(self, batch: list[Row]) -> Iterator[Row]:
        """What becomes of rows that have not left; exceptions are the caller's to handle."""
        raise NotImplementedError


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
        out = self.batch(batch)
        assert len(out) == len(batch), f"{type(self).__name__} returned {len(out)} rows for {len(batch)}"
        yield from out


def apply(stage: Stage, rows: list[Row]) -> list[Row]:
    """Run a stage over rows, without Ray: those that left pass by, and an error costs the one row that caused it."""
    out = [row for row in rows if row.get("state") is not None]
    for _, made in groups(stage, [row for row in rows if row.get("state") is None]):
        out += made
    return out


def groups(stage: Stage, rows: list[Row]) -> list[tuple[Row, list[Row]]]:
    """Each row that had not left, and what became of it."""
    if isinstance(stage, Batch):
        return _bisect(stage, rows)
    return [pair for row in rows for pair in _bisect(stage, [row])]


def _bisect(stage: Stage, rows: list[Row]) -> list[tuple[Row, list[Row]]]:
    if not rows:
        return []
    try:
        made = list(stage.rows(rows))
        return [(row, [out]) for row, out in zip(rows, made, strict=True)] if isinstance(stage, Batch) else [(rows[0], made)]
    except Exception as error:  # noqa: BLE001 - whatever it is, it becomes a row
        if len(rows) == 1:
            return [(rows[0], [left(rows[0], failure(error))])]
    middle = len(rows) // 2
    return _bisect(stage, rows[:middle]) + _bisect(stage, rows[middle:])


def through(dataset: "Dataset", *stages: Stage, schema: pa.Schema, guard: "Guard | None" = None) -> "Dataset":
    """Send a dataset through stages; every block that leaves one has `schema`.

    With a `guard`, stages work in child processes within its limits, so that a row which kills or hangs its process
    costs itself alone.
    """
    from ray.data import ActorPoolStrategy  # so that stages are tested without starting Ray

    for stage in stages:
        needs = stage.resources
        compute = ActorPoolStrategy(min_size=needs.workers[0], max_size=needs.workers[1]) if needs.workers else None
        dataset = dataset.map_batches(
            _worker(stage, schema, guard), batch_format="pyarrow", batch_size=stage.batch_rows, zero_copy_batch=True,
            compute=compute, num_cpus=needs.cpus, num_gpus=needs.gpus or None,
        )
    return dataset


def start(inputs: pa.Table, schema: pa.Schema, *, unit: str, **renamed: str) -> pa.Table:
    """Inputs as rows of a step: columns of `schema` by name, or by `column="its name among the inputs"`; the rest is null."""
    columns = {"input_key": inputs["key"], "unit": pa.array([unit] * inputs.num_rows, pa.string())}
    for field in schema:
        source = renamed.get(field.name, field.name)
        if field.name not in columns and source in inputs.column_names:
            columns[field.name] = inputs[source]
    return pa.table([columns[f.name].cast(f.type) if f.name in columns else pa.nulls(inputs.num_rows, f.type) for f in schema],
                    schema=schema)


def to_table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    """Rows as a table of exactly `schema`; a column that the schema lacks is an error of ours."""
    unknown = {name for row in rows for name in row} - set(schema.names)
    assert not unknown, f"columns {sorted(unknown)} are not in the schema of this step"
    return pa.Table.from_pylist(rows, schema=schema)


def table_of(done: list[tuple[Row, list[Row]]], schema: pa.Schema) -> pa.Table:
    """What became of rows as a table; a value that its column cannot hold costs the one row it was made from."""
    try:
        return to_table([row for _, made in done for row in made], schema)
    except (pa.ArrowException, UnicodeError, ValueError, TypeError, OverflowError) as error:
        if len(done) == 1:
            return to_table([left(done[0][0], failure(error))], schema)
    middle = len(done) // 2
    return pa.concat_tables([table_of(done[:middle], schema), table_of(done[middle:], schema)])


def process(stage: Stage, table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Run a stage over a table in this process."""
    gone, waiting = _parted(table, schema)
    return pa.concat_tables([gone, table_of(groups(stage, waiting.to_pylist()), schema)]) if waiting.num_rows else gone


def _parted(table: pa.Table, schema: pa.Schema) -> tuple[pa.Table, pa.Table]:
    waits = pc.is_null(table["state"])
    return table.filter(pc.invert(waits)).cast(schema), table.filter(waits)


def _worker(stage: Stage, schema: pa.Schema, guard: "Guard | None") -> Callable[[pa.Table], pa.Table] | type:
    def work(table: pa.Table) -> pa.Table:
        started = time.monotonic()
        if guard is None:
            out = process(stage, table, schema)
        else:
            gone, waiting = _parted(table, schema)
            out = pa.concat_tables([gone, guard.run(stage, waiting, schema)]) if waiting.num_rows else gone
        meter.observe(type(stage).__name__, out, time.monotonic() - started)
        return out

    class Worker:
        def __call__(self, table: pa.Table) -> pa.Table:
            return work(table)

    fn = Worker if stage.resources.workers else work
    fn.__name__ = fn.__qualname__ = type(stage).__name__  # what Ray shows in its progress and stats
    return fn
