"""What kills or hangs a process costs one row: stages work in a child process, and a death is traced to its row.

The child of a worker is kept from batch to batch, so the price in normal times is one copy of the rows each way. When
it dies or exceeds a limit, the row that was at hand (or, for a stage that takes whole batches, each half of the batch
in turn) is tried once more, alone, in a fresh child. A row that dies twice leaves as *failed*: `out_of_memory`,
`timeout` (retryable) or `worker_killed`; it is quarantined as `quarantine/KEY.parquet`, a bundle of the row, the stage
and its config, which `replay` runs again. Nothing in a bundle is unpickled.
"""

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, replace
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import from_json, to_json
from pipeline.curate import child
from pipeline.curate.stage import Batch, Leave, Row, Stage, left
from pipeline.curate.work import to_table
from pipeline.ranges import check_range
from pipeline.records import quarantine_name, without_secrets
from pipeline.redact import redacted_text
from pipeline.storage import CorruptFileError, Store, parquet_bytes

_PIPE_BYTES = 1 << 20
_META = b"triptych"
NAMES = r"[0-9a-f]+\.parquet"
"""What bundles are called, within the folder `quarantine`."""


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """Limits within which stages work."""

    timeout_s: float = 900.0
    """Wall-clock seconds for one row; a stage that takes whole batches has as many times that as the batch has rows."""
    memory_mb: int = 8192
    """Address space of the process that a stage works in, in MiB; stages on GPUs have no such limit."""

    def __post_init__(self) -> None:
        check_range(self, "timeout_s", above=0)
        check_range(self, "memory_mb", low=1024)  # the libraries alone need that


class Death(Exception):  # noqa: N818 - what became of a child, not an error of ours
    """A child died or was killed: `reason` as in the ledger, `begun` the first row that it had not done."""

    def __init__(self, reason: str, detail: str, begun: int) -> None:
        super().__init__(reason, detail, begun)
        self.reason, self.detail, self.begun = reason, detail, begun


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a child works on rows with: it is told once, and again when any of it changes."""

    stage: Stage
    schema: pa.Schema
    limits: GuardConfig
    gpus: float = 0.0
    """Those of the stage's resources, as the run has them: CUDA maps more than any limit of address space."""

    @property
    def memory_bytes(self) -> int:
        """Its limit of address space; 0 for none."""
        return 0 if self.gpus else self.limits.memory_mb << 20

    def limit_s(self, rows: int) -> float:
        """Seconds until a child has to say something of so many rows: a stage of batches begins them all at once."""
        return self.limits.timeout_s * (rows if isinstance(self.stage, Batch) else 1)


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Limits, and the run whose quarantine takes what breaks them."""

    limits: GuardConfig
    run_dir: str

    def run(self, stage: Stage, table: pa.Table, schema: pa.Schema, *, gpus: float = 0.0) -> pa.Table:
        """Run a stage, which has so many GPUs, over rows that have not left; what it makes of them has `schema`."""
        work = Work(stage=stage, schema=schema, limits=self.limits, gpus=gpus)
        with _LOCK:  # a worker has one child
            return pa.concat_tables(self._pieces(work, table))

    # ---- bisection: a death is traced to its row; all other rows are worked on as if it had not been there ----

    def _pieces(self, work: Work, table: pa.Table) -> list[pa.Table]:
        if table.num_rows == 0:
            return []
        try:
            return [_current().work(work, table, self.run_dir)]
        except Death as death:
            if table.num_rows == 1:
                return [self._alone(work, table)]
            if not isinstance(work.stage, Batch):
                # The child said which row it began; what it had done of those before it is lost with its answer.
                row = death.begun
                return [
                    *self._pieces(work, table.slice(0, row)),
                    self._alone(work, table.slice(row, 1)),
                    *self._pieces(work, table.slice(row + 1)),
                ]
        # Nobody can say which row of a batch it was: log2(rows) further deaths do.
        middle = table.num_rows // 2
        return self._pieces(work, table.slice(0, middle)) + self._pieces(work, table.slice(middle))

    # ---- two strikes: the first may have been the fault of a row before it, in the same process ----

    def _alone(self, work: Work, table: pa.Table) -> pa.Table:
        try:
            return _current().work(work, table, self.run_dir)
        except Death as death:
            leave = Leave("failed", death.reason, retryable=death.reason == "timeout", detail=death.detail)
            row = table.to_pylist()[0]
            _quarantine(Store(self.run_dir), work, table, leave)
            return to_table([left(row, leave)], work.schema)


class Child:
    """A process that runs stages; `work` raises Death when it is gone."""

    def __init__(self) -> None:
        # Pipes of our own, so that a stage may print as it likes; the trace is a file, for a crash writes it last.
        requests_out, self._requests = os.pipe()
        self._answers, answers_in = os.pipe()
        self._trace = tempfile.TemporaryFile()  # lives as long as the child
        fds = (requests_out, answers_in, self._trace.fileno())
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "MALLOC_ARENA_MAX": "2"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.curate.child", *map(str, fds)],
            pass_fds=fds,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno() if _has_fileno(sys.stderr) else subprocess.DEVNULL,
            env=environment,
        )
        os.close(requests_out)
        os.close(answers_in)
        _widen(self._requests)
        _widen(self._answers)
        self._work: Work | None = None
        self._begun = 0
        self._run_dir: str | None = None

    def work(self, work: Work, table: pa.Table, run_dir: str | None = None) -> pa.Table:
        """Run a stage over rows, on behalf of a run. RuntimeError: the stage's code is wrong, not a row."""
        self._begun = 0
        self._run_dir = run_dir
        try:
            if self._work != work:
                self._introduce(work)
            data = child.table_bytes(table)
            self._write(child.HEADER.pack(child.ROWS, len(data)))
            self._write(data)
            return self._answer(work.limit_s(table.num_rows))
        except (BrokenPipeError, EOFError):
            raise self._gone() from None

    def close(self) -> None:
        """End the process and free its pipes."""
        self._process.kill()
        self._process.wait()
        for fd in (self._requests, self._answers):
            os.close(fd)
        self._trace.close()

    def _introduce(self, work: Work) -> None:
        from ray import cloudpickle  # a private pipe to our own child; classes of a script travel by value

        data = cloudpickle.dumps((work.stage, work.schema, work.limits.timeout_s, work.memory_bytes))
        self._write(child.HEADER.pack(child.STAGE, len(data)))
        self._write(data)
        self._work = work

    def _write(self, data: bytes | pa.Buffer) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._requests, view) :]

    def _answer(self, limit_s: float) -> pa.Table:
        # The first answer waits for the imports of a fresh child as well; each row after it has its own time.
        deadline = time.monotonic() + max(limit_s, _START_S if self._begun == 0 else 0.0) + _START_S
        while True:
            kind, size = child.HEADER.unpack(self._read(child.HEADER.size, deadline))
            data = self._read(size, deadline)
            if kind == child.BEGUN:
                self._begun = int.from_bytes(data, "little")
                deadline = time.monotonic() + limit_s
            elif kind == child.ASK and self._work is not None:
                reply = self._work.stage.answer(data, self._run_dir)
                self._write(child.HEADER.pack(child.ANSWER, len(reply)))
                self._write(reply)
            elif kind == child.DONE:
                return child.table_from(pa.py_buffer(data))
            else:
                assert self._work is not None, "an answer before a stage was introduced"
                raise RuntimeError(f"{type(self._work.stage).__name__}: {bytes(data).decode()}")

    def _read(self, size: int, deadline: float) -> bytes:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            if not select.select([self._answers], [], [], max(0.0, deadline - time.monotonic()))[0]:
                self._process.send_signal(signal.SIGABRT)  # it leaves a trace of where it hung, if it can
                try:
                    self._process.wait(2)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                raise Death(
                    "timeout", f"no end in sight after its time limit; {self._where()}".rstrip("; "), self._begun
                )
            number = os.readv(self._answers, [view])
            if not number:
                raise EOFError
            view = view[number:]
        return bytes(data)

    def _gone(self) -> Death:
        status = self._process.wait()
        if status < 0:
            name = signal.Signals(-status).name
            return Death("worker_killed", f"{name}; {self._where()}".rstrip("; "), self._begun)
        return Death("worker_killed", f"exit status {status}", self._begun)

    def _where(self) -> str:
        self._trace.seek(0)
        lines = self._trace.read().decode(errors="replace").splitlines()
        return " < ".join(line.strip() for line in lines if line.lstrip().startswith("File"))[:400]


# ---- one child a worker ----

_START_S = 60.0  # for a child that still imports what its stage needs: torch takes 10 s of a busy machine
_LOCK = threading.Lock()
_child: Child | None = None


def _current() -> Child:
    """This worker's child; a new one if the last has died."""
    global _child
    if _child is not None and _child._process.poll() is not None:
        _child.close()
        _child = None
    if _child is None:
        _child = Child()
    return _child


def _has_fileno(stream: TextIO) -> bool:
    try:
        return stream.fileno() >= 0
    except (AttributeError, OSError, ValueError):
        return False


def _widen(fd: int) -> None:
    import fcntl

    try:
        fcntl.fcntl(fd, getattr(fcntl, "F_SETPIPE_SZ", 1031), _PIPE_BYTES)
    except OSError:  # a limit of this machine: slower, not wrong
        return


# ---- quarantine: the row, with all that is needed to run it again ----


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """What is kept beside a quarantined row."""

    stage: str
    """MODULE:CLASS."""
    config: dict[str, object]
    reason: str
    detail: str
    limits: GuardConfig
    gpus: float = 0.0


def _quarantine(store: Store, work: Work, table: pa.Table, leave: Leave) -> None:
    bundle = Bundle(
        stage=f"{type(work.stage).__module__}:{type(work.stage).__qualname__}",
        config=to_json(work.stage),
        reason=leave.reason,
        detail=redacted_text(leave.detail),
        limits=work.limits,
        gpus=work.gpus,
    )
    metadata = {_META: json.dumps(to_json(bundle)).encode(), b"schema": work.schema.serialize().to_pybytes()}
    table = without_secrets(table).replace_schema_metadata(metadata)
    store.write(quarantine_name(table["key"][0].as_py()), parquet_bytes(table, 1))


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a quarantined row did when it was run again: `rows` that came out, or the `reason` of its death."""

    stage: str
    was: str
    rows: tuple[Row, ...] = ()
    reason: str | None = None
    detail: str = ""


def replay(store: Store, key: str, *, timeout_s: float | None = None, memory_mb: int | None = None) -> Replay:
    """Run a quarantined row once more, in a child, within the limits it broke, or within those that are given."""
    name = quarantine_name(key)
    if not store.exists(name):
        raise ValueError(f"{store.url} has no {name}; `jobs.explain` shows where a key ended")
    try:
        table = pq.read_table(pa.BufferReader(store.read(name)))
        bundle = from_json(Bundle, json.loads(table.schema.metadata[_META]))
        schema = pa.ipc.read_schema(pa.py_buffer(table.schema.metadata[b"schema"]))
    except (pa.ArrowException, ValueError, LookupError, TypeError) as error:
        raise CorruptFileError(f"{store.url}/{name} is no bundle, or was altered: {error}; delete it") from error
    limits = replace(
        bundle.limits,
        timeout_s=bundle.limits.timeout_s if timeout_s is None else timeout_s,
        memory_mb=bundle.limits.memory_mb if memory_mb is None else memory_mb,
    )
    stage = _stage(bundle)
    started = Child()
    try:
        work = Work(stage=stage, schema=schema, limits=limits, gpus=bundle.gpus)
        rows = started.work(work, table.replace_schema_metadata(None))
    except Death as death:
        return Replay(stage=bundle.stage, was=bundle.reason, reason=death.reason, detail=death.detail)
    finally:
        started.close()
    return Replay(stage=bundle.stage, was=bundle.reason, rows=tuple(rows.to_pylist()))


def _stage(bundle: Bundle) -> Stage:
    module, _, qualname = bundle.stage.partition(":")
    kind: Any = importlib.import_module(module)
    for part in qualname.split("."):
        kind = getattr(kind, part)
    if not (isinstance(kind, type) and issubclass(kind, Stage)):
        raise ValueError(f"the bundle names {bundle.stage!r}, which is no stage; was it altered?")
    return from_json(kind, bundle.config)
