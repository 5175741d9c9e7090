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
from pipeline.curate.stage import Filter, Row, failure, left
from pipeline.curate.work import to_table
from pipeline.manifest import commit, read_manifest
from pipeline.records import PAYLOAD, STATES, VERDICT
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


def name_of(store: Store, rules: tuple[Rules, ...]) -> str:
    """The name of the verdicts that these rules, and the revocations so far, give over the committed waves."""
    return name_by(store, [describe(rule) for rule in rules])


def name_by(store: Store, rules: list[dict[str, Any]]) -> str:
    """As `name_of`, by rules as `describe` gives them and as the manifest of verdicts lists them."""
    scores = [part.scores.sha256 for part in waves.parts(store)]
    return digest({"rules": rules, "scores": scores, "revoked": revoke.recorded(store).to_json()})[:12]


def decide(store: Store, rules: tuple[Rules, ...], schema: pa.Schema) -> str:
    """Judge every committed row; returns the name of the verdict table, which is made if it is not there yet."""
    name = name_of(store, rules)
    if read_manifest(store, f"verdicts/{name}.json") is None:
        parts: Any = _judged(store, rules, schema).iter_batches(batch_size=None, batch_format="pyarrow")
        table = pa.concat_tables([part.select(VERDICT.names).cast(VERDICT) for part in parts])
        table = table.sort_by([("order", "ascending"), ("start_s", "ascending"), ("key", "ascending")])
        file = write_parquet(store, f"verdicts/{name}-{{sha256}}.parquet", table, row_group_rows=65536)
        commit(store, f"verdicts/{name}.json", [file], rules=[describe(rule) for rule in rules])
    return name


def verdicts(store: Store, name: str, columns: list[str] | None = None) -> pa.Table:
    """A decided table: records.VERDICT, in the order of the plan."""
    found = read_manifest(store, f"verdicts/{name}.json")
    if found is None:
        raise ValueError(f"{store.url} holds no verdicts named {name!r}; run the curation job to make them")
    return read_table(store, found["files"][0], columns)


def books(table: pa.Table) -> dict[str, dict[str, Any]]:
    """The ledger of a verdict table: unit -> in, kept, and the other states by reason; in rows, seconds and bytes."""
    units: dict[str, dict[str, Any]] = {}
    columns = [table[c].to_pylist() for c in ("unit", "state", "reason", "duration_s", "size_bytes")]
    for unit, state, reason, duration_s, size_bytes in zip(*columns, strict=True):
        book = units.setdefault(
            unit,
            {"in": 0, "kept": 0}
            | {s: Counter() for s in STATES if s != "kept"}
            | {"hours": Counter(), "bytes": Counter()},
        )
        book["in"] += 1
        if state == "kept":
            book["kept"] += 1
        else:
            book[state][reason] += 1
        book["hours"][state] += (duration_s or 0.0) / 3600
        book["bytes"][state] += size_bytes or 0
    return {unit: _plain(book) for unit, book in sorted(units.items())}


def balances(book: dict[str, Any]) -> bool:
    """True if every row that went in ended in exactly one state."""
    return book["in"] == book["kept"] + sum(sum(book[state].values()) for state in STATES if state != "kept")


def _plain(book: dict[str, Any]) -> dict[str, Any]:
    book = {k: dict(sorted(v.items())) if isinstance(v, Counter) else v for k, v in book.items()}
    book["hours"] = {state: round(hours, 6) for state, hours in book["hours"].items()}
    return book


def _judged(store: Store, rules: tuple[Rules, ...], schema: pa.Schema) -> "Dataset":
    narrow = pa.schema([f for f in schema if f.name not in PAYLOAD] + [VERDICT.field("file"), VERDICT.field("row")])
    by_unit = {rule.unit: rule for rule in rules}
    revoked = revoke.recorded(store)
    buckets = dedup.buckets(sum(part.scores.rows for part in waves.parts(store)))

    def judge(batch: pa.Table) -> Iterator[pa.Table]:
        yield to_table([_verdict(row, by_unit[row["unit"]].filters) for row in batch.to_pylist()], narrow)

    def settle(batch: pa.Table) -> pa.Table:
        return _settle(batch, revoked)

    dataset = scored(store, narrow).map_batches(judge, batch_format="pyarrow", batch_size=None)
    for rule in rules:
        if rule.unique_by:
            dataset = dedup.drop_duplicates(
                dataset, by=rule.unique_by, unit=rule.unit, reason=rule.unique_reason, buckets=buckets
            )
    if len(rules) > 1:
        dataset = dedup.drop_orphans(dataset, buckets=buckets)
    return dataset.map_batches(settle, batch_format="pyarrow", batch_size=None)


def scored(store: Store, schema: pa.Schema) -> "Dataset":
    """The rows that stand, without their payload, each with the `file` of scores that holds it and its `row` there.
    Needs Ray.

    Scores that were altered since they were committed are a CorruptFileError.
    """
    import ray

    found = waves.every_manifest(store)
    latest = ray.put(waves.superseded(found))
    entries = [asdict(part.scores) | {"round": wave["round"]} for wave in found for part in waves.parts_of(wave)]

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


def describe(rule: Rules) -> dict[str, Any]:
    """A rule set as JSON, with the code that its filters use: a filter that was mended judges anew."""
    filters = [{"rule": type(f).__name__} | asdict(cast(Any, f)) for f in rule.filters]
    return {
        "unit": rule.unit,
        "unique_by": rule.unique_by,
        "unique_reason": rule.unique_reason,
        "filters": filters,
        "code": digest(code.modules(rule.filters)),
    }
