"""What is there after a crash and a resume, compared with what an uninterrupted run left."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import digest
from pipeline.curate import decide, export, plan, sweep, waves
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import Ledger
from pipeline.curate.stage import Row
from pipeline.records import LEDGER, PAYLOAD
from pipeline.storage import Store, read_file


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The rows of a run as a multiset of identities, the digests of what it exported, and bytes that nothing names."""

    rows: Counter[str]
    exported: tuple[str, ...]
    orphan_bytes: int


def examine(store: Store) -> Findings:
    """Read back everything that a curation run committed, checksums included."""
    journal = Journal(store)
    ledger = journal.find(LEDGER, Ledger)
    if ledger is None:
        return Findings(rows=Counter(), exported=(), orphan_bytes=0)
    # A multiset: what is there twice counts twice.
    rows = Counter([*_held(journal), *_listed(journal)])
    verdicts = decide.verdicts(journal, ledger.verdicts, ["key", "state", "reason"])
    rows.update(f"{row['key']} {row['state']} {row['reason']}" for row in verdicts.to_pylist())
    # As a reader would: whatever shards lie in the folder, not those that the manifest names.
    for name in store.list("export/data", r".*\.parquet"):
        table = pq.read_table(pa.BufferReader(store.read(name)), columns=["key"])
        rows.update(f"exported {key}" for key in table["key"].to_pylist())
    shards = export.shards(journal)
    for file in shards:
        read_file(store, file)
    return Findings(
        rows=rows, exported=tuple(f"{file.path} {file.sha256}" for file in shards), orphan_bytes=_orphans(store)
    )


def _held(journal: Journal) -> Iterator[str]:
    """The rows that stand, and what the waves hold of the media and words of each row, superseded ones included."""
    manifests = waves.every_manifest(journal)
    latest = waves.superseded(manifests)
    for wave in manifests:
        for part in wave.parts:
            table = waves.read_part(journal.store, part)
            yield from table.filter(waves.current(table, wave.round, latest))["key"].to_pylist()
            names = [name for name in table.column_names if name in PAYLOAD]
            for key, row in zip(table["key"].to_pylist(), table.select(names).to_pylist(), strict=True):
                yield f"{key} of round {wave.round} holds {_digest(row)}"


def _listed(journal: Journal) -> Iterator[str]:
    """What the run keeps of its inputs, in each round: captions and secrets in URLs included."""
    inputs = waves.read_inputs(journal)
    assert inputs is not None
    rounds = [inputs, *(plan.round_rows(journal, number) for number in plan.rounds(journal)[1:])]
    for number, table in enumerate(rounds):
        for row in table.to_pylist():
            yield f"{row['key']} is an input of round {number}: {_digest(row)}"


def _digest(row: Row) -> str:
    # JSON has no bytes, and takes 1 and 1.0 for one value; repr tells them apart.
    return digest({name: repr(value) for name, value in row.items()})


def examine_baseline(store: Store) -> Findings:
    """Read back the baseline's Parquet files as any reader would: whatever lies in the folder."""
    rows: Counter[str] = Counter()
    for name in store.list("out"):
        if name.endswith(".parquet"):
            table = pq.read_table(pa.BufferReader(store.read(name)), columns=["key", "part"])
            rows.update(f"{row['key']} {row['part']}" for row in table.to_pylist())
    return Findings(rows=rows, exported=(), orphan_bytes=0)


def compare(findings: Findings, unharmed: Findings) -> tuple[int, int]:
    """Rows lost, and rows that are there more often than they should be."""
    return (unharmed.rows - findings.rows).total(), (findings.rows - unharmed.rows).total()


def _orphans(store: Store) -> int:
    """Bytes of a run's data that nothing names, unfinished files of dead writers included; a lease is not data."""
    sizes = store.sizes()
    named = {file.path for _, file in sweep.named(Journal(store)).files}
    data = [
        size_bytes
        for name, size_bytes in sizes.items()
        if name not in named
        # Manifests name files, and nothing names them.
        and not name.endswith(".json")
        and name.split("/")[0] in ("rows", "export", "verdicts", "inputs")
    ]
    unfinished = [
        size_bytes for name, size_bytes in store.sizes(temporary=True).items() if not name.startswith("lease/")
    ]
    return sum(data) + sum(unfinished)
