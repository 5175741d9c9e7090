"""Verdicts over stored scores: which rows are kept, and under which reason each other one left.

Waves compute scores and keep them; nothing here fetches or decodes. A verdict is a pure function of scores and rules,
so thresholds can be replayed over a finished run. A decided table is immutable and named by the digest of its rules
and of the waves it was made from: the same question finds the answer that is there.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from pipeline.config import digest
from pipeline.curate import code, dedup, revoke, waves
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import Book, VerdictManifest
from pipeline.curate.stage import Filter, Row, failure, left
from pipeline.curate.through import tables
from pipeline.curate.work import to_table
from pipeline.records import PAYLOAD, STATES, VERDICT, verdicts_name
from pipeline.storage import File, Store, read_table, write_parquet

if TYPE_CHECKING:
    from ray.data import Dataset


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What holds for the rows of one unit: filters, the first that objects decides; then at most one row per digest."""

    unit: str
    filters: tuple[Filter, ...] = ()
    unique_by: str | None = None
    unique_reason: str = "duplicate"


def name_of(journal: Journal, rules: tuple[Rules, ...]) -> str:
    """The name of the verdicts that these rules, and the revocations so far, give over the committed waves."""
    return name_by(journal, described(rules))


def name_by(journal: Journal, rules: tuple[dict[str, object], ...]) -> str:
    """As `name_of`, by rules as `describe` gives them and as the manifest of verdicts lists them."""
    # A wave without rows is known by those that it stands for.
    manifests = waves.every_manifest(journal)
    scores = [name for wave in manifests for name in [p.scores.sha256 for p in wave.parts] or wave.keys or ()]
    return digest({"rules": rules, "scores": scores, "revoked": revoke.recorded(journal).to_json()})[:12]


def decide(journal: Journal, rules: tuple[Rules, ...], schema: pa.Schema) -> str:
    """Judge every committed row; returns the name of the verdict table, which is made if it is not there yet."""
    name = name_of(journal, rules)
    if manifest_of(journal, name) is None:
        blocks = tables(_judged(journal, rules, schema))
        table = pa.concat_tables([block.select(VERDICT.names).cast(VERDICT) for block in blocks])
        table = table.sort_by([("order", "ascending"), ("start_s", "ascending"), ("key", "ascending")])
        file = write_parquet(journal.store, f"verdicts/{name}-{{sha256}}.parquet", table, row_group_rows=65536)
        journal.create(verdicts_name(name), VerdictManifest(files=(file,), rules=described(rules)))
    return name


def manifest_of(journal: Journal, name: str) -> VerdictManifest | None:
    """The manifest of the verdicts of this name; None if there are none."""
    return journal.find(verdicts_name(name), VerdictManifest)


def verdicts(journal: Journal, name: str, columns: list[str] | None = None) -> pa.Table:
    """A decided table: records.VERDICT, in the order of the plan."""
    manifest = manifest_of(journal, name)
    if manifest is None:
        raise ValueError(f"{journal.store.url} holds no verdicts named {name!r}; run the curation job to make them")
    return read_table(journal.store, manifest.files[0], columns)


def ending(row: Row) -> str:
    """How a row ended, as people read it: its state, and its reason if it has one."""
    return f"{row['state']} {row['reason'] or ''}".strip()


def books(table: pa.Table) -> dict[str, Book]:
    """The ledger of a verdict table: unit -> where its rows ended."""
    columns = [table[name].to_pylist() for name in ("unit", "state", "reason", "duration_s", "size_bytes")]
    reasons: dict[str, Counter[tuple[str, str]]] = {}
    hours: dict[str, dict[str, float]] = {}
    sizes: dict[str, Counter[str]] = {}
    for unit, state, reason, duration_s, size_bytes in zip(*columns, strict=True):
        reasons.setdefault(unit, Counter())[state, reason] += 1
        times = hours.setdefault(unit, {})
        times[state] = times.get(state, 0.0) + (duration_s or 0.0) / 3600
        sizes.setdefault(unit, Counter())[state] += size_bytes or 0
    return {unit: _book(reasons[unit], hours[unit], sizes[unit]) for unit in sorted(reasons)}


def _book(rows: Counter[tuple[str, str]], hours: dict[str, float], sizes: Counter[str]) -> Book:
    gone = {state: {reason: n for (end, reason), n in sorted(rows.items()) if end == state} for state in STATES[1:]}
    return Book(
        in_=rows.total(),
        kept=sum(n for (state, _), n in rows.items() if state == "kept"),
        hours={state: round(hours[state], 6) for state in sorted(hours)},
        bytes=dict(sorted(sizes.items())),
        **gone,
    )


def _judged(journal: Journal, rules: tuple[Rules, ...], schema: pa.Schema) -> "Dataset":
    narrow = pa.schema([f for f in schema if f.name not in PAYLOAD] + [VERDICT.field("file"), VERDICT.field("row")])
    by_unit = {rule.unit: rule for rule in rules}
    revoked = revoke.recorded(journal)
    buckets = dedup.buckets(sum(part.scores.rows for part in waves.parts(journal)))

    def judge(batch: pa.Table) -> Iterator[pa.Table]:
        yield to_table([_verdict(row, by_unit[row["unit"]].filters) for row in batch.to_pylist()], narrow)

    def settle(batch: pa.Table) -> pa.Table:
        return _settle(batch, revoked)

    dataset = scored(journal, narrow).map_batches(judge, batch_format="pyarrow", batch_size=None)
    for rule in rules:
        if rule.unique_by:
            dataset = dedup.drop_duplicates(
                dataset, by=rule.unique_by, unit=rule.unit, reason=rule.unique_reason, buckets=buckets
            )
    if len(rules) > 1:
        dataset = dedup.drop_orphans(dataset, buckets=buckets)
    return dataset.map_batches(settle, batch_format="pyarrow", batch_size=None)


def scored(journal: Journal, schema: pa.Schema) -> "Dataset":
    """The rows that stand, without their payload, each with the `file` of scores that holds it and its `row` there.
    Needs Ray.

    Scores that were altered since they were committed are a CorruptFileError.
    """
    import ray

    store = journal.store  # the journal stays here: workers read files, not manifests
    manifests = waves.every_manifest(journal)
    latest = ray.put(waves.superseded(manifests))
    entries = [asdict(part.scores) | {"round": wave.round} for wave in manifests for part in wave.parts]

    def read(batch: pa.Table) -> Iterator[pa.Table]:
        for entry in batch.to_pylist():
            number = entry.pop("round")
            table = _scores(store, File(**entry), schema)
            yield table.filter(waves.current(table, number, ray.get(latest)))

    return ray.data.from_items(entries).map_batches(read, batch_format="pyarrow", batch_size=16)


def _scores(store: Store, file: File, schema: pa.Schema) -> pa.Table:
    stored = pa.schema([field for field in schema if field.name not in ("file", "row")])
    table = read_table(store, file, stored.names).cast(stored)
    for name, values in (
        ("file", pa.array([file.path] * table.num_rows, pa.string())),
        ("row", pa.array(range(table.num_rows))),
    ):
        if name in schema.names:
            table = table.append_column(name, values)
    return table.select(schema.names)


def _verdict(row: Row, filters: tuple[Filter, ...]) -> Row:
    if row["state"] is not None:
        return row
    try:
        for rule in filters:
            reason = rule.reason(row)
            if reason is not None:
                return row | {"state": "dropped", "reason": reason}
    except Exception as error:  # noqa: BLE001 - an error in a rule is a failed row, never a drop
        return left(row, failure(error))
    return row


def _settle(table: pa.Table, revoked: revoke.Revoked) -> pa.Table:
    for name in ("start_s", "duration_s"):
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.float64()))
    state = table["state"].cast(pa.string()).fill_null("kept")  # whatever no rule objected to
    table = table.set_column(table.schema.get_field_index("state"), "state", state)
    # Last of all: a copy of what was revoked stays a duplicate, and what else is kept stays in its place.
    return revoke.mark(table, revoked, only="kept").select(VERDICT.names)


def described(rules: tuple[Rules, ...]) -> tuple[dict[str, object], ...]:
    """Rule sets as JSON, as the manifest of verdicts lists them."""
    return tuple(describe(rule) for rule in rules)


def describe(rule: Rules) -> dict[str, object]:
    """A rule set as JSON, with the code that its filters use: a filter that was mended judges anew."""
    filters = [{"rule": type(f).__name__} | asdict(cast(Any, f)) for f in rule.filters]
    return {
        "unit": rule.unit,
        "unique_by": rule.unique_by,
        "unique_reason": rule.unique_reason,
        "filters": filters,
        "code": digest(code.modules(rule.filters)),
    }


def by_unit(rules: tuple[dict[str, object], ...]) -> dict[str, dict[str, object]]:
    """Rules as `describe` gives them, so that `difference` names the filter and the threshold."""
    return {
        str(rule["unit"]): {"unique_by": rule["unique_by"], **{str(entry["rule"]): entry for entry in filters_of(rule)}}
        for rule in rules
    }


def filters_of(rule: dict[str, object]) -> list[dict[str, object]]:
    """The filters of a rule set that `describe` gave, each with its name as `rule` and its options."""
    return cast(list[dict[str, object]], rule["filters"])
