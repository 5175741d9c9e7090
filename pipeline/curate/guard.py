"""What kills or hangs a process costs one row: stages work in a child process, and a death is traced to its row.

The child of a worker is kept from batch to batch, so the price in normal times is one copy of the rows each way. When
it dies or exceeds a limit, the row that was at hand (or, for a stage that takes whole batches, each half of the batch
in turn) is tried once more, alone, in a fresh child. A row that dies twice leaves as *failed*: `out_of_memory`,
`timeout` (retryable) or `worker_killed`; it is quarantined as `quarantine/KEY.parquet`, a bundle of the row, the stage
and its config, which `replay` runs again. Nothing in a bundle is unpickled.
"""

import dataclasses
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
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import to_json
from pipeline.curate import child
from pipeline.curate.stage import Batch, Leave, Row, Stage, left
from pipeline.curate.work import to_table
from pipeline.records import without_secrets
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
    """Address space of the process that a stage works in; stages on GPUs have no such limit."""

    def __post_init__(self) -> None:
        if self.timeout_s <= 0:
            raise ValueError(f"timeout_s must be greater than 0, not {self.timeout_s}")
        if self.memory_mb < 1024:
            raise ValueError(f"memory_mb must be at least 1024, not {self.memory_mb}: the libraries alone need that")


class Death(Exception):  # noqa: N818 - what became of a child, not an error of ours
    """A child died or was killed: `reason` as in the ledger, `begun` the first row that it had not done."""

    def __init__(self, reason: str, detail: str, begun: int) -> None:
        super().__init__(reason, detail, begun)
        self.reason, self.detail, self.begun = reason, detail, begun


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Limits, and the run whose quarantine takes what breaks them."""

    limits: GuardConfig
    run_dir: str

    def run(self, stage: Stage, table: pa.Table, schema: pa.Schema) -> pa.Table:
        """Run a stage over rows that have not left; what it makes of them has `schema`."""
        with _LOCK:
            return pa.concat_tables(self._pieces(stage, table, schema))

    def _pieces(self, stage: Stage, table: pa.Table, schema: pa.Schema) -> list[pa.Table]:
        if table.num_rows == 0:
            return []
        try:
            return [_current().work(stage, table, schema, self.limits, self.run_dir)]
        except Death as death:
            if table.num_rows == 1:
                return [self._alone(stage, table, schema)]
            if not isinstance(stage, Batch):
                at = death.begun
                return [
                    *self._pieces(stage, table.slice(0, at), schema),
                    self._alone(stage, table.slice(at, 1), schema),
                    *self._pieces(stage, table.slice(at + 1), schema),
                ]
        middle = table.num_rows // 2
        return self._pieces(stage, table.slice(0, middle), schema) + self._pieces(stage, table.slice(middle), schema)

    def _alone(self, stage: Stage, table: pa.Table, schema: pa.Schema) -> pa.Table:
        # The second strike is in a process of its own: the first may have been the fault of a row before it.
        try:
            return _current().work(stage, table, schema, self.limits, self.run_dir)
        except Death as death:
            leave = Leave("failed", death.reason, retryable=death.reason == "timeout", detail=death.detail)
            row = table.to_pylist()[0]
            _quarantine(Store(self.run_dir), stage, table, schema, self.limits, leave)
            return to_table([left(row, leave)], schema)


class Child:
    """A process that runs stages; `work` raises Death when it is gone."""

    def __init__(self) -> None:
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
        self._stage: tuple[Stage, pa.Schema, GuardConfig] | None = None
        self._begun = 0
        self._run_dir: str | None = None

    def work(
        self, stage: Stage, table: pa.Table, schema: pa.Schema, limits: GuardConfig, run_dir: str | None = None
    ) -> pa.Table:
        """Run a stage over rows, on behalf of a run. RuntimeError: the stage's code is wrong, not a row."""
        self._begun = 0
        self._run_dir = run_dir
        try:
            if self._stage != (stage, schema, limits):
                self._introduce(stage, schema, limits)
            data = child.table_bytes(table)
            self._write(child.HEADER.pack(child.ROWS, len(data)))
            self._write(data)
            return self._answer(limits.timeout_s * (table.num_rows if isinstance(stage, Batch) else 1))
        except (BrokenPipeError, EOFError):
            raise self._gone() from None

    def close(self) -> None:
        """End the process and free its pipes."""
        self._process.kill()
        self._process.wait()
        for fd in (self._requests, self._answers):
            os.close(fd)
        self._trace.close()

    def _introduce(self, stage: Stage, schema: pa.Schema, limits: GuardConfig) -> None:
        from ray import cloudpickle  # a private pipe to our own child; classes of a script travel by value

        memory_bytes = 0 if stage.resources.gpus else limits.memory_mb << 20
        data = cloudpickle.dumps((stage, schema, limits.timeout_s, memory_bytes))
        self._write(child.HEADER.pack(child.STAGE, len(data)))
        self._write(data)
        self._stage = (stage, schema, limits)

    def _write(self, data: bytes | pa.Buffer) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._requests, view) :]

    def _answer(self, limit_s: float) -> pa.Table:
        deadline = time.monotonic() + max(limit_s, _START_S if self._begun == 0 else 0.0) + _START_S
        while True:
            kind, size = child.HEADER.unpack(self._read(child.HEADER.size, deadline))
            data = self._read(size, deadline)
            if kind == child.BEGUN:
                self._begun = int.from_bytes(data, "little")
                deadline = time.monotonic() + limit_s
            elif kind == child.ASK and self._stage:
                reply = self._stage[0].answer(data, self._run_dir)
                self._write(child.HEADER.pack(child.ANSWER, len(reply)))
                self._write(reply)
            elif kind == child.DONE:
                return child.table_from(pa.py_buffer(data))
            else:
                raise RuntimeError(
                    f"{type(self._stage[0]).__name__}: {bytes(data).decode()}" if self._stage else "no stage"
                )

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
            got = os.readv(self._answers, [view])
            if not got:
                raise EOFError
            view = view[got:]
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


_START_S = 60.0  # for a child that still imports what its stage needs
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


def _has_fileno(stream: Any) -> bool:
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


def _quarantine(
    store: Store, stage: Stage, table: pa.Table, schema: pa.Schema, limits: GuardConfig, leave: Leave
) -> None:
    facts = {
        "stage": f"{type(stage).__module__}:{type(stage).__qualname__}",
        "config": to_json(stage),
        "reason": leave.reason,
        "detail": redacted_text(leave.detail),
        "limits": to_json(limits),
    }
    table = without_secrets(table)
    metadata = {_META: json.dumps(facts).encode(), b"schema": schema.serialize().to_pybytes()}
    store.write(
        f"quarantine/{table['key'][0].as_py()}.parquet", parquet_bytes(table.replace_schema_metadata(metadata), 1)
    )


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a quarantined row did when it was run again: `rows` that came out, or the `reason` of its death."""

    stage: str
    was: str
    rows: tuple[Row, ...] = ()
    reason: str | None = None
    detail: str = ""


def replay(store: Store, key: str, limits: dict[str, Any] | None = None) -> Replay:
    """Run a quarantined row once more, in a child, within the limits it broke, those named in `limits` replaced."""
    name = f"quarantine/{key}.parquet"
    if not store.exists(name):
        raise ValueError(f"{store.url} has no {name}; `jobs.explain` shows where a key ended")
    try:
        table = pq.read_table(pa.BufferReader(store.read(name)))
        facts = json.loads(table.schema.metadata[_META])
        schema = pa.ipc.read_schema(pa.py_buffer(table.schema.metadata[b"schema"]))
    except (pa.ArrowException, ValueError, LookupError, TypeError) as error:
        raise CorruptFileError(f"{store.url}/{name} is no bundle, or was altered: {error}; delete it") from error
    stage = _stage(facts["stage"], facts["config"])
    started = Child()
    try:
        out = started.work(
            stage, table.replace_schema_metadata(None), schema, GuardConfig(**facts["limits"] | (limits or {}))
        )
    except Death as death:
        return Replay(stage=facts["stage"], was=facts["reason"], reason=death.reason, detail=death.detail)
    finally:
        started.close()
    return Replay(stage=facts["stage"], was=facts["reason"], rows=tuple(out.to_pylist()))


def _stage(name: str, config: dict[str, Any]) -> Stage:
    module, _, qualname = name.partition(":")
    kind: Any = importlib.import_module(module)
    for part in qualname.split("."):
        kind = getattr(kind, part)
    if not (isinstance(kind, type) and issubclass(kind, Stage)):
        raise ValueError(f"the bundle names {name!r}, which is no stage; was it altered?")
    return _built(kind, config)


def _built(hint: Any, value: Any) -> Any:
    """A value of JSON as what its type hint says: dataclasses and tuples again."""
    if value is None:
        return None
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        hints = get_type_hints(hint)
        return hint(**{name: _built(hints[name], inner) for name, inner in value.items()})
    if get_origin(hint) is tuple:
        return tuple(_built(get_args(hint)[0], inner) for inner in value)
    inner = [h for h in get_args(hint) if dataclasses.is_dataclass(h)] if isinstance(value, dict) else []
    return _built(inner[0], value) if inner else value
