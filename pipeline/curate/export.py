"""Export: the kept rows of a verdict table as shards of fixed size, in the order of the plan; an index; a card.

Guarantees: the shards' bytes depend on the verdicts and the rows alone, so they are identical for any number of
workers and any order of arrival; a shard's name holds its digest, so writing it twice changes nothing; readers find the
shards in `export/manifest.json`, replaced as a whole. Revoked rows leave a gap in their shard and move no other row, so
only the shards that held them are written anew.
"""
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import digest
from pipeline.curate import card, decide, revoke, waves
from pipeline.curate.webdataset import tar_bytes
from pipeline.storage import File, Store, read_json, read_table, write_json, write_parquet

if TYPE_CHECKING:
    from ray.data import Dataset

MANIFEST = "export/manifest.json"
CARD = "export/README.md"
INDEX = pa.schema([("key", pa.string()), ("shard", pa.string()), ("row", pa.int64()), ("tar", pa.string()),
                   ("tar_offset", pa.int64())])
_SHARD = pa.schema([("shard", pa.string())])


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """How the kept rows are cut into files."""

    shard_rows: int = 2048
    row_group_rows: int = 64
    """Rows that a reader fetches at once; small enough that shuffled training reads little it does not use."""
    webdataset: bool = False
    """Write each shard as a WebDataset tar as well."""

    def __post_init__(self) -> None:
        for name in ("shard_rows", "row_group_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


def is_current(store: Store, wanted: dict[str, Any]) -> bool:
    """True if what was exported last is what is wanted: `verdicts` by name, `unit` and `columns`."""
    return store.exists(MANIFEST) and read_json(store, MANIFEST)["made_from"] == wanted


def shards(store: Store) -> list[File]:
    """Every exported file but the manifest and the card; none before the first export."""
    if not store.exists(MANIFEST):
        return []
    found = read_json(store, MANIFEST)
    return [File(**file) for file in [*found["files"], *found["webdataset"], found["index"]]]


def export(store: Store, wanted: dict[str, Any], schema: pa.Schema, config: ExportConfig) -> list[File]:
    """Write the kept rows of a unit; returns the Parquet shards in order. What is exported already is left alone."""
    if is_current(store, wanted):
        return [File(**file) for file in read_json(store, MANIFEST)["files"]]
    table = decide.verdicts(store, wanted["verdicts"], ["key", "unit", "state", "reason", "file", "row"])
    table = table.filter(pc.equal(table["unit"], wanted["unit"]))
    kept = pc.equal(table["state"], "kept")
    table = table.filter(pc.or_(kept, pc.fill_null(pc.equal(table["reason"], revoke.AFTER), False)))
    made = _made(store, table, wanted, schema, config)
    files = [File(**shard["file"]) for shard in made]
    keys = table.filter(pc.equal(table["state"], "kept"))["key"]
    if sum(file.rows for file in files) != len(keys):
        raise RuntimeError(f"{len(keys)} rows are kept and {sum(f.rows for f in files)} were written; nothing was exported")
    index = write_parquet(store, "export/index-{sha256}.parquet", _index(keys, made), row_group_rows=65536)
    facts = {
        "made_from": wanted, "rows": len(keys), "keys_sha256": digest(keys.to_pylist()), "index": asdict(index),
        "files": [asdict(file) for file in files], "webdataset": [shard["tar"] for shard in made if shard["tar"]],
        "shards": made,
    }
    store.write(CARD, card.render(store, wanted, schema, facts).encode())
    write_json(store, MANIFEST, facts)
    return files


def delete_all_but(store: Store, before: list[File], after: list[File]) -> None:
    """Delete the files of an export that a later one does not have."""
    for file in sorted({file.path for file in before} - {file.path for file in after}):
        store.delete(file)


def _index(keys: pa.ChunkedArray, made: list[dict[str, Any]]) -> pa.Table:
    spots = [(shard["file"]["path"], row, shard["tar"]["path"] if shard["tar"] else None, start)
             for shard in made for row, start in enumerate(shard["starts"])]
    columns = [keys.combine_chunks(), *(pa.array([spot[i] for spot in spots], INDEX.field(i + 1).type) for i in range(4))]
    return pa.table(columns, schema=INDEX)


def _made(store: Store, slots: pa.Table, wanted: dict[str, Any], schema: pa.Schema, config: ExportConfig) -> list[dict[str, Any]]:
    """Every shard, those that are there already as they are."""
    old = {}
    if store.exists(MANIFEST):
        old = {shard["made_of"]: shard for shard in read_json(store, MANIFEST)["shards"]}
    specs, done = [], {}
    for index, start in enumerate(range(0, slots.num_rows, config.shard_rows)):
        part = slots.slice(start, config.shard_rows)
        part = part.filter(pc.equal(part["state"], "kept"))
        files = part["file"].to_pylist()
        # An input's rows within one wave are always the same, whatever the file is called.
        made_of = digest([index, wanted["columns"], asdict(config), part["key"].to_pylist(), [_wave(path) for path in files]])
        if made_of in old:
            done[index] = old[made_of]
        elif files:
            specs.append({"index": index, "made_of": made_of, "files": files, "rows": part["row"].to_pylist()})
    done |= {shard["index"]: shard for shard in _written(store, specs, wanted["columns"], schema, config)}
    return [done[index] for index in sorted(done)]


def _wave(path: str) -> str:
    return "-".join(path.split("/")[1].split("-")[:2])


def _written(store: Store, specs: list[dict[str, Any]], columns: list[str], schema: pa.Schema,
             config: ExportConfig) -> Iterator[dict[str, Any]]:
    import ray

    if not specs:
        return
    digests = {file.path: asdict(file) for file in waves.files(store)}
    items = [{"spec": json.dumps(spec | {"used": [digests[path] for path in dict.fromkeys(spec["files"])]})} for spec in specs]

    def write(batch: dict[str, Any]) -> pa.Table:
        made = [json.dumps(_write_shard(store, json.loads(spec), columns, schema, config)) for spec in batch["spec"]]
        return pa.table({"shard": made}, schema=_SHARD)

    dataset: Dataset = ray.data.from_items(items, override_num_blocks=len(items))
    written: Any = dataset.map_batches(write, batch_size=1).iter_batches(batch_size=None, batch_format="pyarrow")
    for batch in written:
        yield from (json.loads(shard) for shard in batch["shard"].to_pylist())


def _write_shard(store: Store, spec: dict[str, Any], columns: list[str], schema: pa.Schema,
                 config: ExportConfig) -> dict[str, Any]:
    picked: list[pa.Table] = []
    for file in spec["used"]:
        places = [i for i, path in enumerate(spec["files"]) if path == file["path"]]
        table = read_table(store, File(**file), columns).take([spec["rows"][i] for i in places])
        picked.append(table.append_column("_place", pa.array(places)))
    table = pa.concat_tables(picked).sort_by("_place").select(columns)
    table = table.cast(pa.schema([schema.field(name) for name in columns])).combine_chunks()
    stem = f"export/shard-{spec['index']:05d}-{{sha256}}"
    parquet = write_parquet(store, f"{stem}.parquet", table, config.row_group_rows)
    tar: dict[str, Any] | None = None
    starts: list[int | None] = [None] * table.num_rows
    if config.webdataset:
        data, starts[:] = tar_bytes(table)
        name = f"export/wds-{spec['index']:05d}-{hashlib.sha256(data).hexdigest()[:12]}.tar"
        tar = asdict(store.write(name, data)) | {"rows": table.num_rows}
    return {"index": spec["index"], "made_of": spec["made_of"], "file": asdict(parquet), "tar": tar, "starts": starts,
            "licenses": _tally(table, "license"), "hosts": _tally(table, "url", lambda url: urlsplit(url or "").hostname)}


def _tally(table: pa.Table, name: str, of: Any = lambda value: value) -> dict[str, int]:
    if name not in table.column_names:
        return {}
    return dict(sorted(Counter(str(of(value) or "unknown") for value in table[name].to_pylist()).items()))
