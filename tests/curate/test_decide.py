"""Verdicts and books, without Ray; `test_waves` has them end to end."""

from dataclasses import dataclass, replace

import pyarrow as pa

from pipeline.curate import decide
from pipeline.curate.stage import Filter, Row
from pipeline.records import VERDICT


@dataclass(frozen=True, kw_only=True)
class DropOdd(Filter):
    def reason(self, row: Row) -> str | None:
        return "odd" if row["x"] % 2 else None


@dataclass(frozen=True, kw_only=True)
class DropLarge(Filter):
    def reason(self, row: Row) -> str | None:
        return "large" if row["x"] > 10 else None


def test_the_first_filter_that_objects_decides() -> None:
    filters = (DropOdd(), DropLarge())
    row = {"state": None, "reason": None}
    assert decide._verdict(row | {"x": 11}, filters)["reason"] == "odd"
    assert decide._verdict(row | {"x": 12}, filters)["reason"] == "large"
    assert decide._verdict(row | {"x": 2}, filters)["state"] is None
    assert decide._verdict({"state": "failed", "reason": "http_404", "x": 11}, filters)["reason"] == "http_404"


def test_an_error_in_a_rule_is_a_failed_row_and_never_a_drop() -> None:
    row = decide._verdict({"state": None, "reason": None, "x": None}, (DropOdd(),))
    assert (row["state"], row["reason"]) == ("failed", "type_error")


def test_books_count_rows_hours_and_bytes_and_balance() -> None:
    rows = [
        {"unit": "clip", "state": "kept", "duration_s": 3600.0, "size_bytes": 10},
        {"unit": "clip", "state": "dropped", "reason": "odd", "duration_s": 1800.0, "size_bytes": 5},
        {"unit": "clip", "state": "dropped", "reason": "odd", "duration_s": None, "size_bytes": None},
        {"unit": "episode", "state": "failed", "reason": "http_404"},
    ]
    books = decide.books(pa.Table.from_pylist(rows, schema=VERDICT))
    clip = books["clip"]
    assert (clip.in_, clip.kept, clip.dropped, clip.failed) == (3, 1, {"odd": 2}, {})
    assert clip.hours == {"dropped": 0.5, "kept": 1.0} and clip.bytes == {"dropped": 5, "kept": 10}
    assert books["episode"].failed == {"http_404": 1}
    assert all(book.balances() for book in books.values())
    assert not replace(clip, kept=0).balances()
