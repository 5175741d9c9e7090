"""Thresholds replayed over stored scores: what would move, which filters object to the same rows, what is left at each.

Nothing here fetches or decodes; a pass reads the columns of scores alone.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import pyarrow as pa

from pipeline.curate import decide
from pipeline.curate.decide import Rules, ending
from pipeline.curate.journal import Journal
from pipeline.curate.stage import Filter, Row
from pipeline.curate.through import tables
from pipeline.records import PAYLOAD

_TALLY = pa.schema(
    [("kind", pa.string()), ("unit", pa.string()), ("one", pa.string()), ("other", pa.string()), ("n", pa.int64())]
)
"""What a pass counts: `both` filters object, one filter `alone` does, `rows` pass and `ms` of them at a value of a
sweep (whose places stand as `one` and `other`)."""
Tally = Counter[tuple[str, str, str, str]]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One threshold to be tried at several values: `field` of a filter of the rules of `unit`."""

    unit: str
    place: int
    """Which of the unit's filters."""
    field: str
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What one pass over the scores counted."""

    objections: dict[str, Counter[tuple[str, str]]]
    """Unit -> pair of filters -> rows that both object to; a pair of one filter counts what it objects to at all."""
    alone: dict[str, Counter[str]]
    """Unit -> filter -> rows that no other filter objects to."""
    yields: tuple[list[tuple[float, int, float]], ...]
    """For each sweep: value, rows that pass all filters, hours of them. Duplicates and orphans are not looked at."""


def moved(old: pa.Table, new: pa.Table) -> Counter[tuple[str, str, str]]:
    """(unit, how it ended before, how it ends now) -> rows, for those that end in another way."""
    before = {row["key"]: ending(row) for row in old.select(["key", "state", "reason"]).to_pylist()}
    changes: Counter[tuple[str, str, str]] = Counter()
    for row in new.select(["key", "unit", "state", "reason"]).to_pylist():
        if (was := before.get(row["key"], "absent")) != ending(row):
            changes[row["unit"], was, ending(row)] += 1
    return changes


def survey(journal: Journal, rules: tuple[Rules, ...], schema: pa.Schema, sweeps: tuple[Sweep, ...] = ()) -> Survey:
    """Ask every filter about every row that reached the rules. Needs Ray."""
    narrow = pa.schema([field for field in schema if field.name not in PAYLOAD])
    filters = {rule.unit: rule.filters for rule in rules}

    def ask(batch: pa.Table) -> Iterator[pa.Table]:
        tally: Tally = Counter()
        for row in batch.to_pylist():
            if row["state"] is None and row["unit"] in filters:
                _ask(row, filters[row["unit"]], sweeps, tally)
        yield pa.Table.from_pylist(
            [dict(zip(_TALLY.names, (*name, n), strict=True)) for name, n in tally.items()], schema=_TALLY
        )

    total: Tally = Counter()
    asked = decide.scored(journal, narrow).map_batches(ask, batch_format="pyarrow", batch_size=None)
    for table in tables(asked):
        for entry in table.to_pylist():
            total[entry["kind"], entry["unit"], entry["one"], entry["other"]] += entry["n"]
    return _survey(total, tuple(filters), sweeps)


def _survey(total: Tally, units: tuple[str, ...], sweeps: tuple[Sweep, ...]) -> Survey:
    objections: dict[str, Counter[tuple[str, str]]] = {unit: Counter() for unit in units}
    alone: dict[str, Counter[str]] = {unit: Counter() for unit in units}
    for (kind, unit, one, other), number in total.items():
        if kind == "both":
            objections[unit][one, other] = number
        elif kind == "alone":
            alone[unit][one] = number
    yields = []
    for i, sweep in enumerate(sweeps):
        points = []
        for j, value in enumerate(sweep.values):
            place = (sweep.unit, str(i), str(j))
            points.append((value, total["rows", *place], total["ms", *place] / 3.6e6))
        yields.append(points)
    return Survey(objections=objections, alone=alone, yields=tuple(yields))


def _ask(row: Row, filters: tuple[Filter, ...], sweeps: tuple[Sweep, ...], tally: Tally) -> None:
    against = [i for i, rule in enumerate(filters) if _objects(rule, row)]
    names = [type(rule).__name__ for rule in filters]
    unit = row["unit"]
    for i in against:
        for j in against:
            tally["both", unit, names[i], names[j]] += 1
    if len(against) == 1:
        tally["alone", unit, names[against[0]], ""] += 1
    for i, sweep in enumerate(sweeps):
        if sweep.unit != unit or set(against) - {sweep.place}:
            continue  # another filter objects whatever this one's threshold is
        for j, value in enumerate(sweep.values):
            if not _objects(replace(cast(Any, filters[sweep.place]), **{sweep.field: value}), row):
                tally["rows", unit, str(i), str(j)] += 1
                tally["ms", unit, str(i), str(j)] += round(1000 * (row.get("duration_s") or 0.0))


def _objects(rule: Filter, row: Row) -> bool:
    try:
        return rule.reason(row) is not None
    except Exception:  # noqa: BLE001 - a score that cannot be had does not pass
        return True
