"""Reading scores: a filter decides on numbers that an earlier stage stored, so that thresholds can be replayed."""
from typing import Any

from pipeline.curate.stage import Leave, Row


def score(row: Row, name: str) -> Any:
    """A stored score; leaves as unknown `<name>_missing` if it was never computed, which is neither good nor bad."""
    value = row.get(name)
    if value is None:
        raise Leave("unknown", f"{name}_missing")
    return value
