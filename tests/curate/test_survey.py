"""What a replayed threshold moved."""

import pyarrow as pa

from pipeline.curate import survey
from pipeline.records import VERDICT


def test_moved_counts_rows_by_how_they_ended_before_and_now() -> None:
    def table(*rows: tuple[str, str, str | None]) -> pa.Table:
        return pa.Table.from_pylist(
            [{"key": k, "unit": "clip", "state": s, "reason": r} for k, s, r in rows], schema=VERDICT
        )

    old = table(
        ("a", "kept", None), ("b", "kept", None), ("c", "dropped", "clip_too_short"), ("d", "failed", "http_404")
    )
    new = table(
        ("a", "dropped", "clip_too_short"), ("b", "kept", None), ("c", "kept", None), ("d", "failed", "http_404")
    )
    short = "dropped clip_too_short"
    assert survey.moved(old, new) == {("clip", "kept", short): 1, ("clip", short, "kept"): 1}
    assert not survey.moved(old, old)
