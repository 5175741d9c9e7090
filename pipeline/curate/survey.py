"""Thresholds replayed over stored scores: what would move, which filters object to the same rows, what is left at each.

Nothing here fetches or decodes; a pass reads the columns of scores alone.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import pyarrow as pa

from pipeline.curate import decide
from pipeline.curate.decide import Rules
from pipeline.curate.stage import Filter, Row
from pipeline.records import PAYLOAD
from pipeline.storage import Store


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One threshold to be tried at several values: `field` of a filter of the rules of `unit`."""

    unit: str
    place: int
    """Which of the unit's filters."""
    field: str
    values: tuple[Any, ...]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What one pass over the scores found."""

    objections: dict[str, Counter[tuple[str, str]]]
    """Unit -> pair of filters -> rows that both object to; a pair of one filter counts what it objects to at all."""
    alone: dict[str, Counter[str]]
    """Unit -> filter -> rows that no other filter objects to."""
    yields: tuple[list[tuple[Any, int, float]], ...]
    """For each sweep: value, rows that pass all filters, hours of them. Duplicates and orphans are not looked at."""


def moved(old: pa.Table, new: pa.Table) -> Counter[tuple[str, str, str]]:
    """(unit, how it ended before, how it ends now) -> rows, for those that end in another way."""
    before = {row["key"]: _end(row) for row in old.select(["key", "state", "reason"]).to_pylist()}
    changes: Counter[tuple[str, str, str]] = Counter()
    for row in new.select(["key", "unit", "state", "reason"]).to_pylist():
        if (was := before.get(row["key"], "absent")) != _end(row):
            changes[row["unit"], was, _end(row)] += 1
    return changes


def survey(store: Store, rules: tuple[Rules, ...], schema: pa.Schema, sweeps: tuple[Sweep, ...] = ()) -> Survey:
    """Ask every filter about every row that reached the rules. Needs Ray."""
    narrow = pa.schema([field for field in schema if field.name not in PAYLOAD])
    by_unit = {rule.unit: rule.filters for rule in rules}

    def ask(batch: pa.Table) -> Iterator[pa.Table]:
        found: Counter[str] = Counter()
        for row in batch.to_pylist():
            if row["state"] is None and row["unit"] in by_unit:
                _ask(row, by_unit[row["unit"]], sweeps, found)
        yield pa.table({"found": [json.dumps(found)]})

    total: Counter[tuple[str, ...]] = Counter()
    asked: Any = decide.scored(store, narrow).map_batches(ask, batch_format="pyarrow", batch_size=None)
    for part in asked.iter_batches(batch_size=None, batch_format="pyarrow"):
        for text in part["found"].to_pylist():
            total.update({tuple(name.split("\x1f")): n for name, n in json.loads(text).items()})
    objections: dict[str, Counter[tuple[str, str]]] = {unit: Counter() for unit in by_unit}
    alone: dict[str, Counter[str]] = {unit: Counter() for unit in by_unit}
    for (kind, *name), number in total.items():
        if kind == "both":
            objections[name[0]][name[1], name[2]] = number
        elif kind == "alone":
            alone[name[0]][name[1]] = number
    yields = tuple(
        [
            (value, total["rows", str(i), str(j)], total["ms", str(i), str(j)] / 3.6e6)
            for j, value in enumerate(sweep.values)
        ]
        for i, sweep in enumerate(sweeps)
    )
    return Survey(objections=objections, alone=alone, yields=yields)


def _ask(row: Row, filters: tuple[Filter, ...], sweeps: tuple[Sweep, ...], found: Counter[str]) -> None:
    against = [i for i, rule in enumerate(filters) if _objects(rule, row)]
    names = [type(rule).__name__ for rule in filters]
    for i in against:
        for j in against:
            found["\x1f".join(("both", row["unit"], names[i], names[j]))] += 1
    if len(against) == 1:
        found["\x1f".join(("alone", row["unit"], names[against[0]]))] += 1
    for i, sweep in enumerate(sweeps):
        if sweep.unit == row["unit"] and not set(against) - {sweep.place}:
            for j, value in enumerate(sweep.values):
                if not _objects(replace(cast(Any, filters[sweep.place]), **{sweep.field: value}), row):
                    found["\x1f".join(("rows", str(i), str(j)))] += 1
                    found["\x1f".join(("ms", str(i), str(j)))] += round(1000 * (row.get("duration_s") or 0.0))


def _objects(rule: Filter, row: Row) -> bool:
    try:
        return rule.reason(row) is not None
    except Exception:  # noqa: BLE001 - a score that cannot be had does not pass
        return True


def _end(row: Row) -> str:
    return f"{row['state']} {row['reason'] or ''}".strip()
