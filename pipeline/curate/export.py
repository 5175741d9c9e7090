"""Export: the kept rows of a verdict table as shards of fixed size, in the order of the plan.

Guarantees: the shards' bytes depend on the verdicts and the rows alone, so they are identical for any number of
workers and any order of arrival; a shard's name holds its digest, so writing it twice changes nothing; readers find the
shards in `export/manifest.json`, replaced as a whole.
"""
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import digest
from pipeline.curate import decide, waves
from pipeline.storage import File, Store, read_json, read_table, write_json, write_parquet

if TYPE_CHECKING:
    from ray.data import Dataset

MANIFEST = "export/manifest.json"
_SHARD = pa.schema([("index", pa.int64()), ("path", pa.string()), ("size_bytes", pa.int64()), ("sha256", pa.string()),
                    ("rows", pa.int64())])


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """How the kept rows are cut into files."""

    shard_rows: int = 2048
    row_group_rows: int = 64
    """Rows that a reader fetches at once; small enough that shuffled training reads little it does not use."""

    def __post_init__(self) -> None:
        for name in ("shard_rows", "row_group_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


def is_current(store: Store, wanted: dict[str, Any]) -> bool:
    """True if what was exported last is what is wanted: `verdicts` by name, `unit` and `columns`."""
    return store.exists(MANIFEST) and read_json(store, MANIFEST)["made_from"] == wanted


def export(store: Store, wanted: dict[str, Any], schema: pa.Schema, config: ExportConfig) -> list[File]:
    """Write the kept rows of a unit; returns the shards in order. What is exported already is left alone."""
    if is_current(store, wanted):
        return [File(**file) for file in read_json(store, MANIFEST)["files"]]
    table = decide.verdicts(store, wanted["verdicts"], ["key", "unit", "state", "file", "row"])
    kept = table.filter(pc.and_(pc.equal(table["unit"], wanted["unit"]), pc.equal(table["state"], "kept")))
    shards = sorted(_written(store, kept, wanted["columns"], schema, config), key=lambda shard: shard["index"])
    made = [File(**{k: shard[k] for k in ("path", "size_bytes", "sha256", "rows")}) for shard in shards]
    if sum(file.rows for file in made) != kept.num_rows:
        raise RuntimeError(f"{kept.num_rows} rows are kept and {sum(f.rows for f in made)} were written; nothing was exported")
    write_json(store, MANIFEST, {"made_from": wanted, "rows": kept.num_rows, "keys_sha256": digest(kept["key"].to_pylist()),
                                 "files": [asdict(file) for file in made]})
    return made


def _written(store: Store, kept: pa.Table, columns: list[str], schema: pa.Schema, config: ExportConfig) -> Iterator[dict[str, Any]]:
    import ray

    digests = {file.path: file for file in waves.files(store)}
    specs = []
    for index, start in enumerate(range(0, kept.num_rows, config.shard_rows)):
        part = kept.slice(start, config.shard_rows)
        used = {path: asdict(digests[path]) for path in pc.unique(part["file"]).to_pylist()}
        specs.append({"index": index, "files": part["file"].to_pylist(), "rows": part["row"].to_pylist(), "used": list(used.values())})
    if not specs:
        return

    def write(batch: dict[str, Any]) -> pa.Table:
        return pa.Table.from_pylist([_write_shard(store, spec, columns, schema, config) for spec in batch["spec"]], _SHARD)

    dataset: Dataset = ray.data.from_items([{"spec": spec} for spec in specs], override_num_blocks=len(specs))
    for batch in dataset.map_batches(write, batch_size=1).iter_batches(batch_size=None, batch_format="pyarrow"):
        yield from batch.to_pylist()


def _write_shard(store: Store, spec: dict[str, Any], columns: list[str], schema: pa.Schema, config: ExportConfig) -> dict[str, Any]:
    picked: list[tuple[int, pa.Table]] = []
    for file in spec["used"]:
        places = [i for i, path in enumerate(spec["files"]) if path == file["path"]]
        table = read_table(store, File(**file), columns).take([spec["rows"][i] for i in places])
        picked.append((len(places), table.append_column("_place", pa.array(places))))
    table = pa.concat_tables([part for _, part in picked]).sort_by("_place").select(columns)
    table = table.cast(pa.schema([schema.field(name) for name in columns])).combine_chunks()
    name = f"export/shard-{spec['index']:05d}-{{sha256}}.parquet"
    return {"index": spec["index"]} | asdict(write_parquet(store, name, table, config.row_group_rows))
