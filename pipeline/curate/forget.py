"""What a run must not hold any longer: media and words of revoked rows and of their copies, and secrets in URLs.

Guarantees: a file is replaced before the old one is deleted, and what a crash leaves behind no manifest names, so
`sweep` finds it; doing all of this again changes nothing. Costs: one pass over the scores of all rows, two for
revocations.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.curate import listings, plan, revoke, waves
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import Part
from pipeline.curate.revoke import Revocation, Revoked
from pipeline.lease import Lease
from pipeline.records import INPUT, PAYLOAD, wave_name, without_secrets
from pipeline.storage import CorruptFileError, Store, read_table, write_parquet


@dataclass(frozen=True, kw_only=True)
class Hit:
    """What a revocation concerns: keys of rows that stand and of inputs, and the files that hold their media and
    words."""

    keys: frozenset[str]
    inputs: int
    files: frozenset[str]


def hits(journal: Journal, revocations: list[Revocation]) -> list[Hit]:
    """What each of these concerns, in inputs and in committed rows; copies are not counted."""
    keys: list[set[str]] = [set() for _ in revocations]
    files: list[set[str]] = [set() for _ in revocations]
    inputs = listings.every_input(journal, [name for name in revoke.COLUMNS if name in INPUT.names])
    listed = [] if inputs is None else inputs.to_pylist()
    named = [sum(map(revocation.matches, listed)) for revocation in revocations]
    for part, table in _scores(journal):
        for row in table.to_pylist():
            for i, revocation in enumerate(revocations):
                if revocation.matches(row):
                    keys[i].add(row["key"])
                    files[i].add(part.payload.path)
    return [Hit(keys=frozenset(keys[i]), inputs=named[i], files=frozenset(files[i])) for i in range(len(revocations))]


def purge(journal: Journal, lease: Lease) -> int:
    """Take the media and words of what was revoked out of the waves, the inputs and the quarantine; returns how many
    rows of waves had any."""
    revoked = _with_copies(journal)
    if not revoked:
        return 0
    for name in journal.store.list("quarantine", r"[0-9a-f]+\.parquet"):  # workers write there: listed anew
        if _is_bundle_of(journal.store, name, revoked):
            journal.delete(name)
    for number in _rounds(journal):
        lease.check()
        _rewrite(journal, number, lambda table: _without_words(table, revoked))
    purged = 0
    for wave in waves.every_manifest(journal):
        pairs = [_purged(journal.store, part, revoked) for part in wave.parts]
        rows = sum(number for _, number in pairs)
        if rows:
            purged += rows
            lease.check()
            files = tuple(file for part, _ in pairs for file in (part.scores, part.payload))
            journal.replace(wave_name(wave.round, wave.wave), replace(wave, files=files))
    return purged


def cut_secrets(journal: Journal, lease: Lease, fetched_again: set[str]) -> None:
    """Cut the secrets out of the URLs of inputs, but for those that may be `fetched_again`: they are needed there."""

    def cut(table: pa.Table) -> pa.Table:
        clean = without_secrets(table)
        if clean is table:
            return table
        is_needed = pa.chunked_array([pa.array([key in fetched_again for key in _keys(table)], pa.bool_())])
        columns = [pc.if_else(is_needed, table[name], clean[name]) for name in table.column_names]
        return pa.table(columns, schema=table.schema)

    for number in _rounds(journal):
        lease.check()
        _rewrite(journal, number, cut)


def _scores(journal: Journal) -> Iterator[tuple[Part, pa.Table]]:
    for part in waves.parts(journal):
        table = read_table(journal.store, part.scores)
        yield part, table.select([name for name in revoke.COLUMNS if name in table.column_names])


def _with_copies(journal: Journal) -> Revoked:
    """All that was revoked, once what it is copied in has been looked for and recorded."""
    revoked = revoke.recorded(journal)
    if not revoked:
        return revoked
    digests: set[str] = set(revoked.copies)
    for _, table in _scores(journal):
        for row in table.to_pylist():
            if revoked.is_requested(row):
                digests |= revoke.contents(row)
    inputs: set[str] = set(revoked.inputs)
    copied = replace(revoked, copies=frozenset(digests))
    # What was cut from a row carries its URLs, key and license, but digests of its own.
    cut_too = replace(revoked, revocations=tuple(r for r in revoked.revocations if r.kind != "sha256"))
    for _, table in _scores(journal):
        inputs |= {
            row["key"]
            for row in table.to_pylist()
            if row["key"] == row["input_key"] and copied.is_copy(row) and not cut_too.is_requested(row)
        }
    if digests - revoked.copies or inputs - revoked.inputs:
        revoke.record_copies(journal, digests - revoked.copies, inputs - revoked.inputs)
    return replace(copied, inputs=frozenset(inputs))


def _purged(store: Store, part: Part, revoked: Revoked) -> tuple[Part, int]:
    """The part without the payload of revoked rows, and how many had any."""
    reasons = revoked.reasons(read_table(store, part.scores))
    if not any(reasons):
        return part, 0
    try:
        table = read_table(store, part.payload)
    except CorruptFileError as error:
        raise CorruptFileError(f"{error}; it holds revoked rows") from error
    blank = _blank(table, reasons)
    if blank.equals(table):
        return part, 0
    folder = part.payload.path.rpartition("/")[0]
    file = write_parquet(store, f"{folder}/purged-{{sha256}}.payload.parquet", blank, row_group_rows=256)
    return replace(part, payload=file), sum(why is not None for why in reasons)


def _is_bundle_of(store: Store, name: str, revoked: Revoked) -> bool:
    try:
        return any(revoked.reasons(pq.read_table(pa.BufferReader(store.read(name)))))
    except pa.ArrowInvalid:  # damaged: it cannot be replayed, and nobody can say that nothing revoked is in it
        return True


def _rounds(journal: Journal) -> list[int]:
    """The run itself, and each round that worked on some of its inputs again."""
    return [0, *(number for number in plan.rounds(journal) if number)]


def _rewrite(journal: Journal, number: int, change: Callable[[pa.Table], pa.Table]) -> None:
    """Change the rows that a round works on."""
    manifest = waves.inputs_manifest(journal, number)
    if manifest is None:
        return
    before = read_table(journal.store, manifest.files[0])
    after = change(before)
    if not after.equals(before):
        waves.replace_inputs(journal, number, after)


def _without_words(table: pa.Table, revoked: Revoked) -> pa.Table:
    reasons = revoked.reasons(table)
    return _blank(table, reasons) if any(reasons) else table


def _blank(table: pa.Table, reasons: list[str | None]) -> pa.Table:
    """The table without the media and words of the rows that have a reason to go."""
    for name in [name for name in table.column_names if name in PAYLOAD]:
        field = table.schema.field(name)
        left = [None if why else value for why, value in zip(reasons, table[name].to_pylist(), strict=True)]
        table = table.set_column(table.schema.get_field_index(name), field, pa.array(left, field.type))
    return table


def _keys(table: pa.Table) -> list[str]:
    """Keys of the inputs that rows stand for; rows of a later round carry them as `input_key` as well."""
    return table["input_key" if "input_key" in table.column_names else "key"].to_pylist()
