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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import from_json, to_json
from pipeline.curate import metrics, plan
from pipeline.curate.journal import WAVES, Journal
from pipeline.curate.manifests import InputsManifest, ListingRows, Part, WaveManifest
from pipeline.curate.through import tables
from pipeline.lease import Lease
from pipeline.log import Progress, cause_of, logger
from pipeline.manifest import Manifest
from pipeline.ranges import check_range
from pipeline.records import INPUTS, PAYLOAD, plan_name, wave_name, without_secrets
from pipeline.storage import File, Store, read_table, write_parquet

if TYPE_CHECKING:
    from ray.data import Dataset

KEY_SPACE = 1 << 128
_WRITTEN = pa.schema([("written", pa.string())])


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


def run(journal: Journal, inputs: pa.Table, step: Step, *, expected: pa.ChunkedArray | None = None) -> None:
    """Run every wave that has no manifest yet; `expected` says of each input how large or long it is, where known."""
    costs = np.ones(inputs.num_rows) if expected is None else plan.estimate(expected)
    if (order := plan.longest_first(costs)) is not None:
        inputs, costs = inputs.take(order), costs[order]
    plan.pin(journal, inputs["key"], costs, step.config.wave_rows)
    _run_round(journal, 0, inputs, costs, step)
    for number in plan.rounds(journal)[1:]:
        if len(committed(journal, number)) != len(plan.waves(journal, number)):
            rows = plan.round_rows(journal, number)
            _run_round(journal, number, rows, np.ones(rows.num_rows), step)


def again(journal: Journal, rows: pa.Table, step: Step, *, replaces: Sequence[str] | None = None) -> None:
    """Work on some inputs again, in a round of its own; or on new ones, which stand for those that they replace."""
    number = plan.add_round(journal, rows, np.ones(rows.num_rows), step.config.wave_rows, replaces)
    _run_round(journal, number, rows, np.ones(rows.num_rows), step)


def committed(journal: Journal, number: int = 0) -> set[int]:
    """Numbers of the visible waves of a round."""
    return {wave for round_, wave in _visible(journal) if round_ == number}


def is_complete(journal: Journal, rounds: int | None = None) -> bool:
    """True if every wave of every round has its manifest, or of the first `rounds` of them."""
    numbers = plan.rounds(journal)[:rounds]
    planned = {(number, wave) for number in numbers for wave in range(len(plan.waves(journal, number)))}
    return bool(numbers) and planned <= _visible(journal)


def every_manifest(journal: Journal) -> list[WaveManifest]:
    """The manifests of all committed waves, by round and number."""
    return sorted(journal.all(WAVES, WaveManifest), key=lambda wave: (wave.round, wave.wave))


def parts(journal: Journal) -> list[Part]:
    """Every committed part of the step, in wave order; what no manifest names does not exist."""
    return [part for wave in every_manifest(journal) for part in wave.parts]


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


def superseded(manifests: list[WaveManifest]) -> dict[str, int]:
    """Input key -> the last round that worked on it, for those inputs that were worked on again."""
    return {key: wave.round for wave in manifests for key in wave.keys or ()}


def current(rows: pa.Table, number: int, latest: dict[str, int]) -> pa.Array:
    """A mask of the rows of a file of round `number` that no later round stands for."""
    if not latest:
        return pa.repeat(True, rows.num_rows)
    return pa.array([latest.get(key, 0) <= number for key in rows["input_key"].to_pylist()], pa.bool_())


def write_inputs(journal: Journal, rows: pa.Table, listings: Sequence[ListingRows] = ()) -> pa.Table:
    """Commit the step's inputs once; whoever comes second gets what is committed."""
    manifest = InputsManifest(files=(_write_inputs(journal.store, rows),), listings=tuple(listings))
    if journal.create(INPUTS, manifest):
        return rows
    inputs = read_inputs(journal)
    assert inputs is not None
    return inputs


def inputs_manifest(journal: Journal, number: int) -> Manifest | None:
    """What commits the rows that a round works on; None if there is no such round, or no inputs yet."""
    return journal.find(plan_name(number), plan.PlanManifest) if number else journal.find(INPUTS, InputsManifest)


def replace_inputs(journal: Journal, number: int, rows: pa.Table) -> None:
    """Put other rows, of the same keys in the same order, in the place of those that a round works on."""
    manifest = inputs_manifest(journal, number)
    assert manifest is not None
    name = plan_name(number) if number else INPUTS
    journal.replace(name, replace(manifest, files=(_write_inputs(journal.store, rows),)))


def read_inputs(journal: Journal, columns: list[str] | None = None) -> pa.Table | None:
    """The committed inputs, or None if none were committed yet."""
    manifest = inputs_manifest(journal, 0)
    return None if manifest is None else read_table(journal.store, manifest.files[0], columns)


def _write_inputs(store: Store, rows: pa.Table) -> File:
    return write_parquet(store, "inputs/{sha256}.parquet", rows, row_group_rows=65536)


def counts(table: pa.Table) -> Counter[tuple[str, str, str]]:
    """How many rows are in each (unit, state, reason); a row that has not left counts as 'scored'."""
    columns = [table[name].to_pylist() for name in ("unit", "state", "reason")]
    return Counter((unit, state or "scored", reason or "") for unit, state, reason in zip(*columns, strict=True))


# ---- one round: its waves in the order of the plan ----


def _run_round(journal: Journal, number: int, inputs: pa.Table, costs: np.ndarray, step: Step) -> None:
    done = committed(journal, number)
    planned = plan.waves(journal, number)
    start = 0
    waiting = inputs.num_rows
    with Progress(step.name, inputs.num_rows, "inputs") as progress:
        progress.start_at(sum(wave.rows for i, wave in enumerate(planned) if i in done))
        for i, wave in enumerate(planned):
            rows, end = inputs.slice(start, wave.rows), start + wave.rows
            if i not in done:
                metrics.queue(step.name, waiting)
                # The plan is pinned and the inputs are committed: only damage or another version tears them apart.
                if plan.keys_digest(rows["key"]) != wave.keys_sha256:
                    raise RuntimeError(
                        f"wave {i} of the plan of {journal.store.url} names other inputs than those committed"
                    )
                _run_wave(journal, Attempt(number=number, wave=i), rows, costs[start:end], step, progress)
            waiting -= wave.rows
            start = end
    metrics.queue(step.name, 0)


# ---- one wave: written under the prefix of an attempt, checked, and made visible by one exclusive create ----


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """A try at a wave of a round; its files lie under a prefix that no other try has."""

    number: int
    wave: int
    token: str = field(default_factory=lambda: secrets.token_hex(6))

    @property
    def folder(self) -> str:
        """Where its files lie."""
        return f"rows/{self.number:03d}-{self.wave:06d}-{self.token}"


@dataclass(frozen=True, kw_only=True)
class Written:
    """What the sink tells of a block that it wrote as a part."""

    part: Part
    counts: dict[str, int]
    """Rows by unit/state/reason."""
    inputs: int
    """Rows that stand for an input, not for a part of one."""
    keys_sum: str
    """Decimal; more than 64 bits."""


def _run_wave(
    journal: Journal, attempt: Attempt, rows: pa.Table, costs: np.ndarray, step: Step, progress: Progress
) -> None:
    started = time.monotonic()
    # Work: what is revoked is marked before a stage sees it, so it is not fetched again.
    allowed = rows if step.refuse is None else step.refuse(rows)
    splits = _splits(allowed, plan.cut(costs, step.config.split_rows))
    written = list(_written(journal.store, attempt.folder, splits, step, progress)) if rows.num_rows else []
    # Check: a wave that lost or doubled an input is never committed, whatever the cause.
    _check_books(attempt.wave, rows, written)
    # Commit: a driver that was succeeded finds out here; of two that were not told apart the create lets one through.
    if step.lease is not None:
        step.lease.check()
    manifest = _manifest(attempt, rows, written, None if step.lease is None else step.lease.epoch)
    if attempt.wave == 0 and (replaced := plan.replaced(journal, attempt.number)):
        manifest = replace(manifest, keys=(*(manifest.keys or ()), *replaced))
    if not journal.create(wave_name(attempt.number, attempt.wave), manifest):
        logger.warning("wave %d was committed by another driver; this attempt is void", attempt.wave)
        return
    size_bytes = sum(file.size_bytes for file in manifest.files)
    metrics.committed(step.name, manifest.counts, size_bytes, time.monotonic() - started)


def _manifest(attempt: Attempt, rows: pa.Table, written: list[Written], epoch: int | None) -> WaveManifest:
    """In the order of the parts' digests: which block arrives first is chance."""
    totals: Counter[str] = Counter()
    for block in written:
        totals.update(block.counts)
    parts = sorted((block.part for block in written), key=lambda part: (part.scores.sha256, part.scores.path))
    return WaveManifest(
        files=tuple(file for part in parts for file in (part.scores, part.payload)),
        round=attempt.number,
        wave=attempt.wave,
        inputs=rows.num_rows,
        counts=dict(sorted(totals.items())),
        keys=tuple(rows["key"].to_pylist()) if attempt.number else None,
        epoch=epoch,
    )


def _splits(rows: pa.Table, ends: list[int]) -> list[pa.Table]:
    return [rows.slice(start, end - start).combine_chunks() for start, end in zip([0, *ends], ends, strict=False)]


def _written(store: Store, folder: str, splits: list[pa.Table], step: Step, progress: Progress) -> Iterator[Written]:
    """Work on the inputs; what the sink says of each part that it wrote."""
    import ray

    blocks = step.dag(ray.data.from_arrow(splits)).map_batches(
        _Sink(store, folder), batch_format="pyarrow", batch_size=None, zero_copy_batch=True
    )
    try:
        for table in tables(blocks, prefetch=0):
            for text in table["written"].to_pylist():
                block = from_json(Written, json.loads(text))
                progress.advance(block.inputs)
                yield block
    except Exception as error:
        cause = cause_of(error)
        if isinstance(cause, OSError) and cause.errno == errno.ENOSPC:
            raise OSError(errno.ENOSPC, cause.strerror) from error  # without the advice that Ray hangs on to it
        raise


def _check_books(wave: int, rows: pa.Table, written: list[Written]) -> None:
    """Refuse to commit a wave that lost or doubled an input, whatever the cause."""
    number = sum(block.inputs for block in written)
    keys_sum = sum(int(block.keys_sum) for block in written) % KEY_SPACE
    if number != rows.num_rows or keys_sum != _keys_sum(rows["key"]):
        raise RuntimeError(f"wave {wave}: {rows.num_rows} inputs went in and {number} came out; nothing was committed")


class _Sink:
    """Writes each block as one part of the attempt and passes on only what the manifest needs to know of it."""

    def __init__(self, store: Store, folder: str) -> None:
        self.store, self.folder = store, folder
        self.__name__ = "Write"

    def __call__(self, table: pa.Table) -> pa.Table:
        if table.num_rows == 0:
            return _WRITTEN.empty_table()
        # A retried Ray task writes another part; only the part whose row arrives is ever committed.
        stem = f"{self.folder}/{secrets.token_hex(8)}"
        payload = [name for name in table.column_names if name in PAYLOAD]
        scores = without_secrets(table.drop_columns(payload))
        part = Part(
            scores=write_parquet(self.store, f"{stem}.scores.parquet", scores, row_group_rows=65536),
            payload=write_parquet(
                self.store, f"{stem}.payload.parquet", table.select(["key", *payload]), row_group_rows=256
            ),
        )
        own = table.filter(pc.equal(table["key"], table["input_key"]))
        tally = {"/".join(key): number for key, number in counts(table).items()}
        written = Written(part=part, counts=tally, inputs=own.num_rows, keys_sum=str(_keys_sum(own["key"])))
        return pa.table({"written": [json.dumps(to_json(written))]}, schema=_WRITTEN)


def _keys_sum(keys: pa.ChunkedArray) -> int:
    """A digest of a multiset of keys that does not depend on their order."""
    return sum(int(key, 16) for key in keys.to_pylist()) % KEY_SPACE


def _visible(journal: Journal) -> set[tuple[int, int]]:
    names = (name.removeprefix("waves/").removesuffix(".json") for name in journal.names(WAVES))
    return {(int(number), int(wave)) for number, _, wave in (name.partition("-") for name in names)}
