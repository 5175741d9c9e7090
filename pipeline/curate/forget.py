"""What a run must not hold any longer: media and words of revoked rows and of their copies, and secrets in URLs.

Guarantees: a file is replaced before the old one is deleted, and what a crash leaves behind no manifest names, so
`sweep` finds it; doing all of this again changes nothing. Costs: one pass over the scores of all rows, two for
revocations.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.curate import plan, revoke, waves
from pipeline.curate.revoke import Revocation, Revoked
from pipeline.curate.waves import Part
from pipeline.lease import Lease
from pipeline.manifest import read_manifest, write_sealed
from pipeline.records import PAYLOAD, without_secrets
from pipeline.storage import CorruptFileError, File, Store, read_table, write_parquet


@dataclass(frozen=True, kw_only=True)
class Hit:
    """What a revocation concerns: keys of rows that stand and of inputs, and the files that hold their media and
    words."""

    keys: frozenset[str]
    inputs: int
    files: frozenset[str]


def hits(store: Store, revocations: list[Revocation]) -> list[Hit]:
    """What each of these concerns, in inputs and in committed rows; copies are not counted."""
    keys: list[set[str]] = [set() for _ in revocations]
    files: list[set[str]] = [set() for _ in revocations]
    inputs = waves.read_inputs(store, ["key", "url", "page_url", "transcript_url", "license"])
    listed = [] if inputs is None else inputs.to_pylist()
    named = [sum(map(revocation.matches, listed)) for revocation in revocations]
    for part, table in _scores(store):
        for row in table.to_pylist():
            for i, revocation in enumerate(revocations):
                if revocation.matches(row):
                    keys[i].add(row["key"])
                    files[i].add(part.payload.path)
    return [Hit(keys=frozenset(keys[i]), inputs=named[i], files=frozenset(files[i])) for i in range(len(revocations))]


def purge(store: Store, lease: Lease) -> int:
    """Take the media and words of what was revoked out of the waves, the inputs and the quarantine; returns how many
    rows of waves had any."""
    revoked = _with_copies(store)
    if not revoked:
        return 0
    for name in store.list("quarantine", r"[0-9a-f]+\.parquet"):
        if _is_bundle_of(store, name, revoked):
            store.delete(name)
    for name in _listings(store):
        lease.check()
        _rewrite(store, name, lambda table: _without_words(table, revoked))
    purged = 0
    for wave in waves.every_manifest(store):
        pairs = [_purged(store, part, revoked) for part in waves.parts_of(wave)]
        rows = sum(number for _, number in pairs)
        if rows:
            purged += rows
            lease.check()
            files = [asdict(file) for part, _ in pairs for file in (part.scores, part.payload)]
            write_sealed(store, waves.name_of(wave), wave | {"files": files})
    return purged


def cut_secrets(store: Store, lease: Lease, fetched_again: set[str]) -> None:
    """Cut the secrets out of the URLs of inputs, but for those that may be `fetched_again`: they are needed there."""

    def cut(table: pa.Table) -> pa.Table:
        needed = pa.array([key in fetched_again for key in _keys(table)])
        clean = without_secrets(table)
        if clean is table:
            return table
        return pa.table(
            [
                pa.array(
                    [
                        whole if is_needed else part
                        for whole, part, is_needed in zip(
                            table[name].to_pylist(), clean[name].to_pylist(), needed.to_pylist(), strict=True
                        )
                    ],
                    table.schema.field(name).type,
                )
                for name in table.column_names
            ],
            schema=table.schema,
        )

    for name in _listings(store):
        lease.check()
        _rewrite(store, name, cut)


def _scores(store: Store) -> Iterator[tuple[Part, pa.Table]]:
    for part in waves.parts(store):
        table = read_table(store, part.scores)
        yield part, table.select([name for name in revoke.COLUMNS if name in table.column_names])


def _with_copies(store: Store) -> Revoked:
    """All that was revoked, once what it is copied in has been looked for and recorded."""
    revoked = revoke.recorded(store)
    if not revoked:
        return revoked
    digests: set[str] = set(revoked.copies)
    for _, table in _scores(store):
        for row in table.to_pylist():
            if revoked.is_requested(row):
                digests |= revoke.contents(row)
    inputs: set[str] = set(revoked.inputs)
    found = replace(revoked, copies=frozenset(digests))
    for _, table in _scores(store):
        inputs |= {
            row["key"]
            for row in table.to_pylist()
            if row["key"] == row["input_key"] and found.is_copy(row) and not found.is_requested(row)
        }
    if digests - revoked.copies or inputs - revoked.inputs:
        revoke.record_copies(store, digests - revoked.copies, inputs - revoked.inputs)
    return replace(found, inputs=frozenset(inputs))


def _purged(store: Store, part: Part, revoked: Revoked) -> tuple[Part, int]:
    """The part without the payload of revoked rows, and how many had any."""
    reasons = revoked.reasons(read_table(store, part.scores))
    if not any(reasons):
        return part, 0
    try:
        table = read_table(store, part.payload)
    except CorruptFileError as error:
        raise CorruptFileError(f"{error}; it holds revoked rows") from error
    blank = table
    for name in [name for name in table.column_names if name in PAYLOAD]:
        left = [None if why else value for why, value in zip(reasons, table[name].to_pylist(), strict=True)]
        field = table.schema.field(name)
        blank = blank.set_column(table.schema.get_field_index(name), field, pa.array(left, field.type))
    if blank.equals(table):
        return part, 0
    folder = part.payload.path.rpartition("/")[0]
    file: File = write_parquet(store, f"{folder}/purged-{{sha256}}.payload.parquet", blank, row_group_rows=256)
    return replace(part, payload=file), sum(why is not None for why in reasons)


def _is_bundle_of(store: Store, name: str, revoked: Revoked) -> bool:
    try:
        return any(revoked.reasons(pq.read_table(pa.BufferReader(store.read(name)))))
    except pa.ArrowInvalid:  # damaged: it cannot be replayed, and nobody can say that nothing revoked is in it
        return True


def _listings(store: Store) -> list[str]:
    """Manifests of inputs: those of the run, and those of each round that worked on some again."""
    return [waves.INPUTS, *store.list("plans", plan.NAMES)]


def _rewrite(store: Store, name: str, change: Any) -> None:
    committed = read_manifest(store, name)
    if committed is None:
        return
    before = read_table(store, committed["files"][0])
    after = change(before)
    if not after.equals(before):
        waves.replace_inputs(store, name, after)


def _without_words(table: pa.Table, revoked: Revoked) -> pa.Table:
    reasons = revoked.reasons(table)
    for name in PAYLOAD:
        if name in table.column_names and any(reasons):
            field = table.schema.field(name)
            left = [None if why else value for why, value in zip(reasons, table[name].to_pylist(), strict=True)]
            table = table.set_column(table.schema.get_field_index(name), field, pa.array(left, field.type))
    return table


def _keys(table: pa.Table) -> list[str]:
    """Keys of the inputs that rows stand for; rows of a later round carry them as `input_key` as well."""
    return table["input_key" if "input_key" in table.column_names else "key"].to_pylist()
