"""What it costs a driver to find a finished run of many inputs finished.

The run is fabricated: it has every manifest of a real one, and zeros where its rows would be, in sparse files that take
no room on the disk.
"""

import functools
import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.bench.report import Bench, Line
from pipeline.chaos import example
from pipeline.curate import decide, plan, waves
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import ExportManifest, Ledger, VerdictManifest, WaveManifest
from pipeline.curate.run import Curation
from pipeline.records import CARD, EXPORT, INPUT, LEDGER, VERDICT, verdicts_name, wave_name
from pipeline.storage import File, Store, write_parquet

_WAVE_ROWS = 2048
_PARTS = 32  # of a wave, in splits of 64 inputs
_SCORES_BYTES, _PAYLOAD_BYTES = 16 << 10, 1 << 20  # of a part, as 64 clips of speech have them

# Not getrusage: a child begins with the peak of the process that forked it.
_DRIVER = """
import sys, time
began_s = time.monotonic()
from pipeline.chaos import example
from pipeline.curate import audit
from pipeline.storage import Store
folder, inputs, wave_rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
assert audit.is_done(Store(folder), example.curation(inputs, wave_rows=wave_rows))
peak_kb = open("/proc/self/status").read().split("VmHWM:")[1].split()[0]
print(time.monotonic() - began_s, int(peak_kb) / 1024)
"""


@dataclass(frozen=True, kw_only=True)
class Resume(Bench):
    """A command that is given again when its run is finished."""

    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """Numbers of inputs."""


def measure(config: Resume) -> Iterator[Line]:
    """Seconds and peak memory of the driver, a process of its own, for each size."""
    for inputs in config.sizes:
        with tempfile.TemporaryDirectory() as folder:
            finished_run(Store(folder), example.curation(inputs, wave_rows=_WAVE_ROWS), inputs)
            # A process of its own: its memory is then that of the resume, and of nothing before.
            driver = [sys.executable, "-c", _DRIVER, folder, str(inputs), str(_WAVE_ROWS)]
            said = subprocess.run(driver, capture_output=True, text=True, check=True).stdout
            seconds, peak_mb = map(float, said.split())
            number = len(waves.committed(Journal(Store(folder))))
        yield {"inputs": inputs, "waves": number, "resume_s": round(seconds, 2), "peak_mb": round(peak_mb)}


def finished_run(store: Store, toy: Curation, inputs: int) -> None:
    """Write a finished run of so many inputs, without the work."""
    keys = pa.array([f"{i:032x}" for i in range(inputs)])
    columns = {field.name: pa.nulls(inputs, field.type) for field in INPUT}
    columns["key"] = keys
    columns["order"] = pa.array(range(inputs))
    columns["url"] = pa.array([f"https://example.org/{i}" for i in range(inputs)])
    journal = Journal(store)
    table = waves.write_inputs(journal, pa.table(columns, schema=INPUT))
    plan.bind(journal, toy.fingerprint(plan.keys_digest(table["key"])))
    for number, wave in enumerate(plan.pin(journal, table["key"], np.ones(inputs), toy.waves.wave_rows)):
        journal.create(wave_name(0, number), _wave(store, number, wave.rows))
    _write_books(journal, toy)


def _wave(store: Store, number: int, inputs: int) -> WaveManifest:
    kinds = {"scores": _SCORES_BYTES, "payload": _PAYLOAD_BYTES}
    files = [
        _zeros(store, f"rows/000-{number:06d}-0/{part:016x}.{kind}.parquet", size_bytes)
        for part in range(_PARTS)
        for kind, size_bytes in kinds.items()
    ]
    return WaveManifest(files=tuple(files), round=0, wave=number, inputs=inputs, counts={"episode/scored/": inputs})


def _write_books(journal: Journal, toy: Curation) -> None:
    name = decide.name_of(journal, toy.rules)
    verdicts = write_parquet(journal.store, f"verdicts/{name}-{{sha256}}.parquet", VERDICT.empty_table())
    journal.create(verdicts_name(name), VerdictManifest(files=(verdicts,), rules=decide.described(toy.rules)))
    exported = ExportManifest(
        made_from=toy.selection(name),
        rows=0,
        keys_sha256="",
        files=(),
        webdataset=(),
        shards=(),
        index=journal.store.write("export/_index-000000000000.arrow", b""),
        card=journal.store.write(CARD, b""),
    )
    journal.replace(EXPORT, exported)
    export_sha256 = hashlib.sha256(journal.store.read(EXPORT)).hexdigest()
    ledger = Ledger(verdicts=name, unit=toy.unit, exported_rows=0, steps={}, export_sha256=export_sha256)
    journal.replace(LEDGER, ledger)


def _zeros(store: Store, name: str, size_bytes: int) -> File:
    path = Path(store.path(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        # Holes take no disk: the files of 10^6 inputs say that they have 16 GB.
        file.truncate(size_bytes)
    return File(path=name, size_bytes=size_bytes, sha256=_zeros_sha256(size_bytes), rows=64)


@functools.cache
def _zeros_sha256(size_bytes: int) -> str:
    return hashlib.sha256(bytes(size_bytes)).hexdigest()
