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
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import digest
from pipeline.curate import card, decide, revoke, waves
from pipeline.curate.sweep import EXPORT as MANIFEST
from pipeline.curate.waves import Part
from pipeline.curate.webdataset import tar_bytes
from pipeline.manifest import read_manifest, write_sealed
from pipeline.ranges import check_range
from pipeline.storage import CorruptFileError, File, Store, read_file, write_changed, write_parquet

if TYPE_CHECKING:
    from ray.data import Dataset

CARD = "export/README.md"
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


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """How the kept rows are cut into files."""

    shard_rows: int = 2048
    """Rows of a shard; the last has fewer."""
    row_group_rows: int = 64
    """Rows that a reader fetches at once; small enough that shuffled training reads little it does not use."""
    webdataset: bool = False
    """Write each shard as a WebDataset tar as well."""

    def __post_init__(self) -> None:
        check_range(self, "shard_rows", "row_group_rows", low=1)


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One shard: `made_of` is the digest of all that its bytes depend on, `offsets` where each row begins in its
    tar."""

    index: int
    made_of: str
    file: File
    tar: File | None
    offsets: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Without the offsets: they are the index's."""
        return {
            "index": self.index,
            "made_of": self.made_of,
            "file": asdict(self.file),
            "tar": self.tar and asdict(self.tar),
        }


def is_current(store: Store, wanted: dict[str, Any]) -> bool:
    """True if what was exported last is what is wanted: `verdicts` by name, `unit` and `columns`."""
    exported = read_manifest(store, MANIFEST)
    return exported is not None and exported["made_from"] == wanted


def shards(store: Store) -> list[File]:
    """Every exported file but the manifest and the card; none before the first export."""
    exported = read_manifest(store, MANIFEST)
    if exported is None:
        return []
    return [*exported["files"], *(File(**file) for file in [*exported["webdataset"], exported["index"]])]


def export(store: Store, wanted: dict[str, Any], schema: pa.Schema, config: ExportConfig) -> list[File]:
    """Write the kept rows of a unit; returns the Parquet shards in order. Shards that are there are left as they
    are."""
    table = decide.verdicts(
        store, wanted["verdicts"], ["key", "unit", "state", "reason", "file", "row", "url", "license"]
    )
    table = table.filter(pc.equal(table["unit"], wanted["unit"]))
    kept = pc.equal(table["state"], "kept")
    gap = pc.fill_null(pc.is_in(table["reason"], pa.array([revoke.AFTER, revoke.COPY])), False)
    made = _shards(store, table.filter(pc.or_(kept, gap)), wanted, schema, config)
    rows = table.filter(kept)
    written = sum(shard.file.rows for shard in made)
    if written != rows.num_rows:
        raise RuntimeError(f"{rows.num_rows} rows are kept and {written} were written; nothing was exported")
    _commit(store, wanted, schema, rows, made)
    return [shard.file for shard in made]


def _commit(store: Store, wanted: dict[str, Any], schema: pa.Schema, rows: pa.Table, made: list[Shard]) -> None:
    """Write the index and the card, and last the manifest that makes all of it the export."""
    files = [asdict(shard.file) for shard in made]
    tars = [asdict(shard.tar) for shard in made if shard.tar]
    keys_sha256 = digest(rows["key"].to_pylist())
    described = card.Described(
        unit=wanted["unit"],
        verdicts=wanted["verdicts"],
        columns=tuple(wanted["columns"]),
        has_tars=bool(tars),
        shards=tuple(file["path"] for file in files),
        keys_sha256=keys_sha256,
    )
    text = card.render(store, described, schema, rows)
    write_sealed(
        store,
        MANIFEST,
        {
            "made_from": wanted,
            "rows": rows.num_rows,
            "keys_sha256": keys_sha256,
            "files": files,
            "webdataset": tars,
            "shards": [shard.to_json() for shard in made],
            "index": asdict(_write_index(store, rows["key"], made)),
            "card": asdict(write_changed(store, CARD, text.encode())),
        },
    )


def read_index(store: Store) -> pa.Table | None:
    """Where each exported key lies (INDEX); None if nothing was exported."""
    exported = read_manifest(store, MANIFEST)
    if exported is None:
        return None
    with pa.ipc.open_file(pa.BufferReader(read_file(store, File(**exported["index"])))) as reader:
        return reader.read_all().cast(INDEX)


def _write_index(store: Store, keys: pa.ChunkedArray, made: list[Shard]) -> File:
    places = [
        (shard.file.path, row, shard.tar.path if shard.tar else None, offset)
        for shard in made
        for row, offset in enumerate(shard.offsets or [None] * shard.file.rows)
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


def _shards(
    store: Store, slots: pa.Table, wanted: dict[str, Any], schema: pa.Schema, config: ExportConfig
) -> list[Shard]:
    """Every shard in order, those that are there already as they are; an empty one if no row is kept."""
    old = _reusable(store)
    done: dict[int, Shard] = {}
    specs = []
    for index, start in enumerate(range(0, slots.num_rows, config.shard_rows)):
        part = slots.slice(start, config.shard_rows)
        part = part.filter(pc.equal(part["state"], "kept"))
        files = part["file"].to_pylist()
        # An input's rows within one wave are always the same, whatever the file is called.
        made_of = digest(
            [index, wanted["columns"], asdict(config), part["key"].to_pylist(), [_wave(path) for path in files]]
        )
        if made_of in old:
            done[index] = old[made_of]
        elif files:
            specs.append({"index": index, "made_of": made_of, "files": files, "rows": part["row"].to_pylist()})
    done |= {shard.index: shard for shard in _written(store, specs, wanted["columns"], schema, config)}
    empty = _columns(schema, wanted["columns"]).empty_table()
    return [done[index] for index in sorted(done)] or [_shard(store, 0, "", empty, config)]


def _reusable(store: Store) -> dict[str, Shard]:
    """Shards of the export before by what they were made of, if all their files are there and as large as they were."""
    try:
        exported = read_manifest(store, MANIFEST)
        index = read_index(store)
    except CorruptFileError:
        return {}  # made again, byte for byte
    if exported is None or index is None:
        return {}
    sizes = store.sizes("export")
    offsets: dict[str, list[int]] = {}
    for tar, offset in zip(index["tar"].to_pylist(), index["tar_offset"].to_pylist(), strict=True):
        if tar:
            offsets.setdefault(tar, []).append(offset)
    old = {}
    for entry in exported["shards"]:
        file = File(**entry["file"])
        tar = entry["tar"] and File(**entry["tar"])
        if all(sizes.get(there.path) == there.size_bytes for there in (file, tar) if there):
            old[entry["made_of"]] = Shard(
                index=entry["index"],
                made_of=entry["made_of"],
                file=file,
                tar=tar,
                offsets=tuple(offsets.get(tar.path, ())) if tar else (),
            )
    return old


def _wave(path: str) -> str:
    return "-".join(path.split("/")[1].split("-")[:2])


def _written(
    store: Store, specs: list[dict[str, Any]], columns: list[str], schema: pa.Schema, config: ExportConfig
) -> Iterator[Shard]:
    import ray

    if not specs:
        return
    pairs = {part.scores.path: [asdict(part.scores), asdict(part.payload)] for part in waves.parts(store)}
    items = [
        {"spec": json.dumps(spec | {"used": [pairs[path] for path in dict.fromkeys(spec["files"])]})} for spec in specs
    ]

    def write(batch: dict[str, Any]) -> pa.Table:
        made = [_write_shard(store, json.loads(spec), columns, schema, config) for spec in batch["spec"]]
        return pa.table(
            {"shard": [json.dumps(shard.to_json() | {"offsets": shard.offsets}) for shard in made]}, schema=_SHARD
        )

    dataset: Dataset = ray.data.from_items(items, override_num_blocks=len(items))
    written: Any = dataset.map_batches(write, batch_size=1).iter_batches(batch_size=None, batch_format="pyarrow")
    for batch in written:
        for entry in map(json.loads, batch["shard"].to_pylist()):
            yield Shard(
                index=entry["index"],
                made_of=entry["made_of"],
                file=File(**entry["file"]),
                tar=entry["tar"] and File(**entry["tar"]),
                offsets=tuple(entry["offsets"]),
            )


def _write_shard(
    store: Store, spec: dict[str, Any], columns: list[str], schema: pa.Schema, config: ExportConfig
) -> Shard:
    picked: list[pa.Table] = []
    for scores, payload in spec["used"]:
        places = [i for i, path in enumerate(spec["files"]) if path == scores["path"]]
        table = waves.read_part(store, Part(scores=File(**scores), payload=File(**payload)), columns)
        picked.append(table.take([spec["rows"][i] for i in places]).append_column("_place", pa.array(places)))
    table = pa.concat_tables(picked).sort_by("_place").select(columns)
    return _shard(store, spec["index"], spec["made_of"], table.cast(_columns(schema, columns)).combine_chunks(), config)


def _shard(store: Store, index: int, made_of: str, table: pa.Table, config: ExportConfig) -> Shard:
    file = write_parquet(store, f"export/data/shard-{index:05d}-{{sha256}}.parquet", table, config.row_group_rows)
    if not config.webdataset or not table.num_rows:
        return Shard(index=index, made_of=made_of, file=file, tar=None)
    data, offsets = tar_bytes(table)
    tar = store.write(f"export/webdataset/shard-{index:05d}-{hashlib.sha256(data).hexdigest()[:12]}.tar", data)
    tar = File(path=tar.path, size_bytes=tar.size_bytes, sha256=tar.sha256, rows=table.num_rows)
    return Shard(index=index, made_of=made_of, file=file, tar=tar, offsets=tuple(offsets))


def _columns(schema: pa.Schema, names: list[str]) -> pa.Schema:
    return pa.schema([schema.field(name) for name in names])
