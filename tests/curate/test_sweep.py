"""What a sweep deletes and, above all, what it does not: what is named, what may still be committed, what is not
ours."""

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.curate import sweep
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import (
    ExportConfig,
    ExportManifest,
    PlanManifest,
    PlannedWave,
    Selection,
    VerdictManifest,
    WaveManifest,
)
from pipeline.manifest import Manifest
from pipeline.records import EXPORT, INPUTS, LEDGER
from pipeline.storage import File, Store, write_parquet
from tests.curate.finished import ledger
from tests.jobs.toy_job import Toy, as_job, job

ROWS = pa.table({"key": ["a"]})


def committed(store: Store) -> list[str]:
    """A run in the form that a curation leaves it, of two planned waves of which one is committed; returns its
    names."""
    journal = Journal(store)
    journal.create(INPUTS, Manifest(files=(write_parquet(store, "inputs/{sha256}.parquet", ROWS),)))
    planned = PlannedWave(rows=1, cost=1.0, keys_sha256="")
    journal.create("plan.json", PlanManifest(files=(), waves=(planned, planned)))
    pair = [
        write_parquet(store, f"rows/000-000000-aaaaaaaaaaaa/0123456789abcdef.{kind}.parquet", ROWS)
        for kind in ("scores", "payload")
    ]
    journal.create("waves/000-000000.json", WaveManifest(files=tuple(pair), round=0, wave=0, inputs=1, counts={}))
    verdicts = write_parquet(store, "verdicts/0123456789ab-{sha256}.parquet", ROWS)
    journal.create("verdicts/0123456789ab.json", VerdictManifest(files=(verdicts,), rules=()))
    export(store, [write_parquet(store, "export/data/shard-00000-{sha256}.parquet", ROWS)])
    return store.list()


def export(store: Store, files: list[File]) -> None:
    manifest = ExportManifest(
        made_from=Selection(verdicts="0123456789ab", unit="clip", columns=("key",), as_=ExportConfig()),
        rows=1,
        keys_sha256="",
        files=tuple(files),
        webdataset=(),
        shards=(),
        index=files[0],
        card=files[0],
    )
    Journal(store).replace(EXPORT, manifest)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "run"))


PART = "0123456789abcdef"
SURPLUS = [
    f"rows/000-000000-bbbbbbbbbbbb/{PART}.scores.parquet",
    f"rows/000-000000-bbbbbbbbbbbb/{PART}.payload.parquet",
    "rows/000-000000-aaaaaaaaaaaa/ffffffffffffffff.scores.parquet",
    "rows/000-000000-aaaaaaaaaaaa/purged-0123456789ab.payload.parquet",
    "inputs/0123456789ab.parquet",
    "verdicts/0123456789ab-0123456789ab.parquet",
    "verdicts/ba9876543210-0123456789ab.parquet",
    "export/data/shard-00007-0123456789ab.parquet",
    "export/webdataset/shard-00000-0123456789ab.tar",
    "export/_index-0123456789ab.arrow",
    ".probe-0badcafe",
]
UNFINISHED = [
    "waves/000-000000.json.tmp-0123456789ab",
    "ledger.json.tmp-0123456789ab",
    "config.json.tmp-abc",
    "x.tmp-abc",
    f"rows/000-000000-bbbbbbbbbbbb/{PART}.scores.parquet.tmp-0123456789ab",
    f"rows/000-000001-bbbbbbbbbbbb/{PART}.scores.parquet.tmp-0123456789ab",
    "export/data/shard-00007-0123456789ab.parquet.tmp-0123456789ab",
    "quarantine/abc.parquet.tmp-0123456789ab",
    "revocations/000000.json.tmp-0123456789ab",
    "inputs/0123456789ab.parquet.tmp-0123456789ab",
]
KEPT = [
    # Whoever works on this wave may still commit it.
    f"rows/000-000001-cccccccccccc/{PART}.scores.parquet",
    f"rows/000-000001-cccccccccccc/{PART}.payload.parquet",
    f"rows/001-000000-cccccccccccc/{PART}.scores.parquet",
    # Drivers that do not hold the run write these: it may be one that lives.
    "lease/000001.json.tmp-0123456789ab",
    ".probe-0badcafe.tmp-0123456789ab",
    # Records, which name no files.
    "revocations/000000.json",
    "fingerprints/000.json",
    "lease/000001.json",
    "quarantine/0123456789ab.parquet",
    "config.json",
]
STRANGE = [
    ".nfs0000001",
    "notes.txt",
    "000001.json~",
    "x.parquet",
    "000.json.bak",
    "shard-00000-0123456789ab.parquet.old",
    "ünï 日本",
    "shard-0-XYZ.parquet",
    "0123456789ab.parquet.gz",
    ".DS_Store",
    "000-000000.jsonl",
    "a.tmp-notes",
    "b.tmp-",
    "tmp-abc",
    "0123456789ab.scores.parquet",
    "shard-00000-0123456789ab.tar.gz",
    "README.md",
    "[1]",
    "*",
    "line\nend.parquet",
]
FOLDERS = [
    "",
    "inputs/",
    "plans/",
    "waves/",
    "rows/",
    "rows/000-000000-aaaaaaaaaaaa/",
    "rows/notes/",
    "verdicts/",
    "export/",
    "export/data/",
    "export/webdataset/",
    "export/data/deeper/",
    "fingerprints/",
    "revocations/",
    "lease/",
    "quarantine/",
    "nobody/",
]


def test_what_no_manifest_names_goes_and_nothing_else(store: Store) -> None:
    named = committed(store)
    before = {name: store.read(name) for name in named}
    strange = [folder + name for folder, name in itertools.product(FOLDERS, STRANGE) if folder + name not in named]
    for name in [*SURPLUS, *UNFINISHED, *KEPT, *strange]:
        if name not in named:
            store.write(name, name.encode())
    gone = sweep.sweep(Journal(store))
    ours = "rows/000-000000-aaaaaaaaaaaa/0123456789ab.scores.parquet"  # of our form, and of a committed wave
    assert sorted(gone) == sorted([*SURPLUS, *UNFINISHED, ours])
    assert not any(Path(store.path(name)).exists() for name in gone)
    assert all(store.read(name) == before[name] for name in named)
    assert all(store.read(name) == name.encode() for name in [*KEPT, *strange] if name != ours)
    assert sweep.sweep(Journal(store)) == []


@pytest.mark.parametrize(
    ("manifest", "keeps"),
    [
        ("inputs.json", "inputs/"),
        ("plan.json", "inputs/"),
        ("plan.json", "rows/"),
        ("plan.json", "export/"),
        ("waves/000-000000.json", "rows/"),
        (EXPORT, "export/"),
    ],
)
@pytest.mark.parametrize("harm", ["deleted", "emptied"])
def test_what_a_manifest_may_name_that_cannot_be_read_stays(store: Store, manifest: str, keeps: str, harm: str) -> None:
    named = committed(store)
    Journal(store).replace(LEDGER, ledger("0123456789ab"))
    if harm == "deleted":
        store.delete(manifest)
    else:
        store.write(manifest, b"")
    assert [name for name in sweep.sweep(Journal(store)) if name.startswith(keeps)] == []
    assert [name for name in named if not store.exists(name)] == ([manifest] if harm == "deleted" else [])


def test_a_run_that_was_cut_short_loses_nothing_that_it_needs(store: Store) -> None:
    """Before the ledger, what is not there is not made yet; a crash before a manifest leaves files that are in nobody's
    way."""
    write_parquet(store, "inputs/{sha256}.parquet", ROWS)
    assert len(sweep.sweep(Journal(store))) == 1
    committed(store)
    store.delete(EXPORT)
    store.delete("verdicts/0123456789ab.json")
    assert sorted(name.split("/")[0] for name in sweep.sweep(Journal(store))) == ["export", "verdicts"]
    assert sweep.named(Journal(store)).damaged == {}


@pytest.fixture(scope="module")
def finished(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Toy]]:
    with as_job():
        folder = tmp_path_factory.mktemp("sweep")
        config = Toy(run_dir=f"{folder}/run", back=f"{folder}/back")
        store = Store(config.run_dir)
        assert job(store, config).status == 0
        yield store, config


@pytest.mark.slow
@pytest.mark.parametrize("without", ["waves/000-000001.json", "verdicts", "export/manifest.json", "export"])
def test_a_job_that_goes_on_sweeps_up_and_ends_as_it_would(
    finished: tuple[Store, Toy], tmp_path: Path, without: str
) -> None:
    shutil.copytree(finished[0].url, tmp_path / "run")
    store = Store(f"{tmp_path}/run")
    exported = {name: store.read(name) for name in store.list("export")}
    for name in (without, LEDGER):
        store.delete(name)
    left = "rows/000-000001-bbbbbbbbbbbb/0123456789abcdef.scores.parquet"
    notes = [
        f"{folder}notes.txt" for folder in FOLDERS if not folder.startswith("export/data/")
    ]  # there readers take all
    for name in [*UNFINISHED, left, *notes]:
        store.write(name, name.encode())
    assert job(store, finished[1]).status == 0
    assert {name: store.read(name) for name in store.list("export") if not name.endswith("notes.txt")} == exported
    assert not store.exists(left) and not any(Path(store.path(name)).exists() for name in UNFINISHED)
    assert all(map(store.exists, notes))
