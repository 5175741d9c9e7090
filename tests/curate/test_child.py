"""Tables cross the pipe to a child unchanged; the guard's tests show the child at work and dying."""

import io

import pyarrow as pa

from pipeline.curate import child


def test_a_message_holds_a_table_unchanged() -> None:
    table = pa.table({"key": ["a", None], "audio": pa.array([b"x" * 1000, None], pa.large_binary())})
    pipe = io.BytesIO()
    child.send(pipe, child.ROWS, child.table_bytes(table))
    data = pipe.getvalue()
    kind, size = child.HEADER.unpack(data[: child.HEADER.size])
    assert kind == child.ROWS and size == len(data) - child.HEADER.size
    assert child.table_from(data[child.HEADER.size :]).equals(table)
