"""Two runs compared, row by row: which samples differ, and why."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.config import difference
from pipeline.curate import decide, plan
from pipeline.manifest import read_manifest, read_sealed
from pipeline.records import LEDGER
from pipeline.storage import Store

_FIELDS = ("key", "unit", "url", "state", "reason", "sha256", "size_bytes", "duration_s", "start_s", "detail")
_CONTENT = ("sha256", "size_bytes", "duration_s", "start_s")


@dataclass(frozen=True, kw_only=True)
class Change:
    """One row that differs: `why` is a stable code."""

    key: str
    unit: str
    url: str
    why: str
    before: str
    after: str


def plans(a: Store, b: Store) -> list[str]:
    """How the fingerprints and the rules of two runs differ, a line each."""
    rules = difference(_rules(a), _rules(b), "rules.")
    old, new = ((plan.fingerprints(store) or [{}])[-1] for store in (a, b))
    return [*difference(old, new), *rules]


def rows(a: Store, b: Store) -> Iterator[Change]:
    """Every row that one run has and the other has not, or has otherwise, in the order of run `a`, then of run `b`."""
    old, new = _rows(a), _rows(b)
    for key, before in old.items():
        after = new.get(key)
        if after is None:
            yield _change(before, "only_in_a", _end(before), "absent")
        elif (why := _why(before, after)) is not None:
            yield _change(before, why[0], why[1], why[2])
    for key, after in new.items():
        if key not in old:
            yield _change(after, "only_in_b", "absent", _end(after))


def _why(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, str, str] | None:
    content = [name for name in _CONTENT if before[name] != after[name]]
    if _end(before) != _end(after):
        transient = {before["state"], after["state"]} & {"failed", "deferred", "unknown"}
        code = "error" if transient else "content" if content else "verdict"
        return code, _end(before), _end(after)
    if content:
        return (
            "content",
            ", ".join(f"{name}={before[name]}" for name in content),
            ", ".join(f"{name}={after[name]}" for name in content),
        )
    return None


def _change(row: dict[str, Any], why: str, before: str, after: str) -> Change:
    return Change(key=row["key"], unit=row["unit"], url=row["url"] or "", why=why, before=before, after=after)


def _rows(store: Store) -> dict[str, dict[str, Any]]:
    table: pa.Table = decide.verdicts(store, _name(store), list(_FIELDS))
    return {row["key"]: row for row in table.to_pylist()}


def _name(store: Store) -> str:
    if not store.exists(LEDGER):
        raise ValueError(f"{store.url} is no finished curation run: it has no {LEDGER}")
    return read_sealed(store, LEDGER)["verdicts"]


def _rules(store: Store) -> dict[str, Any]:
    return by_unit((read_manifest(store, f"verdicts/{_name(store)}.json") or {"rules": []})["rules"])


def by_unit(rules: list[dict[str, Any]]) -> dict[str, Any]:
    """Rules as `decide.describe` gives them, so that `difference` names the filter and the threshold."""
    return {
        rule["unit"]: {"unique_by": rule["unique_by"]} | {entry["rule"]: entry for entry in rule["filters"]}
        for rule in rules
    }


def _end(row: dict[str, Any]) -> str:
    return f"{row['state']} {row['reason'] or ''}".strip()
