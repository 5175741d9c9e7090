"""Waves: exactly-once curation on Ray Data, on local disks and on S3.

A step's inputs are cut into a plan of waves that depends on the inputs alone. A wave runs them through the step's
stages and writes files under a prefix of its own attempt; the files become visible by one manifest, created last and
exclusively. So a wave is there as a whole or not at all, however often it is tried and whoever tries it.

Guarantees: every input of a committed wave has exactly one row of the input's own unit in it (checked before the
commit), beside any number of parts; resuming lists manifests, never rows; a lost answer is settled by reading the
manifest back; another attempt's files are never deleted. A run is bound to its plan: configuration, code, library
versions and inputs; resuming under another one is refused with the difference.
Costs: one listing, and one manifest of a few kB a wave; about a second of Ray Data start-up for each wave.
"""
import json
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import difference, digest
from pipeline.log import Progress, logger
from pipeline.storage import CorruptFileError, File, Store, commit, manifest, read_json, read_table, write_parquet

if TYPE_CHECKING:
    from ray.data import Dataset

LIBRARIES = ("ray", "pyarrow", "aiohttp", "yt-dlp", "av", "Pillow", "webrtcvad-wheels", "webvtt-py", "pycld2", "soxr")
KEY_SPACE = 1 << 128
_FILE = pa.schema([
    ("path", pa.string()), ("size_bytes", pa.int64()), ("sha256", pa.string()), ("rows", pa.int64()),
    ("counts", pa.string()), ("inputs", pa.int64()), ("keys_sum", pa.string()),
])


@dataclass(frozen=True, kw_only=True)
class WaveConfig:
    """How a step's inputs are cut."""

    wave_rows: int = 2048
    """Inputs that commit together; aim at a minute or more of work, since a wave costs about a second."""
    split_rows: int = 64
    """Inputs that one Ray task takes at a time."""

    def __post_init__(self) -> None:
        for name in ("wave_rows", "split_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


def bind_plan(store: Store, config: dict[str, Any], inputs_sha256: str, *, accept: bool = False) -> None:
    """Bind a run to its plan, or refuse to go on under another one.

    Raises ValueError that shows each difference; `accept` records the new plan beside the old one instead.
    """
    plan = _plan(config, inputs_sha256)
    if store.create("plan.json", (json.dumps(plan, indent=1, sort_keys=True) + "\n").encode()):
        return
    if plan in (accepted := _accepted(store)):
        return
    changes = "; ".join(difference(accepted[-1], plan))
    if not accept:
        raise ValueError(f"{store.url} was made under another plan ({changes}); use a new run_dir, or pass --accept-plan to "
                         "go on and record it")
    store.create(f"plans/{len(accepted):03d}.json", (json.dumps(plan, indent=1, sort_keys=True) + "\n").encode())
    logger.warning("going on under a changed plan: %s", changes)


def is_bound(store: Store, config: dict[str, Any], inputs_sha256: str) -> bool:
    """True if the run was made under this very plan."""
    return _plan(config, inputs_sha256) in _accepted(store)


def _plan(config: dict[str, Any], inputs_sha256: str) -> dict[str, Any]:
    return {"config": config, "code": code_digest(), "libraries": _versions(), "inputs": inputs_sha256}


def _accepted(store: Store) -> list[dict[str, Any]]:
    return [read_json(store, name) for name in ("plan.json", *store.list("plans")) if store.exists(name)]


def code_digest() -> str:
    """Sha256 of the curation code itself."""
    root = Path(__file__).parent
    return digest({str(p.relative_to(root)): p.read_text() for p in sorted(root.rglob("*.py"))})


def run(store: Store, inputs: pa.Table, dag: "Callable[[Dataset], Dataset]", config: WaveConfig, *, name: str) -> None:
    """Run every wave that has no manifest yet. `dag` takes a dataset of inputs to one of rows; it may be called often."""
    total = -(-inputs.num_rows // config.wave_rows)
    done = committed(store)
    with Progress(name, inputs.num_rows, "inputs") as progress:
        progress.start_at(sum(config.wave_rows for wave in range(total) if wave in done))
        for wave in range(total):
            if wave in done:
                continue
            rows = inputs.slice(wave * config.wave_rows, config.wave_rows)
            _run_wave(store, wave, rows, dag, config, progress)


def committed(store: Store) -> set[int]:
    """Numbers of the waves that are visible."""
    return {int(name.split("/")[-1][:-5]) for name in store.list("waves") if name.count("/") == 1 and name.endswith(".json")}


def is_complete(store: Store, inputs: pa.Table, config: WaveConfig) -> bool:
    """True if every wave has its manifest."""
    return len(committed(store)) == -(-inputs.num_rows // config.wave_rows)


def files(store: Store) -> list[File]:
    """Every committed file of the step, in wave order; what no manifest names does not exist."""
    return [file for wave in sorted(committed(store)) for file in wave_manifest(store, wave)["files"]]


def wave_manifest(store: Store, wave: int) -> dict[str, Any]:
    """The manifest of a committed wave."""
    found = manifest(store, _manifest_name(wave))
    if found is None:
        raise CorruptFileError(f"{store.url}/{_manifest_name(wave)} is gone")
    return found


def write_inputs(store: Store, rows: pa.Table) -> pa.Table:
    """Commit the step's inputs once; whoever comes second gets what is committed."""
    file = write_parquet(store, "inputs/{sha256}.parquet", rows)
    commit(store, "inputs.json", [file])
    found = read_inputs(store)
    assert found is not None
    return found


def read_inputs(store: Store) -> pa.Table | None:
    """The committed inputs, or None if none were committed yet."""
    found = manifest(store, "inputs.json")
    return None if found is None else read_table(store, found["files"][0])


def counts(table: pa.Table) -> Counter[tuple[str, str, str]]:
    """How many rows are in each (unit, state, reason); a row that has not left counts as 'scored'."""
    columns = [table[name].to_pylist() for name in ("unit", "state", "reason")]
    return Counter((unit, state or "scored", reason or "") for unit, state, reason in zip(*columns, strict=True))


def _run_wave(store: Store, wave: int, rows: pa.Table, dag: "Callable[[Dataset], Dataset]", config: WaveConfig,
              progress: Progress) -> None:
    import ray

    attempt = f"waves/{wave:05d}-{secrets.token_hex(6)}"
    splits = [rows.slice(i, config.split_rows).combine_chunks() for i in range(0, rows.num_rows, config.split_rows)]
    sink = _Sink(store, attempt)
    written: list[dict[str, Any]] = []
    results = dag(ray.data.from_arrow(splits)).map_batches(sink, batch_format="pyarrow", batch_size=None, zero_copy_batch=True)
    for batch in results.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
        for row in batch.to_pylist():
            written.append(row)
            progress.advance(row["inputs"])
    _check_books(wave, rows, written)
    totals: Counter[str] = Counter()
    for row in written:
        totals.update(json.loads(row["counts"]))
    made = sorted((File(**{k: row[k] for k in ("path", "size_bytes", "sha256", "rows")}) for row in written),
                  key=lambda file: file.sha256)
    facts = {"wave": wave, "inputs": rows.num_rows, "counts": dict(sorted(totals.items()))}
    if not commit(store, _manifest_name(wave), made, **facts):
        logger.warning("wave %d was committed by another driver; this attempt is void", wave)


def _check_books(wave: int, rows: pa.Table, written: list[dict[str, Any]]) -> None:
    """Refuse to commit a wave that lost or doubled an input, whatever the cause."""
    got = sum(row["inputs"] for row in written)
    keys_sum = sum(int(row["keys_sum"]) for row in written) % KEY_SPACE
    if got != rows.num_rows or keys_sum != _keys_sum(rows["key"]):
        raise RuntimeError(f"wave {wave}: {rows.num_rows} inputs went in and {got} came out; nothing was committed")


class _Sink:
    """Writes each block as one file of the attempt and passes on only what the manifest needs to know of it."""

    def __init__(self, store: Store, attempt: str) -> None:
        self.store, self.attempt = store, attempt
        self.__name__ = "Write"

    def __call__(self, table: pa.Table) -> pa.Table:
        if table.num_rows == 0:
            return _FILE.empty_table()
        # A retried Ray task writes another file; only the file whose row arrives is ever committed.
        file = write_parquet(self.store, f"{self.attempt}/{secrets.token_hex(8)}.parquet", table, row_group_rows=256)
        own = table.filter(pc.equal(table["key"], table["input_key"]))
        tally = {"/".join(key): n for key, n in counts(table).items()}
        row = asdict(file) | {"counts": json.dumps(tally), "inputs": own.num_rows, "keys_sum": str(_keys_sum(own["key"]))}
        return pa.Table.from_pylist([row], schema=_FILE)


def _keys_sum(keys: pa.ChunkedArray) -> int:
    """A digest of a multiset of keys that does not depend on their order."""
    return sum(int(key, 16) for key in keys.to_pylist()) % KEY_SPACE


def _manifest_name(wave: int) -> str:
    return f"waves/{wave:05d}.json"


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found
