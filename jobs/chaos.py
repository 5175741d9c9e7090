"""Harm a curation at every one of its storage requests, resume it, and certify that nothing was lost or doubled.

    python -m jobs.chaos                                # the built-in example, S3 on loopback, the driver killed
    python -m jobs.chaos --storage disk
    python -m jobs.chaos --faults drop 503 worker raylet pause --every 4
    python -m jobs.chaos --step retry                   # or decide, revoke: steps of the example's finished run
    python -m jobs.chaos --command "python -m jobs.curate_images my.toml --run-dir {run_dir}"
    python -m jobs.chaos --before "python -m jobs.curate_images my.toml --run-dir {run_dir}" \
        --command "python -m jobs.revoke {run_dir} --host example.org"
    python -m jobs.chaos --baseline                     # the same work on Ray Data's own job checkpoint
"""

import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jobs import _example
from jobs._main import run
from pipeline.chaos import example, verify
from pipeline.chaos.matrix import Fault, Harness, Point, as_json, begin, certificate, harm, harness, reference
from pipeline.log import Progress
from pipeline.ranges import check_range
from pipeline.storage import Store, write_json


@dataclass(frozen=True, kw_only=True)
class Chaos:
    """Enumerate the crash points of a curation."""

    command: str | None = None
    """What to run, with {run_dir} for the folder of the run; the built-in example by default. Keep it small."""
    before: tuple[str, ...] = ()
    """Commands that come before it, in this order and unharmed: once, and each harmed run starts as a copy of what they
    left."""
    step: example.Step = "run"
    """Of the built-in example: a whole run, one that half of the inputs are away from, or what is done to a finished
    run."""
    storage: Literal["s3", "disk"] = "s3"
    """Where runs live: an S3 server behind a fault proxy, or a folder of this machine (there, only `kill`)."""
    endpoint: str | None = None
    """An S3 endpoint to stand behind the proxy, with AWS_* set and a bucket named `chaos`; one in memory by default."""
    faults: tuple[Fault, ...] = ("kill",)
    """What to do at a request: kill the driver before or after it is carried out, drop its answer, answer 503, reset
    the connection, kill a worker, kill a raylet, or stop a raylet until it is declared dead and then let it go on."""
    every: int = 1
    """Harm one in so many requests."""
    at: tuple[int, ...] = ()
    """Harm these requests instead, counted from 1."""
    baseline: bool = False
    """Try the example on Ray Data's CheckpointConfig instead."""
    out: str | None = None
    """Folder for certificate.md and certificate.json, any fsspec URL."""
    verbose: bool = False
    """Show all that Ray says, and the whole of an error."""

    def __post_init__(self) -> None:
        check_range(self, "every", "at", low=1)
        if self.before and self.command is None:
            raise ValueError("before comes before a --command, and none is named; --step names a step of the example")
        if self.step != "run" and (self.command is not None or self.baseline):
            raise ValueError(f"step {self.step} is one of the example; leave it out beside --command or --baseline")


def main(config: Chaos) -> None:
    """Enumerate; status 1 if a row was lost or doubled, a byte differs or was left behind, or a run did not end."""
    # An audit event comes before the call, and cannot change its answer.
    if config.storage == "disk" and set(config.faults) != {"kill"}:
        raise ValueError(f"on a disk the only fault is kill, not {', '.join(config.faults)}; use --storage s3")
    examine = verify.examine_baseline if config.baseline else verify.examine
    with (
        tempfile.TemporaryDirectory(prefix="chaos-") as scratch,
        harness(
            config.command or _example.command(config.step, baseline=config.baseline),
            examine,
            Path(scratch),
            storage=config.storage,
            endpoint=config.endpoint,
        ) as rig,
    ):
        # Once: every run from here on starts as a copy of what these leave.
        begin(rig, config.before or _example.before(config.step))
        points, requests = _enumerate(config, rig)
    print(certificate(points, requests))
    if config.out:
        write_json(Store(config.out), "certificate.json", as_json(points, requests))
        Store(config.out).write("certificate.md", (certificate(points, requests) + "\n").encode())
    if not all(point.is_whole for point in points):
        raise SystemExit(1)


def _enumerate(config: Chaos, rig: Harness) -> tuple[list[Point], int]:
    unharmed, requests = reference(rig)
    if max(config.at, default=0) > requests:
        raise ValueError(f"--at names request {max(config.at)}, and a run makes {requests}; use a smaller number")
    points: list[Point] = []
    numbers = config.at or range(1, requests + 1, config.every)
    with Progress("chaos", len(config.faults) * len(numbers), "crash points") as progress:
        for fault, at in itertools.product(config.faults, numbers):
            points.append(harm(rig, unharmed, fault, at))
            torn = sum(not point.is_whole for point in points)
            progress.advance(note=f"{torn} not whole")
    return points, requests


if __name__ == "__main__":
    run(Chaos, main)
