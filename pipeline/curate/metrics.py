"""Metrics of a curation for Prometheus, through Ray's own exporter: rows, bytes, states, seconds, queue depth.

Outside a Ray session they are not kept at all; a metric costs microseconds a batch.
"""

import functools
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from ray.util.metrics import Counter, Gauge

STATE_SCORED = "scored"  # a row that has not left


@functools.cache
def _counter(name: str, help_text: str, *tags: str) -> "Counter":
    from ray.util.metrics import Counter

    return Counter(f"triptych_{name}", description=help_text, tag_keys=tags)


@functools.cache
def _gauge(name: str, help_text: str, *tags: str) -> "Gauge":
    from ray.util.metrics import Gauge

    return Gauge(f"triptych_{name}", description=help_text, tag_keys=tags)


def _in_session() -> bool:
    import ray

    return ray.is_initialized()


def observe(stage: str, rows: pa.Table, seconds: float) -> None:
    """Count one batch that left a stage: its rows by state, its bytes, the time it took."""
    if not _in_session():
        return
    states = rows["state"].value_counts().to_pylist() if rows.num_rows else []
    counter = _counter("stage_rows", "Rows that left a stage, by state.", "stage", "state")
    for entry in states:
        counter.inc(entry["counts"], tags={"stage": stage, "state": entry["values"] or STATE_SCORED})
    if rows.nbytes:
        _counter("stage_bytes", "Bytes of rows that left a stage.", "stage").inc(rows.nbytes, tags={"stage": stage})
    worked = _counter("stage_seconds", "Time that a stage worked, over all workers.", "stage")
    worked.inc(max(seconds, 1e-9), tags={"stage": stage})


def _tag(text: str) -> str:
    """What a tag may hold: a stage of a user's own may leave under any reason, and a metric must not cost a committed
    wave."""
    return text.encode("ascii", "backslashreplace").decode()


def queue(step: str, waiting: int) -> None:
    """Say how many inputs of a step are not committed yet."""
    if _in_session():
        _gauge("queue_depth", "Inputs of a step that no wave has committed yet.", "step").set(
            waiting, tags={"step": step}
        )


def committed(step: str, counts: dict[str, int], size_bytes: int, seconds: float) -> None:
    """Count one committed wave: its rows by unit, state and reason, its bytes, the time it took."""
    if not _in_session():
        return
    rows = _counter("wave_rows", "Rows of committed waves.", "step", "unit", "state", "reason")
    for name, number in counts.items():
        unit, state, reason = name.split("/", 2)
        rows.inc(number, tags={"step": step, "unit": _tag(unit), "state": state, "reason": _tag(reason)})
    if size_bytes:
        _counter("wave_bytes", "Bytes of committed waves.", "step").inc(size_bytes, tags={"step": step})
    _counter("wave_seconds", "Time that committed waves took.", "step").inc(max(seconds, 1e-9), tags={"step": step})
    _counter("waves", "Committed waves.", "step").inc(1, tags={"step": step})
