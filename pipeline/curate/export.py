"""Export: the kept rows of a verdict table as a data set: shards of fixed size in the order of the plan, an index, a
card.

    README.md                     the card, which names the shards of `data/` and the types of their columns
    data/shard-N-DIGEST.parquet   the rows, each key once
    webdataset/shard-N-….tar      the same rows again, if they are asked for
    _index-DIGEST.arrow           key -> shard, row, tar, offset in it
    manifest.json                 size and sha256 of all of these; does not grow with the rows

Guarantees: the shards' bytes depend on the verdicts and the rows alone, so they are identical for any number of
workers and any order of arrival; a shard's name holds its digest, so writing it twice changes nothing; the manifest is
replaced as a whole, and `sweep` then deletes what it does not name. Revoked rows leave a gap in their shard and move no
other row, so only the shards that held them are written anew.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import digest, from_json, to_json
from pipeline.curate import card, revoke, waves
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import ExportConfig, ExportManifest, Part, Selection, ShardFiles
from pipeline.curate.through import tables
from pipeline.curate.webdataset import tar_bytes
from pipeline.records import CARD, EXPORT
from pipeline.storage import CorruptFileError, File, Store, read_file, write_changed, write_parquet

if TYPE_CHECKING:
    from ray.data import Dataset

INDEX = pa.schema(
    [
        ("key", pa.string()),
        ("shard", pa.string()),
        ("row", pa.int64()),
        ("tar", pa.string()),
        ("tar_offset", pa.int64()),
    ]
)
_SHARD = pa.schema([("shard", pa.string())])


COLUMNS = ("key", "unit", "state", "reason", "file", "row", "url", "license")
"""Columns of verdicts that an export looks at."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One shard, and where each row begins in its tar: that is not in the manifest, but in the index."""

    files: ShardFiles
    offsets: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ShardRows:
    """What a shard is to be written from: `rows` by their place in their `files` of scores."""

    index: int
    made_of: str
    files: tuple[str, ...]
    rows: tuple[int, ...]
    parts: tuple[Part, ...]


def manifest_of(journal: Journal) -> ExportManifest | None:
    """The manifest of what was exported last; None before the first export."""
    return journal.find(EXPORT, ExportManifest)


def is_current(journal: Journal, selection: Selection) -> bool:
    """True if what was exported last is this selection."""
    manifest = manifest_of(journal)
    return manifest is not None and manifest.made_from == selection


def shards(journal: Journal) -> list[File]:
    """Every exported file but the manifest and the card; none before the first export."""
    manifest = manifest_of(journal)
    return [] if manifest is None else manifest.data


def export(journal: Journal, selection: Selection, verdicts: pa.Table, schema: pa.Schema) -> tuple[File, ...]:
    """Write the kept rows of a unit, of which the verdicts are given; returns the Parquet shards in order. Shards that
    are there are left as they are. Needs Ray."""
    verdicts = verdicts.select(COLUMNS).filter(pc.equal(verdicts["unit"], selection.unit))
    is_kept = pc.equal(verdicts["state"], "kept")
    # A revoked row leaves a gap: the rows after it stay in their shards, and these need not be written anew.
    is_gap = pc.fill_null(pc.is_in(verdicts["reason"], pa.array([revoke.AFTER, revoke.COPY])), False)
    written = _shards(journal, verdicts.filter(pc.or_(is_kept, is_gap)), selection, schema)
    rows = verdicts.filter(is_kept)
    number = sum(shard.files.file.rows for shard in written)
    if number != rows.num_rows:
        raise RuntimeError(f"{rows.num_rows} rows are kept and {number} were written; nothing was exported")
    return _commit(journal, selection, schema, rows, written).files


def _commit(
    journal: Journal, selection: Selection, schema: pa.Schema, rows: pa.Table, written: list[Shard]
) -> ExportManifest:
    """Write the index and the card, and last the manifest that makes all of it the export."""
    files = tuple(shard.files.file for shard in written)
    tars = tuple(shard.files.tar for shard in written if shard.files.tar)
    keys_sha256 = digest(rows["key"].to_pylist())
    described = card.Described(
        unit=selection.unit,
        verdicts=selection.verdicts,
        columns=selection.columns,
        has_tars=bool(tars),
        shards=tuple(file.path for file in files),
        keys_sha256=keys_sha256,
    )
    text = card.render(journal, described, schema, rows)
    manifest = ExportManifest(
        made_from=selection,
        rows=rows.num_rows,
        keys_sha256=keys_sha256,
        files=files,
        webdataset=tars,
        shards=tuple(shard.files for shard in written),
        index=_write_index(journal.store, rows["key"], written),
        card=write_changed(journal.store, CARD, text.encode()),
    )
    journal.replace(EXPORT, manifest)
    return manifest


def read_index(journal: Journal) -> pa.Table | None:
    """Where each exported key lies (INDEX); None if nothing was exported."""
    manifest = manifest_of(journal)
    if manifest is None:
        return None
    with pa.ipc.open_file(pa.BufferReader(read_file(journal.store, manifest.index))) as reader:
        return reader.read_all().cast(INDEX)


def _write_index(store: Store, keys: pa.ChunkedArray, written: list[Shard]) -> File:
    places = [
        (shard.files.file.path, row, shard.files.tar.path if shard.files.tar else None, offset)
        for shard in written
        for row, offset in enumerate(shard.offsets or [None] * shard.files.file.rows)
    ]
    columns = [
        keys.combine_chunks(),
        *(pa.array([place[i] for place in places], INDEX.field(i + 1).type) for i in range(4)),
    ]
    table = pa.table(columns, schema=INDEX)
    for name in ("shard", "tar"):  # a few names, each on thousands of rows
        table = table.set_column(table.schema.get_field_index(name), name, table[name].dictionary_encode())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table.combine_chunks())
    data = sink.getvalue().to_pybytes()
    return write_changed(store, f"export/_index-{hashlib.sha256(data).hexdigest()[:12]}.arrow", data)


# ---- shards: each is named by what it is made of, so those that are there already are told and left ----


def _shards(journal: Journal, slots: pa.Table, selection: Selection, schema: pa.Schema) -> list[Shard]:
    """Every shard in order, those that are there already as they are; an empty one if no row is kept."""
    old = _reusable(journal)
    done: dict[int, Shard] = {}
    missing: list[ShardRows] = []
    config = selection.as_
    parts = {part.scores.path: part for part in waves.parts(journal)}
    for index, start in enumerate(range(0, slots.num_rows, config.shard_rows)):
        kept = slots.slice(start, config.shard_rows)
        kept = kept.filter(pc.equal(kept["state"], "kept"))
        files = tuple(kept["file"].to_pylist())
        # An input's rows within one wave are always the same, whatever the file is called.
        homes = [_wave(path) for path in files]
        made_of = digest([index, list(selection.columns), to_json(config), kept["key"].to_pylist(), homes])
        if made_of in old:
            done[index] = old[made_of]
        elif files:
            used = tuple(parts[path] for path in dict.fromkeys(files))
            rows = tuple(kept["row"].to_pylist())
            missing.append(ShardRows(index=index, made_of=made_of, files=files, rows=rows, parts=used))
    done |= {shard.files.index: shard for shard in _written(journal.store, missing, selection, schema)}
    empty = _columns(schema, selection.columns).empty_table()
    return [done[index] for index in sorted(done)] or [_shard(journal.store, 0, "", empty, config)]


def _reusable(journal: Journal) -> dict[str, Shard]:
    """Shards of the export before by what they were made of, if all their files are there and as large as they were."""
    try:
        manifest = manifest_of(journal)
        index = read_index(journal)
    except CorruptFileError:
        return {}  # made again, byte for byte
    if manifest is None or index is None:
        return {}
    sizes = journal.store.sizes("export")
    offsets: dict[str, list[int]] = {}
    for tar, offset in zip(index["tar"].to_pylist(), index["tar_offset"].to_pylist(), strict=True):
        if tar:
            offsets.setdefault(tar, []).append(offset)
    old = {}
    for files in manifest.shards:
        if all(sizes.get(file.path) == file.size_bytes for file in (files.file, files.tar) if file):
            starts = offsets.get(files.tar.path, ()) if files.tar else ()
            old[files.made_of] = Shard(files=files, offsets=tuple(starts))
    return old


def _wave(path: str) -> str:
    return "-".join(path.split("/")[1].split("-")[:2])


def _written(store: Store, missing: list[ShardRows], selection: Selection, schema: pa.Schema) -> Iterator[Shard]:
    """Write shards, a Ray task each; in the order in which they are done."""
    import ray

    if not missing:
        return

    def write(batch: pa.Table) -> pa.Table:
        rows = [from_json(ShardRows, json.loads(text)) for text in batch["rows"].to_pylist()]
        shards = [_write_shard(store, each, selection, schema) for each in rows]
        return pa.table({"shard": [json.dumps(to_json(shard)) for shard in shards]}, schema=_SHARD)

    items = [{"rows": json.dumps(to_json(rows))} for rows in missing]
    dataset: Dataset = ray.data.from_items(items, override_num_blocks=len(items))
    written = dataset.map_batches(write, batch_size=1, batch_format="pyarrow")
    for table in tables(written):
        for text in table["shard"].to_pylist():
            yield from_json(Shard, json.loads(text))


def _write_shard(store: Store, rows: ShardRows, selection: Selection, schema: pa.Schema) -> Shard:
    columns = list(selection.columns)
    picked: list[pa.Table] = []
    for part in rows.parts:
        places = [i for i, path in enumerate(rows.files) if path == part.scores.path]
        table = waves.read_part(store, part, columns)
        picked.append(table.take([rows.rows[i] for i in places]).append_column("_place", pa.array(places)))
    table = pa.concat_tables(picked).sort_by("_place").select(columns)
    table = table.cast(_columns(schema, selection.columns)).combine_chunks()
    return _shard(store, rows.index, rows.made_of, table, selection.as_)


def _shard(store: Store, index: int, made_of: str, table: pa.Table, config: ExportConfig) -> Shard:
    file = write_parquet(store, f"export/data/shard-{index:05d}-{{sha256}}.parquet", table, config.row_group_rows)
    if not config.webdataset or not table.num_rows:
        return Shard(files=ShardFiles(index=index, made_of=made_of, file=file, tar=None))
    data, offsets = tar_bytes(table)
    tar = store.write(f"export/webdataset/shard-{index:05d}-{hashlib.sha256(data).hexdigest()[:12]}.tar", data)
    tar = replace(tar, rows=table.num_rows)
    return Shard(files=ShardFiles(index=index, made_of=made_of, file=file, tar=tar), offsets=tuple(offsets))


def _columns(schema: pa.Schema, names: tuple[str, ...]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in names])
