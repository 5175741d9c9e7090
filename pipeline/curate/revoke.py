"""Revocation: what must not be kept any longer, and must not be fetched again.

Guarantees: a revocation is recorded first and never forgotten, so a run that is cut short while it obeys one goes on to
obey it. Rows are matched by host (of the file or of its page, subdomains included), URL, key (of a row or of its
input) or license. Their media are taken out of the waves as well as of the export.
"""
import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.curate import waves
from pipeline.lease import Lease
from pipeline.storage import CorruptFileError, File, Store, read_json, read_table, write_parquet

Kind = Literal["host", "url", "key", "license"]
PAYLOAD = ("audio", "image", "transcript", "text", "caption")
BEFORE, AFTER = "revoked_before_fetch", "revoked"


@dataclass(frozen=True, kw_only=True)
class Revocation:
    """One revocation: `note` says who asked for it."""

    kind: Kind
    value: str
    note: str = ""

    def matches(self, row: dict[str, Any]) -> bool:
        """True if it concerns this row."""
        if self.kind == "host":
            hosts = [urlsplit(row.get(name) or "").hostname or "" for name in ("url", "page_url")]
            return any(host == self.value or host.endswith(f".{self.value}") for host in hosts)
        names = {"url": ("url", "page_url"), "key": ("key", "input_key"), "license": ("license",)}[self.kind]
        return any(row.get(name) == self.value for name in names)


def recorded(store: Store) -> list[Revocation]:
    """All revocations of a run, in the order of their record."""
    return [Revocation(**read_json(store, name)) for name in store.list("revocations")]


def record(store: Store, revocation: Revocation) -> bool:
    """Record a revocation; False if it was recorded before."""
    if any((old.kind, old.value) == (revocation.kind, revocation.value) for old in recorded(store)):
        return False
    while not store.create(f"revocations/{len(store.list('revocations')):06d}.json",
                           (json.dumps(asdict(revocation), indent=1) + "\n").encode()):
        continue
    return True


def matching(table: pa.Table, revocations: list[Revocation]) -> list[bool]:
    """Which rows are revoked."""
    names = [name for name in ("key", "input_key", "url", "page_url", "license") if name in table.column_names]
    if not revocations:
        return [False] * table.num_rows
    return [any(revocation.matches(row) for revocation in revocations) for row in table.select(names).to_pylist()]


def mark(table: pa.Table, revocations: list[Revocation], *, only: str | None, reason: str = AFTER) -> pa.Table:
    """Let revoked rows leave as *dropped*, if their state is `only`."""
    states = table["state"].to_pylist()
    hit = [is_hit and state == only for is_hit, state in zip(matching(table, revocations), states, strict=True)]
    for name, value in (("state", "dropped"), ("reason", reason)):
        if any(hit):
            old = table[name].to_pylist()
            column = pa.array([value if is_hit else o for is_hit, o in zip(hit, old, strict=True)], pa.string())
            table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


def purge(store: Store, revocations: list[Revocation], lease: Lease) -> int:
    """Take the media and words of revoked rows out of the waves and the quarantine; returns how many rows of waves had any.

    A wave's manifest is replaced as a whole by one that names the rewritten files; then the old files are deleted.
    """
    purged = 0
    for name in store.list("quarantine"):
        if any(matching(pq.read_table(pa.BufferReader(store.read(name))), revocations)):
            store.delete(name)
    for found in waves.every_manifest(store):
        name, old = waves.name_of(found), found["files"]
        made = [_without(store, file, revocations) for file in old]
        changed = [(before, after) for before, (after, _) in zip(old, made, strict=True) if before != after]
        if changed:
            purged += sum(rows for _, rows in made)
            lease.check()
            facts = found | {"files": [asdict(file) for file, _ in made]}
            store.write(name, (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode())
            for before, _ in changed:
                store.delete(before.path)
    return purged


def _without(store: Store, file: File, revocations: list[Revocation]) -> tuple[File, int]:
    with store.open(file.path) as source:
        whole = pq.ParquetFile(source)
        names = [name for name in whole.schema_arrow.names if name in PAYLOAD]
        match = matching(whole.read(["key", "input_key", "url", "page_url", "license"]), revocations)
    if not any(match):
        return file, 0
    try:
        table = read_table(store, file)
    except CorruptFileError as error:
        raise CorruptFileError(f"{error}; it holds revoked rows") from error
    held = 0
    for name in names:
        column = table[name].to_pylist()
        held = max(held, sum(value is not None for value, is_hit in zip(column, match, strict=True) if is_hit))
        left = [None if is_hit else value for is_hit, value in zip(match, column, strict=True)]
        field = table.schema.field(name)
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(left, field.type))
    if not held:
        return file, 0
    folder = file.path.rpartition("/")[0]
    return replace(write_parquet(store, f"{folder}/purged-{{sha256}}.parquet", table, row_group_rows=256), rows=file.rows), held
