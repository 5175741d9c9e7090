"""The throw-away process in which a stage works on rows: `python -m pipeline.curate.child REQUESTS ANSWERS TRACE`.

It reads stages and batches from one inherited pipe and answers on another, so a stage may print as it likes. Before
each row it says which one it begins, so that whoever started it knows which row was at hand when it died. It cannot
outlive its task: it ends when its requests end, and an alarm of the kernel ends it if it hangs and nobody is left.
"""

import faulthandler
import functools
import os
import pickle
import resource
import signal
import struct
import sys
import threading
import time
from typing import BinaryIO

import pyarrow as pa

from pipeline.curate import upcall
from pipeline.curate.stage import Batch, Stage
from pipeline.curate.work import groups, table_of

# ---- the protocol: messages of a header (kind, bytes) and a body, of any size ----
#
#   parent                                   child
#   STAGE  pickled (stage, schema, limits)
#   ROWS   an Arrow stream                   BEGUN  a row's number, before each row: who dies is told by the last one
#                                            ...
#                                            ASK    what a stage asks its worker, any number of times
#   ANSWER  what `Stage.answer` says
#                                            DONE   an Arrow stream, or ERROR  a text: the stage is wrong, not a row

HEADER = struct.Struct("<cQ")
STAGE = b"S"
ROWS = b"R"
BEGUN = b"B"
DONE = b"D"
ERROR = b"E"
ASK = b"A"
ANSWER = b"Y"
_ASKING = threading.Lock()
_WRITING = threading.Lock()
_ALARM_GRACE_S = 30.0  # the parent's own clock comes first


def send(pipe: BinaryIO, kind: bytes, *parts: bytes | pa.Buffer) -> None:
    """Write one message."""
    with _WRITING:
        pipe.write(HEADER.pack(kind, sum(len(part) for part in parts)))
        for part in parts:
            pipe.write(part)
        pipe.flush()


def table_bytes(table: pa.Table) -> pa.Buffer:
    """A table as one Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def table_from(data: bytes | pa.Buffer) -> pa.Table:
    """The table of an Arrow stream, without a copy."""
    with pa.ipc.open_stream(data) as reader:
        return reader.read_all()


def _work(answers: BinaryIO, stage: Stage, schema: pa.Schema, timeout_s: float, table: pa.Table) -> None:
    rows = table.to_pylist()
    done = []
    # Rows of a batch stage are at hand all at once: nobody can say which of them it was.
    for start, part in [(0, rows)] if isinstance(stage, Batch) else [(i, [row]) for i, row in enumerate(rows)]:
        send(answers, BEGUN, start.to_bytes(8, "little"))
        signal.setitimer(signal.ITIMER_REAL, timeout_s * len(part) + _ALARM_GRACE_S)
        done += groups(stage, part)
    worked = table_of(done, schema)
    signal.setitimer(signal.ITIMER_REAL, 0)
    send(answers, DONE, table_bytes(worked))


def _ask(requests: BinaryIO, answers: BinaryIO, question: bytes) -> bytes:
    """For `upcall.ask`: while a stage works nobody else reads the requests, so the next one is the answer."""
    with _ASKING:
        send(answers, ASK, question)
        header = requests.read(HEADER.size)
        if len(header) < HEADER.size:
            raise EOFError("the worker is gone")
        kind, size = HEADER.unpack(header)
        assert kind == ANSWER
        return requests.read(size)


def _leave_with(parent: int) -> None:
    # An orphan's requests never end if another child inherited the pipe: the parent's death is seen by its number.
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main(requests_fd: int, answers_fd: int, trace_fd: int) -> None:
    """Serve until the requests end."""
    faulthandler.enable(trace_fd, all_threads=False)
    threading.Thread(target=_leave_with, args=(os.getppid(),), daemon=True).start()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    requests, answers = os.fdopen(requests_fd, "rb"), os.fdopen(answers_fd, "wb")
    upcall.ask = functools.partial(_ask, requests, answers)
    while header := requests.read(HEADER.size):
        kind, size = HEADER.unpack(header)
        data = requests.read(size)
        try:
            if kind == STAGE:
                stage, schema, timeout_s, memory_bytes = pickle.loads(data)  # our parent's, over a pipe of its own
                # Of every stage anew: one without a limit must not work under that of the stage before it.
                resource.setrlimit(resource.RLIMIT_AS, (memory_bytes or soft, hard))
            else:
                _work(answers, stage, schema, timeout_s, table_from(data))
        except Exception as error:  # noqa: BLE001 - not a row's fault: the parent raises it
            send(answers, ERROR, f"{type(error).__name__}: {error}".encode())


if __name__ == "__main__":
    main(*(int(fd) for fd in sys.argv[1:]))
