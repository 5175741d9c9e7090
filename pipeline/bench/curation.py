"""Figures for a curation's promises: the price of waves, of a resume, of flaky or full storage, of a second driver."""

import contextlib
import functools
import hashlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.chaos import example
from pipeline.chaos.cluster import moto_server
from pipeline.chaos.proxy import FaultProxy, Rule
from pipeline.chaos.verify import Findings, compare, examine
from pipeline.curate import decide, plan, waves
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import ExportManifest, Ledger, VerdictManifest, WaveManifest
from pipeline.curate.run import Curation
from pipeline.curate.through import through
from pipeline.curate.work import start
from pipeline.records import CARD, CLIP, EXPORT, INPUT, LEDGER, VERDICT, key_of, verdicts_name, wave_name
from pipeline.storage import File, Store, write_parquet


def overhead(wave_s: float, rounds: int, cpus: int) -> Iterator[dict[str, Any]]:
    """The same work as waves and as one plain Ray Data pass, in turn: seconds of each. Needs Ray with `cpus` CPUs."""
    import ray

    pause_s, splits = 0.25, 4
    wave_rows = max(splits * cpus, round(wave_s * cpus / pause_s))
    config = waves.WaveConfig(wave_rows=wave_rows, split_rows=-(-wave_rows // (splits * cpus)))
    rows = _started(2 * wave_rows)

    def dag(dataset: Any) -> Any:
        return through(dataset, example.Cut(pause_s=pause_s), schema=CLIP)

    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            waves.run(Journal(Store(f"{folder}/waves")), rows, waves.Step(name="waves", dag=dag, config=config))
            between = time.monotonic()
            parts = [
                rows.slice(i, config.split_rows).combine_chunks() for i in range(0, rows.num_rows, config.split_rows)
            ]
            dag(ray.data.from_arrow(parts)).write_parquet(f"{folder}/plain")
            ended = time.monotonic()
        yield {
            "round": number,
            "waves_s": round(between - began, 2),
            "plain_s": round(ended - between, 2),
            "overhead": round((between - began) / (ended - between) - 1, 4),
        }


def resume(sizes: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """Seconds and peak memory of a driver that finds a finished run of so many inputs finished."""
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            finished_run(Store(folder), example.curation(size, wave_rows=2048), size)
            code = (
                "import time; began = time.monotonic()\n"
                "from pipeline.curate import audit\nfrom pipeline.chaos import example\n"
                "from pipeline.storage import Store\n"
                f"assert audit.is_done(Store({folder!r}), example.curation({size}, wave_rows=2048))\n"
                # Not getrusage: a child begins with the peak of the process that forked it.
                "print(time.monotonic() - began, "
                "int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) / 1024)"
            )
            out = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, check=True
            ).stdout.split()
            yield {
                "inputs": size,
                "waves": len(waves.committed(Journal(Store(folder)))),
                "resume_s": round(float(out[0]), 2),
                "peak_mb": round(float(out[1])),
            }


def finished_run(store: Store, toy: Curation, size: int) -> None:
    """A finished run of `size` inputs without the work: every manifest, scores of 16 kB and media of 1 MiB of zeros a
    part."""
    keys = pa.array([f"{i:032x}" for i in range(size)])
    blank = {field.name: pa.nulls(size, field.type) for field in INPUT}
    blank |= {
        "key": keys,
        "order": pa.array(range(size)),
        "url": pa.array([f"https://example.org/{i}" for i in range(size)]),
    }
    journal = Journal(store)
    inputs = waves.write_inputs(journal, pa.table(blank, schema=INPUT))
    plan.bind(journal, toy.fingerprint(plan.keys_digest(inputs["key"])))
    for number, wave in enumerate(plan.pin(journal, inputs["key"], np.ones(size), toy.waves.wave_rows)):
        journal.create(wave_name(0, number), _wave(store, number, wave.rows))
    name = decide.name_of(journal, toy.rules)
    verdicts = write_parquet(store, f"verdicts/{name}-{{sha256}}.parquet", VERDICT.empty_table())
    journal.create(verdicts_name(name), VerdictManifest(files=(verdicts,), rules=decide.described(toy.rules)))
    exported = ExportManifest(
        made_from=toy.selection(name),
        rows=0,
        keys_sha256="",
        files=(),
        webdataset=(),
        shards=(),
        index=store.write("export/_index-000000000000.arrow", b""),
        card=store.write(CARD, b""),
    )
    journal.replace(EXPORT, exported)
    export_sha256 = hashlib.sha256(store.read(EXPORT)).hexdigest()
    ledger = Ledger(verdicts=name, unit=toy.unit, exported_rows=0, steps={}, export_sha256=export_sha256)
    journal.replace(LEDGER, ledger)


def _wave(store: Store, number: int, inputs: int) -> WaveManifest:
    files = [
        _zeros(store, f"rows/000-{number:06d}-0/{i:016x}.{kind}.parquet", size_bytes)
        for i in range(32)
        for kind, size_bytes in (("scores", 16 << 10), ("payload", 1 << 20))
    ]
    return WaveManifest(files=tuple(files), round=0, wave=number, inputs=inputs, counts={"episode/scored/": inputs})


def _zeros(store: Store, name: str, size_bytes: int) -> File:
    """A file of zeros that takes no room on the disk."""
    path = Path(store.path(name))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size_bytes)
    return File(path=name, size_bytes=size_bytes, sha256=_zeros_sha256(size_bytes), rows=64)


@functools.cache
def _zeros_sha256(size_bytes: int) -> str:
    return hashlib.sha256(bytes(size_bytes)).hexdigest()


def flaky(rates: tuple[float, ...], rounds: int, command: str) -> Iterator[dict[str, Any]]:
    """A run on S3 of which a share of all requests is answered 503 or reset: does it end, and how much slower?"""
    with moto_server() as upstream, FaultProxy(upstream) as proxy:
        aws = {
            "AWS_ENDPOINT_URL": proxy.url,
            "AWS_ACCESS_KEY_ID": "chaos",
            "AWS_SECRET_ACCESS_KEY": "chaos",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        os.environ.update(aws)
        import s3fs

        s3fs.S3FileSystem(skip_instance_cache=True).mkdir("flaky")
        wanted: Findings | None = None
        base = 0.0
        for rate in (0.0, *rates):
            times, harmed, requests, again = [], 0, 0, 0
            for number in range(rounds):
                url = f"s3://flaky/{rate}-{number}"
                proxy.arm(Rule(rate=rate, seed=number))
                began = time.monotonic()
                while _run(command, url, aws).returncode != 0 and again < 20:
                    again += 1
                times.append(time.monotonic() - began)
                harmed, requests = harmed + proxy.harmed, requests + len(proxy.seen)
                proxy.arm()
                found = examine(Store(url))
                wanted = wanted or found
                lost, doubled, equal = *compare(found, wanted), found.exported == wanted.exported
            base = base or median(times)
            yield {
                "rate": rate,
                "runs": rounds,
                "requests": requests,
                "harmed": harmed,
                "started_again": again,
                "rows_lost": lost,
                "rows_duplicated": doubled,
                "exports_equal": equal,
                "median_s": round(median(times), 1),
                "slowdown": round(median(times) / base, 2),
            }


def disk_full(command: str, size_mb: int = 1) -> dict[str, Any]:
    """A run on a file system that fills up: its error, and whether it completes once there is room. Needs root."""
    with tempfile.TemporaryDirectory() as folder:
        reference, small = f"{folder}/reference", f"{folder}/small"
        os.mkdir(small)
        first = _run(command, reference, {})
        if first.returncode:
            raise ValueError(f"the command fails on a healthy disk: {first.stderr[-500:]}")
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,nr_inodes=0", "chaos", small]
        mounted = subprocess.run(mount, capture_output=True, text=True)
        if mounted.returncode:
            raise ValueError(f"cannot mount a tmpfs ({mounted.stderr.strip()}); this trial needs root")
        try:
            filler = Path(small, "filler")
            room = os.statvfs(small)
            filler.write_bytes(b"\0" * (room.f_bavail * room.f_bsize - 48 * 1024))  # room to begin, not to end
            full = _run(command, f"{small}/run", {})
            visible = len(waves.committed(Journal(Store(f"{small}/run"))))
            filler.unlink()
            after = _run(command, f"{small}/run", {})
            same = (
                after.returncode == 0 and examine(Store(f"{small}/run")).exported == examine(Store(reference)).exported
            )
        finally:
            subprocess.run(["umount", small], check=False)
    return {
        "status_when_full": full.returncode,
        "error": _last_line(full.stderr),
        "waves_visible_when_full": visible,
        "status_with_room": after.returncode,
        "exports_equal": same,
    }


def workers(command: str, numbers: tuple[int, ...]) -> dict[str, Any]:
    """The sha256 of every exported file, for several numbers of workers ({cpus} in the command)."""
    with tempfile.TemporaryDirectory() as folder:
        exported = []
        for cpus in numbers:
            done = _run(command.replace("{cpus}", str(cpus)), f"{folder}/{cpus}", {"RAY_ADDRESS": ""})
            if done.returncode:
                raise ValueError(f"the command fails with {cpus} workers: {done.stderr[-500:]}")
            exported.append(examine(Store(f"{folder}/{cpus}")).exported)
    return {"workers": numbers, "files": len(exported[0]), "all_equal": len(set(exported)) == 1}


def two_drivers(command: str) -> dict[str, Any]:
    """Two drivers on one run: who is refused, in which words; and whether the killed holder is succeeded."""
    with tempfile.TemporaryDirectory() as folder:
        url = f"{folder}/run"
        first = subprocess.Popen(
            _words(command, url), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        with contextlib.suppress(StopIteration):
            next(_until(lambda: Store(url).list("lease"), 120))
        second = _run(command, url, {})
        held = first.poll() is None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        third = _run(command, url, {})
        again = _run(command, url, {})
        books = {}
        if third.returncode == 0:
            ledger = Journal(Store(url)).find(LEDGER, Ledger)
            books = {} if ledger is None else ledger.steps
    return {
        "first_still_held_it": held,
        "second_status": second.returncode,
        "second_said": _last_line(second.stderr),
        "names_the_holder": f"process {first.pid} on " in second.stderr,
        "after_sigkill_status": third.returncode,
        "books_balance": bool(books) and all(book.balances() for book in books.values()),
        "again_status": again.returncode,
    }


def _until(condition: Any, limit_s: float) -> Iterator[None]:
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if condition():
            yield
        time.sleep(0.05)


def _started(count: int) -> pa.Table:
    rows = [{"key": key_of(str(i)), "order": i, "url": f"https://example.org/{i}"} for i in range(count)]
    return start(pa.Table.from_pylist(rows, schema=INPUT), CLIP, unit="episode")


def _words(command: str, url: str) -> list[str]:
    return [word.replace("{run_dir}", url) for word in shlex.split(command)]


def _run(command: str, url: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _words(command, url), env=os.environ | environment, capture_output=True, text=True, timeout=300
    )


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
