"""What is there after a crash and a resume, compared with what an uninterrupted run left."""
from collections import Counter
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.curate import decide, export, waves
from pipeline.curate.run import LEDGER
from pipeline.storage import Store, manifest, read_file, read_json, read_table


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The rows of a run as a multiset of identities, the digests of what it exported, and bytes that nothing names."""

    rows: Counter[str]
    exported: tuple[str, ...]
    orphan_bytes: int


def examine(store: Store) -> Findings:
    """Read back everything that a curation run committed, checksums included."""
    if not store.exists(LEDGER):
        return Findings(rows=Counter(), exported=(), orphan_bytes=0)
    found = waves.every_manifest(store)
    latest = waves.superseded(found)
    rows: Counter[str] = Counter()
    for wave in found:
        for file in wave["files"]:
            table = read_table(store, file, ["key", "input_key", "unit"])
            rows.update(table.filter(waves.current(table, wave["round"], latest))["key"].to_pylist())
    verdicts = decide.verdicts(store, read_json(store, LEDGER)["verdicts"], ["key", "state", "reason"])
    rows.update(f"{row['key']} {row['state']} {row['reason']}" for row in verdicts.to_pylist())
    shards = export.shards(store)
    for file in shards:
        read_file(store, file)
        if file.path.startswith("export/shard"):
            rows.update(f"exported {key}" for key in read_table(store, file, ["key"])["key"].to_pylist())
    return Findings(rows=rows, exported=tuple(f"{file.path} {file.sha256}" for file in shards), orphan_bytes=_orphans(store))


def examine_baseline(store: Store) -> Findings:
    """Read back the baseline's Parquet files as any reader would: whatever lies in the folder."""
    rows: Counter[str] = Counter()
    for name in store.list("out"):
        if name.endswith(".parquet"):
            table = pq.read_table(pa.BufferReader(store.read(name)), columns=["key", "part"])
            rows.update(f"{row['key']} {row['part']}" for row in table.to_pylist())
    return Findings(rows=rows, exported=(), orphan_bytes=0)


def compare(found: Findings, wanted: Findings) -> tuple[int, int]:
    """Rows lost, and rows that are there more often than they should be."""
    return (wanted.rows - found.rows).total(), (found.rows - wanted.rows).total()


def _orphans(store: Store) -> int:
    named = {file.path for file in waves.files(store)} | {file.path for file in export.shards(store)}
    for name in store.list():
        if name.endswith(".json") and name.split("/")[0] in ("inputs.json", "verdicts", "plans"):
            named |= {file.path for file in (manifest(store, name) or {"files": []})["files"]}
    data = [name for name in store.list() if name.split("/")[0] in ("rows", "export", "verdicts", "inputs")]
    return sum(store.size_bytes(name) for name in data
               if name not in named and not name.endswith((".json", ".md")))
