"""Two runs compared, row by row: which samples differ, and why."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.config import difference
from pipeline.curate import decide, plan
from pipeline.curate.decide import ending
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import Ledger
from pipeline.curate.stage import Row
from pipeline.records import LEDGER

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


def plans(a: Journal, b: Journal) -> list[str]:
    """How the fingerprints and the rules of two runs differ, a line each."""
    rules = difference(_rules(a), _rules(b), "rules.")
    old, new = ((plan.fingerprints(journal) or [{}])[-1] for journal in (a, b))
    return [*difference(old, new), *rules]


def rows(a: Journal, b: Journal) -> Iterator[Change]:
    """Every row that one run has and the other has not, or has otherwise, in the order of run `a`, then of run `b`."""
    old, new = _rows(a), _rows(b)
    for key, before in old.items():
        after = new.get(key)
        if after is None:
            yield _change(before, "only_in_a", ending(before), "absent")
        elif (why := _why(before, after)) is not None:
            yield _change(before, why[0], why[1], why[2])
    for key, after in new.items():
        if key not in old:
            yield _change(after, "only_in_b", "absent", ending(after))


def _why(before: Row, after: Row) -> tuple[str, str, str] | None:
    content = [name for name in _CONTENT if before[name] != after[name]]
    if ending(before) != ending(after):
        transient = {before["state"], after["state"]} & {"failed", "deferred", "unknown"}
        code = "error" if transient else "content" if content else "verdict"
        return code, ending(before), ending(after)
    if content:
        return (
            "content",
            ", ".join(f"{name}={before[name]}" for name in content),
            ", ".join(f"{name}={after[name]}" for name in content),
        )
    return None


def _change(row: Row, why: str, before: str, after: str) -> Change:
    return Change(key=row["key"], unit=row["unit"], url=row["url"] or "", why=why, before=before, after=after)


def _rows(journal: Journal) -> dict[str, Row]:
    table = decide.verdicts(journal, _name(journal), list(_FIELDS))
    return {row["key"]: row for row in table.to_pylist()}


def _name(journal: Journal) -> str:
    ledger = journal.find(LEDGER, Ledger)
    if ledger is None:
        raise ValueError(f"{journal.store.url} is no finished curation run: it has no {LEDGER}")
    return ledger.verdicts


def _rules(journal: Journal) -> dict[str, dict[str, object]]:
    verdicts = decide.manifest_of(journal, _name(journal))
    return {} if verdicts is None else decide.by_unit(verdicts.rules)
