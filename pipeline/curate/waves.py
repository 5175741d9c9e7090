"""Waves: exactly-once curation on Ray Data, on local disks and on S3.

A step's inputs are cut into a pinned plan of waves (`plan`). A wave runs them through the step's stages and writes
files under a prefix of its own attempt; the files become visible by one manifest, created last and exclusively. So a
wave is there as a whole or not at all, however often it is tried and whoever tries it. Inputs that are worked on again
form further rounds of waves, whose rows stand for the older ones. Rows lie in pairs of files: their scores, which are
read whole and checked whenever they are judged, and their media and words, which are read when they are exported.

Guarantees: every input of a committed wave has exactly one row of the input's own unit in it (checked before the
commit), beside any number of parts; resuming lists manifests, never rows; a lost answer is settled by reading the
manifest back; another attempt's files are never deleted.
Costs: one listing, and one manifest of a few kB a wave; about a second of Ray Data start-up for each wave.
"""

import errno
import json
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.curate import metrics, plan
from pipeline.lease import Lease
from pipeline.log import Progress, cause_of, logger
from pipeline.manifest import commit, read_manifest, read_manifests, write_sealed
from pipeline.ranges import check_range
from pipeline.records import PAYLOAD, without_secrets
from pipeline.storage import File, Store, read_table, write_parquet

if TYPE_CHECKING:
    from ray.data import Dataset

KEY_SPACE = 1 << 128
INPUTS = "inputs.json"
NAMES = r"\d{3,}-\d{6,}\.json"
"""What manifests of waves are called, within their folder."""
_WRITTEN = pa.schema(
    [("part", pa.string()), ("counts", pa.string()), ("inputs", pa.int64()), ("keys_sum", pa.string())]
)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows of a wave, in two files of as many rows: `payload` has their media and words, `scores` all else."""

    scores: File
    payload: File


@dataclass(frozen=True, kw_only=True)
class WaveConfig:
    """How a step's inputs are cut."""

    wave_rows: int = 2048
    """Inputs that commit together, fewer where they are costly; aim at a minute or more of work: a wave costs a
    second."""
    split_rows: int = 64
    """Inputs that one Ray task takes at a time, fewer where they are costly."""

    def __post_init__(self) -> None:
        check_range(self, "wave_rows", "split_rows", low=1)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What turns inputs into rows: the stages, and how their work is cut and guarded."""

    name: str
    dag: "Callable[[Dataset], Dataset]"
    """A dataset of inputs to one of rows; it may be called often."""
    config: WaveConfig
    lease: Lease | None = None
    """Checked before each commit."""
    refuse: Callable[[pa.Table], pa.Table] | None = None
    """Marks inputs that must not be worked on."""


def run(store: Store, inputs: pa.Table, step: Step, *, expected: pa.ChunkedArray | None = None) -> None:
    """Run every wave that has no manifest yet; `expected` says of each input how large or long it is, where known."""
    costs = np.ones(inputs.num_rows) if expected is None else plan.estimate(expected)
    if (order := plan.longest_first(costs)) is not None:
        inputs, costs = inputs.take(order), costs[order]
    plan.pin(store, inputs["key"], costs, step.config.wave_rows)
    _run_round(store, 0, inputs, costs, step)
    for number in plan.rounds(store)[1:]:
        if len(committed(store, number)) != len(plan.waves(store, number) or ()):
            rows = plan.round_rows(store, number)
            _run_round(store, number, rows, np.ones(rows.num_rows), step)


def again(store: Store, rows: pa.Table, step: Step) -> None:
    """Work on some inputs again, in a round of its own."""
    number = plan.add_round(store, rows, np.ones(rows.num_rows), step.config.wave_rows)
    _run_round(store, number, rows, np.ones(rows.num_rows), step)


def committed(store: Store, number: int = 0) -> set[int]:
    """Numbers of the visible waves of a round."""
    return {wave for round_, wave in _listed(store) if round_ == number}


def is_complete(store: Store, rounds: int | None = None) -> bool:
    """True if every wave of every round has its manifest, or of the first `rounds` of them."""
    there = set(_listed(store))
    numbers = plan.rounds(store)[:rounds]
    planned = {(number, wave) for number in numbers for wave in range(len(plan.waves(store, number) or ()))}
    return bool(numbers) and planned <= there


def every_manifest(store: Store) -> list[dict[str, Any]]:
    """The manifests of all committed waves, by round and number."""
    return read_manifests(store, [_manifest_name(*wave) for wave in _listed(store)])


def parts_of(wave: dict[str, Any]) -> list[Part]:
    """The parts that a wave's manifest names, in its order."""
    files = wave["files"]
    return [Part(scores=scores, payload=payload) for scores, payload in zip(files[::2], files[1::2], strict=True)]


def parts(store: Store) -> list[Part]:
    """Every committed part of the step, in wave order; what no manifest names does not exist."""
    return [part for wave in every_manifest(store) for part in parts_of(wave)]


def read_part(store: Store, part: Part, columns: list[str] | None = None) -> pa.Table:
    """Rows of a part with these columns, by default all; CorruptFileError names a file that is missing or altered."""
    names = None if columns is None else set(columns)
    tables = []
    for file, has in ((part.scores, lambda name: name not in PAYLOAD), (part.payload, lambda name: name in PAYLOAD)):
        if names is None or any(map(has, names)):
            table = read_table(store, file)
            tables.append(
                table.select([name for name in table.column_names if has(name) and (names is None or name in names)])
            )
    joined = {name: table[name] for table in tables for name in table.column_names}
    return pa.table(joined).select(columns or list(joined))


def superseded(found: list[dict[str, Any]]) -> dict[str, int]:
    """Input key -> the last round that worked on it, for those inputs that were worked on again."""
    return {key: wave["round"] for wave in found for key in wave.get("keys", ())}


def current(rows: pa.Table, number: int, latest: dict[str, int]) -> pa.Array:
    """A mask of the rows of a file of round `number` that no later round stands for."""
    if not latest:
        return pa.repeat(True, rows.num_rows)
    return pa.array([latest.get(key, 0) <= number for key in rows["input_key"].to_pylist()], pa.bool_())


def write_inputs(store: Store, rows: pa.Table) -> pa.Table:
    """Commit the step's inputs once; whoever comes second gets what is committed."""
    commit(store, INPUTS, [_write_inputs(store, rows)])
    inputs = read_inputs(store)
    assert inputs is not None
    return inputs


def replace_inputs(store: Store, name: str, rows: pa.Table) -> None:
    """Put other rows, of the same keys in the same order, in the place of those that the manifest `name` commits."""
    committed = read_manifest(store, name)
    assert committed is not None
    write_sealed(store, name, committed | {"files": [asdict(_write_inputs(store, rows))]})


def read_inputs(store: Store, columns: list[str] | None = None) -> pa.Table | None:
    """The committed inputs, or None if none were committed yet."""
    found = read_manifest(store, INPUTS)
    return None if found is None else read_table(store, found["files"][0], columns)


def _write_inputs(store: Store, rows: pa.Table) -> File:
    return write_parquet(store, "inputs/{sha256}.parquet", rows, row_group_rows=65536)


def name_of(found: dict[str, Any]) -> str:
    """The name of a wave's manifest."""
    return _manifest_name(found["round"], found["wave"])


def counts(table: pa.Table) -> Counter[tuple[str, str, str]]:
    """How many rows are in each (unit, state, reason); a row that has not left counts as 'scored'."""
    columns = [table[name].to_pylist() for name in ("unit", "state", "reason")]
    return Counter((unit, state or "scored", reason or "") for unit, state, reason in zip(*columns, strict=True))


def _run_round(store: Store, number: int, inputs: pa.Table, costs: np.ndarray, step: Step) -> None:
    done, at = committed(store, number), 0
    waiting = inputs.num_rows
    with Progress(step.name, inputs.num_rows, "inputs") as progress:
        planned = plan.waves(store, number) or []
        progress.start_at(sum(wave.rows for i, wave in enumerate(planned) if i in done))
        for i, wave in enumerate(planned):
            rows, cost = inputs.slice(at, wave.rows), costs[at : at + wave.rows]
            at += wave.rows
            if i not in done:
                metrics.queue(step.name, waiting)
                if plan.keys_digest(rows["key"]) != wave.keys_sha256:
                    raise RuntimeError(f"wave {i} of the plan of {store.url} names other inputs than those committed")
                _run_wave(store, (number, i), rows, cost, step, progress)
            waiting -= wave.rows
    metrics.queue(step.name, 0)


def _run_wave(
    store: Store, at: tuple[int, int], rows: pa.Table, costs: np.ndarray, step: Step, progress: Progress
) -> None:
    started = time.monotonic()
    work = rows if step.refuse is None else step.refuse(rows)
    splits = _splits(work, plan.cut(costs, step.config.split_rows))
    written = list(_written(store, f"rows/{_wave_name(*at)}-{secrets.token_hex(6)}", splits, step, progress))
    _check_books(at[1], rows, written)
    totals: Counter[str] = Counter()
    for row in written:
        totals.update(json.loads(row["counts"]))
    pairs = sorted(
        ([File(**file) for file in json.loads(row["part"])] for row in written),
        key=lambda pair: (pair[0].sha256, pair[0].path),
    )
    files = [file for pair in pairs for file in pair]
    facts: dict[str, Any] = {
        "round": at[0],
        "wave": at[1],
        "inputs": rows.num_rows,
        "counts": dict(sorted(totals.items())),
    }
    if at[0]:
        facts["keys"] = rows["key"].to_pylist()
    if step.lease is not None:
        step.lease.check()
        facts["epoch"] = step.lease.epoch
    if not commit(store, _manifest_name(*at), files, **facts):
        logger.warning("wave %d was committed by another driver; this attempt is void", at[1])
        return
    metrics.committed(step.name, totals, sum(file.size_bytes for file in files), time.monotonic() - started)


def _splits(rows: pa.Table, ends: list[int]) -> list[pa.Table]:
    return [rows.slice(start, end - start).combine_chunks() for start, end in zip([0, *ends], ends, strict=False)]


def _written(
    store: Store, attempt: str, splits: list[pa.Table], step: Step, progress: Progress
) -> Iterator[dict[str, Any]]:
    """Work on the inputs; what the sink says of each part that it wrote."""
    import ray

    results: Any = step.dag(ray.data.from_arrow(splits)).map_batches(
        _Sink(store, attempt), batch_format="pyarrow", batch_size=None, zero_copy_batch=True
    )
    try:
        for batch in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for row in batch.to_pylist():
                progress.advance(row["inputs"])
                yield row
    except Exception as error:
        cause = cause_of(error)
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            raise OSError(errno.ENOSPC, cause.strerror) from error  # without the advice that Ray hangs on to it
        raise


def _check_books(wave: int, rows: pa.Table, written: list[dict[str, Any]]) -> None:
    """Refuse to commit a wave that lost or doubled an input, whatever the cause."""
    got = sum(row["inputs"] for row in written)
    keys_sum = sum(int(row["keys_sum"]) for row in written) % KEY_SPACE
    if got != rows.num_rows or keys_sum != _keys_sum(rows["key"]):
        raise RuntimeError(f"wave {wave}: {rows.num_rows} inputs went in and {got} came out; nothing was committed")


class _Sink:
    """Writes each block as one part of the attempt and passes on only what the manifest needs to know of it."""

    def __init__(self, store: Store, attempt: str) -> None:
        self.store, self.attempt = store, attempt
        self.__name__ = "Write"

    def __call__(self, table: pa.Table) -> pa.Table:
        if table.num_rows == 0:
            return _WRITTEN.empty_table()
        # A retried Ray task writes another part; only the part whose row arrives is ever committed.
        stem = f"{self.attempt}/{secrets.token_hex(8)}"
        payload = [name for name in table.column_names if name in PAYLOAD]
        scores = without_secrets(table.drop_columns(payload))
        pair = [
            write_parquet(self.store, f"{stem}.scores.parquet", scores, row_group_rows=65536),
            write_parquet(self.store, f"{stem}.payload.parquet", table.select(["key", *payload]), row_group_rows=256),
        ]
        own = table.filter(pc.equal(table["key"], table["input_key"]))
        tally = {"/".join(key): n for key, n in counts(table).items()}
        row = {
            "part": json.dumps([asdict(file) for file in pair]),
            "counts": json.dumps(tally),
            "inputs": own.num_rows,
            "keys_sum": str(_keys_sum(own["key"])),
        }
        return pa.Table.from_pylist([row], schema=_WRITTEN)


def _keys_sum(keys: pa.ChunkedArray) -> int:
    """A digest of a multiset of keys that does not depend on their order."""
    return sum(int(key, 16) for key in keys.to_pylist()) % KEY_SPACE


def _listed(store: Store) -> list[tuple[int, int]]:
    names = sorted(name.removeprefix("waves/").removesuffix(".json") for name in store.list("waves", NAMES))
    return [(int(number), int(wave)) for number, _, wave in (name.partition("-") for name in names)]


def _wave_name(number: int, wave: int) -> str:
    return f"{number:03d}-{wave:06d}"


def _manifest_name(number: int, wave: int) -> str:
    return f"waves/{_wave_name(number, wave)}.json"
