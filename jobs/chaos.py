"""Harm a curation at every one of its storage requests, resume it, and certify that nothing was lost or doubled.

    python -m jobs.chaos                                        # the built-in example, S3 on loopback, the driver killed
    python -m jobs.chaos --storage disk
    python -m jobs.chaos --faults drop 503 worker raylet pause --every 4
    python -m jobs.chaos --command "python -m jobs.curate_images my.toml --run-dir {run_dir}"
    python -m jobs.chaos --baseline                             # the same work on Ray Data's own job checkpoint
"""
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobs._main import run
from jobs._ray import RayConfig, ray_session
from pipeline.curate.chaos import example, verify
from pipeline.curate.chaos.matrix import Fault, Point, as_json, certificate, harness, point, reference
from pipeline.log import Progress, logger
from pipeline.storage import Store, write_json


@dataclass(frozen=True, kw_only=True)
class Chaos:
    """Enumerate the crash points of a curation."""

    command: str | None = None
    """What to run, with {run_dir} for the folder of the run; the built-in example by default. Keep it small."""
    storage: Literal["s3", "disk"] = "s3"
    """Where runs live: an S3 server behind a fault proxy, or a folder of this machine (there, only `kill`)."""
    endpoint: str | None = None
    """An S3 endpoint to stand behind the proxy, with AWS_* set and a bucket named `chaos`; one in memory by default."""
    faults: tuple[Fault, ...] = ("kill",)
    """What to do at a request: kill the driver before or after it is carried out, drop its answer, answer 503, reset the
    connection, kill a worker, kill a raylet, or stop a raylet until it is declared dead and then let it go on."""
    every: int = 1
    """Harm every so manyth request."""
    at: tuple[int, ...] = ()
    """Harm these requests instead, counted from 1."""
    baseline: bool = False
    """Try the example on Ray Data's CheckpointConfig instead."""
    out: str | None = None
    """Folder for certificate.md and certificate.json, any fsspec URL."""
    example_run: str | None = None
    """Run the example itself, once, into this folder; what the enumerator calls."""
    pause_s: float = 0.0
    """Seconds that the example works on each input."""
    cpus: int | None = None
    """CPUs of the Ray that the example starts."""
    verbose: bool = False

    def __post_init__(self) -> None:
        if self.every < 1 or min(self.at, default=1) < 1:
            raise ValueError(f"--every is {self.every} and --at is {self.at}; use numbers of 1 or more")


def main(config: Chaos) -> None:
    """Enumerate; status 1 if a row was lost or doubled, a byte differs, or a run did not end."""
    if config.example_run is not None:
        _run_example(config, Store(config.example_run))
        return
    if config.storage == "disk" and set(config.faults) != {"kill"}:
        raise ValueError(f"on a disk the only fault is kill, not {', '.join(config.faults)}; use --storage s3")
    own = f"{sys.executable} -m jobs.chaos --example-run {{run_dir}} --pause-s {config.pause_s}" + " --baseline" * config.baseline
    examine = verify.examine_baseline if config.baseline else verify.examine
    points: list[Point] = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch, harness(
            config.command or own, examine, Path(scratch), storage=config.storage, endpoint=config.endpoint) as made:
        wanted, requests = reference(made)
        if max(config.at, default=0) > requests:
            raise ValueError(f"--at names request {max(config.at)}, and a run makes {requests}; use a smaller number")
        todo = [(fault, at) for fault in config.faults for at in config.at or range(1, requests + 1, config.every)]
        with Progress("chaos", len(todo), "crash points") as progress:
            for fault, at in todo:
                points.append(point(made, wanted, fault, at))
                bad = sum(p.lost + p.duplicated for p in points)
                progress.advance(note=f"{bad} rows lost or doubled")
    print(certificate(points, requests))
    if config.out:
        write_json(Store(config.out), "certificate.json", as_json(points, requests))
        Store(config.out).write("certificate.md", (certificate(points, requests) + "\n").encode())
    if any(p.lost or p.duplicated or not p.same_bytes or not p.finished for p in points):
        raise SystemExit(1)


def _run_example(config: Chaos, store: Store) -> None:
    toy = example.curation(pause_s=config.pause_s)
    if not config.baseline and toy.is_finished(store):
        logger.info("chaos: nothing left to do")
        return
    with ray_session(RayConfig(cpus=config.cpus), verbose=config.verbose):
        if config.baseline:
            example.run_baseline(store)
        else:
            toy.run(store)


if __name__ == "__main__":
    run(Chaos, main)
