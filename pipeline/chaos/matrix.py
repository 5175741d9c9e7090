"""The crash-point enumerator: a run is repeated once for each of its storage requests, harmed there, resumed, compared.

A run is a command with `{run_dir}` in it. An uninterrupted run says how many storage requests there are and what must
be there in the end; then, for each fault and each request, a fresh run is harmed at that request, the same command is
given again until it succeeds, and every row, verdict and exported byte is compared. What a command does to a run that
is there already is tried on copies of that run. Requests are seen by a proxy (S3) or by audit events (a local disk).
"""

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal

from pipeline.chaos import disk
from pipeline.chaos.cluster import S3_KEYS, RayCluster, moto_server
from pipeline.chaos.proxy import FaultProxy, Harm, Rule
from pipeline.chaos.verify import Findings, compare
from pipeline.storage import Store

Fault = Literal["kill", "kill_after", "drop", "503", "reset", "worker", "raylet", "pause"]
_BUCKET = "chaos"
# The example takes some 10 s on two cores; what hangs is killed, and counts as not finished.
_RUN_LIMIT_S = 240.0
# A fault strikes once, so one is enough; more only tell apart what is slow from what is lost.
_RESUMES = 4


@dataclass(frozen=True, kw_only=True)
class Point:
    """What came of harm at one request."""

    fault: str
    at: int
    lost: int
    duplicated: int
    same_bytes: bool
    orphan_bytes: int
    resumes: int
    """How often the command had to be given again."""
    first_row_s: float | None
    """From the last resume to its first new file of rows; None if there was none to make."""
    finished: bool

    @property
    def is_whole(self) -> bool:
        """True if the run ended as the unharmed one did, with nothing left behind."""
        return self.finished and self.same_bytes and not (self.lost or self.duplicated or self.orphan_bytes)


@dataclass
class Harness:
    """Runs a command against storage that can do harm; made by `harness`."""

    command: str
    examine: Callable[[Store], Findings]
    scratch: Path
    proxy: FaultProxy | None
    cluster: RayCluster
    environment: dict[str, str]
    base: Store | None = None
    """What each run starts as a copy of."""
    runs: int = 0

    def fresh(self) -> Store:
        """A new place for a run: empty, or a copy of the base."""
        self.runs += 1
        store = Store(f"s3://{_BUCKET}/run{self.runs:04d}" if self.proxy else str(self.scratch / f"run{self.runs:04d}"))
        if self.proxy:
            self.proxy.arm()  # no harm to the copying
        for name, data in self.base.read_many(self.base.list()).items() if self.base else ():
            store.write(name, data)
        return store

    def log(self, store: Store) -> Path:
        """Where the commands that ran in this place print."""
        return self.scratch / f"{store.url.rpartition('/')[2]}.log"

    def run(
        self, store: Store, fault: Fault | None = None, at: int = 0, *, command: str | None = None
    ) -> tuple[int, int]:
        """Run the command once, or another one; its exit status, and the number of storage requests."""
        holder: list[int] = []

        def kill() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(holder[0], signal.SIGKILL)

        self._arm(store, fault, at, kill)
        words = [word.replace("{run_dir}", store.url) for word in shlex.split(command or self.command)]
        with self.log(store).open("ab") as out:
            # The command waits for its number to be written down: it must not outrun its own death.
            process = subprocess.Popen(
                ["/bin/sh", "-c", 'read _; exec "$@"', "sh", *words],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
                env=os.environ | self.environment,
                start_new_session=True,
            )
            holder.append(process.pid)
            self._pid_file.write_text(str(process.pid))
            assert process.stdin is not None
            process.stdin.write(b"\n")
            process.stdin.close()
            end = time.monotonic() + _RUN_LIMIT_S
            while (status := process.poll()) is None:
                # Here, on the main thread, where Ray may set its handlers.
                self.cluster.heal()
                if time.monotonic() > end:
                    kill()
                time.sleep(0.02)
        return status, len(self.proxy.seen) if self.proxy else disk.count(self._counter)

    def _arm(self, store: Store, fault: Fault | None, at: int, kill: Callable[[], None]) -> None:
        """Count from 0 on, and do the harm at request `at`."""
        calls = {"worker": self.cluster.kill_worker, "raylet": self.cluster.kill_node, "pause": self.cluster.stop_node}
        if self.proxy:
            action: Harm = "none"
            if fault == "worker" or fault == "raylet" or fault == "pause":
                action = "call"
            elif fault is not None:
                action = fault
            self.proxy.arm(Rule(harm=action, at=at, callback=calls.get(fault or "", kill)))
        else:
            disk.watch(self._counter, Path(store.url), at if fault else 0, self._pid_file)

    @property
    def _pid_file(self) -> Path:
        return self.scratch / "driver"

    @property
    def _counter(self) -> Path:
        return self.scratch / "counter"

    def first_row_s(self, store: Store, started: float, started_wall: float) -> float | None:
        """Seconds from `started` to the first new file of rows."""
        if self.proxy:
            # A request is seen as it comes; a file is dated when it is closed, and those of dead attempts are older.
            times = [seen.at_s - started for seen in self.proxy.seen if seen.method == "PUT" and "/rows/" in seen.path]
        else:
            paths = [os.path.join(store.url, name) for name in store.list("rows")]
            times = [t for path in paths if (t := os.stat(path).st_mtime - started_wall) >= 0]
        return round(min(times), 2) if times else None


@contextlib.contextmanager
def harness(
    command: str,
    examine: Callable[[Store], Findings],
    scratch: Path,
    *,
    storage: Literal["s3", "disk"],
    endpoint: str | None = None,
) -> Iterator[Harness]:
    """Everything that a matrix needs, for as long as the block lasts."""
    with contextlib.ExitStack() as stack:
        environment: dict[str, str] = {}
        proxy = None
        if storage == "s3":
            upstream = endpoint or stack.enter_context(moto_server())
            proxy = stack.enter_context(FaultProxy(upstream))
            environment |= {"AWS_ENDPOINT_URL": proxy.url}
            if endpoint is None:
                environment |= S3_KEYS
        else:
            environment |= disk.prepare(scratch)
            disk.watch(scratch / "counter", scratch / "nothing", 0, scratch / "driver")
        os.environ.update(environment)  # Ray's workers take theirs from here
        if proxy:
            _make_bucket()
        cluster = RayCluster()
        stack.callback(cluster.close)
        # For the commands alone: the cluster itself must not connect to one.
        environment["RAY_ADDRESS"] = cluster.address
        yield Harness(
            command=command, examine=examine, scratch=scratch, proxy=proxy, cluster=cluster, environment=environment
        )


def begin(rig: Harness, commands: Sequence[str]) -> None:
    """Run these commands unharmed, once: every run from now on starts as a copy of what they leave."""
    if commands:
        base = rig.fresh()
        for command in commands:
            _unharmed(rig, base, command)
        rig.base = base


def reference(rig: Harness) -> tuple[Findings, int]:
    """What an uninterrupted run leaves, and how many storage requests it makes."""
    store = rig.fresh()
    requests = _unharmed(rig, store)
    return rig.examine(store), requests


def _unharmed(rig: Harness, store: Store, command: str | None = None) -> int:
    status, requests = rig.run(store, command=command)
    if status != 0:
        log = rig.log(store).read_text(errors="replace")
        raise ValueError(f"a command fails without any harm done to it (status {status}): {log[-600:]}")
    return requests


def harm(rig: Harness, unharmed: Findings, fault: Fault, at: int) -> Point:
    """Harm a fresh run at one request, resume it, compare."""
    store = rig.fresh()
    status, _ = rig.run(store, fault, at)
    resumes, first = 0, None
    # As a user would: the very same command again.
    while status != 0 and resumes < _RESUMES:
        started, wall = time.monotonic(), time.time()
        status, _ = rig.run(store)
        resumes += 1
        first = rig.first_row_s(store, started, wall)
    if rig.proxy:
        # Reading back is not to be harmed.
        rig.proxy.arm()
    # A run that did not end has lost everything: nothing of it counts as saved.
    findings = rig.examine(store) if status == 0 else replace(unharmed, rows=Counter(), exported=())
    lost, duplicated = compare(findings, unharmed)
    return Point(
        fault=fault,
        at=at,
        lost=lost,
        duplicated=duplicated,
        same_bytes=findings.exported == unharmed.exported,
        orphan_bytes=findings.orphan_bytes,
        resumes=resumes,
        first_row_s=first,
        finished=status == 0,
    )


def certificate(points: Sequence[Point], requests: int) -> str:
    """A table, one line a fault."""
    head = (
        "fault",
        "crash points",
        "resumed to the end",
        "rows lost",
        "rows duplicated",
        "exports equal",
        "orphan bytes (most)",
        "first new row (median)",
    )
    lines = [
        f"{requests} storage requests in an uninterrupted run",
        "",
        f"| {' | '.join(head)} |",
        "|---" * len(head) + "|",
    ]
    for fault in dict.fromkeys(point.fault for point in points):
        harmed = [point for point in points if point.fault == fault]
        times_s = [point.first_row_s for point in harmed if point.first_row_s is not None]
        cells = (
            fault,
            len(harmed),
            sum(point.finished for point in harmed),
            sum(point.lost for point in harmed),
            sum(point.duplicated for point in harmed),
            sum(point.same_bytes for point in harmed),
            max(point.orphan_bytes for point in harmed),
            f"{median(times_s):.1f} s" if times_s else "-",
        )
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def as_json(points: Sequence[Point], requests: int) -> dict[str, object]:
    """The certificate for machines."""
    return {"requests": requests, "points": [asdict(point) for point in points]}


def _make_bucket() -> None:
    import s3fs

    fs = s3fs.S3FileSystem(skip_instance_cache=True)
    if not fs.exists(_BUCKET):
        fs.mkdir(_BUCKET)
