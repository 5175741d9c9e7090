"""Show where every input of a curation run is, in rows, hours and MB; status 1 if it is damaged or its books do not
balance.

python -m jobs.status RUN
"""

from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from jobs._main import run
from jobs.audit import begun, options
from pipeline import lease
from pipeline.curate import audit, decide, plan, waves
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import Book, Ledger
from pipeline.log import say
from pipeline.records import INPUTS, LEDGER, STATES
from pipeline.storage import Store

# Findings that fit on a screen beside the books.
_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Status:
    """Print the ledger of a curation run."""

    run_dir: str
    """Folder of the run, any fsspec URL."""


def main(config: Status) -> None:
    """Print what is damaged, the inputs, then one table per unit."""
    store = begun(config.run_dir)
    busy = _holder(store)
    journal = Journal(store)
    found = audit.audit(journal, limit_bytes=audit.QUICK_BYTES)
    findings = (*found.findings, *options(store))
    if busy is not None:  # what is made from the waves is being made
        say(f"held by {busy}, which works on it")
        findings = tuple(finding for finding in findings if not finding.made_from_waves)
    for finding in findings[:_SHOWN]:
        say(f"DAMAGED   {finding}", limit=1000)
    if len(findings) > _SHOWN:
        say(f"… and {len(findings) - _SHOWN} more: python -m jobs.audit {config.run_dir}")
    try:
        sound = _show(journal) and not findings
    except ValueError as error:  # of a damaged file, or for want of one
        say(f"not shown: {error}", limit=1000)
        sound = False
    if found.read_bytes < found.size_bytes:
        say(
            f"files: {found.files} there and as large as they were; of {found.size_bytes / 1e6:.1f} MB "
            f"{found.read_bytes / 1e6:.1f} were read (jobs.audit reads all)"
        )
    if not sound:
        raise SystemExit(1)


def _holder(store: Store) -> lease.Holder | None:
    try:
        return lease.holder(store)
    except ValueError:  # damaged: the audit names it
        return None


def _show(journal: Journal) -> bool:
    """Print the books; False if they do not balance."""
    inputs = waves.read_inputs(journal, ["key"])
    if inputs is None:
        raise ValueError(f"{INPUTS} is missing")
    manifests = waves.every_manifest(journal)
    new = plan.of_new_inputs(journal)
    listed = inputs.num_rows + sum(wave.rows for number in new for wave in plan.waves(journal, number))
    # Rounds of a retry work on inputs that count already.
    done = sum(wave.inputs for wave in manifests if wave.round in (0, *new))
    replaced = sum(len(plan.replaced(journal, number) or ()) for number in new)
    again = sum(number not in new for number in waves.superseded(manifests).values())
    say(
        f"{listed} inputs: {done} in committed waves, {listed - done} pending"
        + (f"; {again} were worked on again" if again else "")
        + (f"; {replaced} were of listings that have been read since" if replaced else "")
    )
    balanced = done <= listed
    ledger = journal.find(LEDGER, Ledger)
    if ledger is not None:
        table = decide.verdicts(
            journal, ledger.verdicts, ["unit", "state", "reason", "retryable", "duration_s", "size_bytes"]
        )
        counted = ledger.steps[ledger.unit].in_ if ledger.unit in ledger.steps else 0
        # Of a finished run; while one goes on, no more may be done than was listed.
        balanced &= counted + replaced == done == listed
        for unit, book in ledger.steps.items():
            _show_unit(unit, book, table.filter(pc.equal(table["unit"], unit)))
            balanced &= book.balances()
    else:
        for name, rows in sorted(sum((Counter(wave.counts) for wave in manifests), Counter()).items()):
            say(f"{name.replace('/', ' '):<34} {rows:>8}")
    if not balanced:
        say("THE BOOKS DO NOT BALANCE")
    return balanced


def _show_unit(unit: str, book: Book, table: pa.Table) -> None:
    say()
    say(f"{unit:<34} {'rows':>8} {'hours':>9} {'MB':>9}")
    _line("in", book.in_, sum(book.hours.values()), sum(book.bytes.values()))
    # As 0 and 1, so that a sum counts them; null is no.
    retryable = table.set_column(3, "retryable", pc.cast(pc.fill_null(table["retryable"], False), pa.int64()))
    groups = (
        retryable.group_by(["state", "reason"])
        .aggregate([("retryable", "sum"), ("duration_s", "sum"), ("size_bytes", "sum"), ("state", "count")])
        .to_pylist()
    )
    for state in STATES:
        for group in sorted(
            (g for g in groups if g["state"] == state and state != "kept"), key=lambda g: -g["state_count"]
        ):
            note = f"  ({group['retryable_sum']} retryable)" if state == "failed" else ""
            _line(
                f"{state:<9} {group['reason']}",
                group["state_count"],
                (group["duration_s_sum"] or 0) / 3600,
                group["size_bytes_sum"] or 0,
                note,
            )
        rows = book.kept if state == "kept" else sum(book.gone[state].values())
        _line(f"{state:<9} in all", rows, book.hours.get(state, 0), book.bytes.get(state, 0))


def _line(name: str, rows: int, hours: float, size_bytes: int, note: str = "") -> None:
    say(f"{name:<34} {rows:>8} {hours:>9.3f} {size_bytes / 1e6:>9.2f}{note}")


if __name__ == "__main__":
    run(Status, main, "run-dir")
