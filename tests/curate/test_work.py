"""A stage over rows, without Ray: an error costs the one row that caused it."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pytest

from pipeline.curate.stage import Batch, Filter, Leave, Map, Row, Split
from pipeline.curate.work import apply, start, to_table
from pipeline.records import INPUT

SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("input_key", pa.string()),
        ("unit", pa.string()),
        ("x", pa.int64()),
        ("state", pa.string()),
        ("reason", pa.string()),
        ("retryable", pa.bool_()),
        ("detail", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Invert(Map):
    scale: int = 12

    def map(self, row: Row) -> Row:
        return row | {"x": self.scale // row["x"]}


@dataclass(frozen=True, kw_only=True)
class Repeat(Split):
    def split(self, row: Row) -> Iterator[Row]:
        for i in range(row["x"]):
            yield row | {"key": f"{row['key']}-{i}"}
        if row["x"] == 4:
            raise OSError("disk")


@dataclass(frozen=True, kw_only=True)
class DropLarge(Filter):
    max_x: int = 3

    def reason(self, row: Row) -> str | None:
        if row["x"] is None:
            raise Leave("unknown", "x_missing")
        return "too_large" if row["x"] > self.max_x else None


@dataclass(frozen=True, kw_only=True)
class Poisoned(Batch):
    def batch(self, rows: list[Row]) -> list[Row]:
        if any(row["x"] == 7 for row in rows):
            raise ArithmeticError("seven")
        return [row | {"x": row["x"] * 10} for row in rows]


def rows(*values: int | None) -> list[Row]:
    return [{"key": str(v), "x": v} for v in values]


def test_a_map_maps_and_an_error_costs_its_own_row() -> None:
    out = apply(Invert(), rows(3, 0, 4))
    assert [row["x"] for row in out] == [4, 0, 3]
    assert [row.get("state") for row in out] == [None, "failed", None]
    assert out[1]["reason"] == "zero_division_error" and out[1]["retryable"] is False and out[1]["detail"]


def test_a_split_that_breaks_midway_yields_one_failed_row_and_no_parts() -> None:
    out = apply(Repeat(), rows(2, 4))
    assert [row["key"] for row in out] == ["2-0", "2-1", "4"]
    assert out[2]["state"] == "failed" and out[2]["reason"] == "os_error"


def test_a_filter_names_its_reason_and_a_missing_score_is_unknown() -> None:
    out = apply(DropLarge(), rows(1, 9, None))
    assert [(row.get("state"), row.get("reason")) for row in out] == [
        (None, None),
        ("dropped", "too_large"),
        ("unknown", "x_missing"),
    ]


def test_rows_that_left_pass_untouched() -> None:
    gone = {"key": "a", "x": 0, "state": "dropped", "reason": "early"}
    assert apply(Invert(), [gone]) == [gone]


@pytest.mark.parametrize("position", range(8))
def test_one_bad_row_of_a_batch_costs_one_row(position: int) -> None:
    values = [1] * 8
    values[position] = 7
    out = apply(Poisoned(), rows(*values))
    assert sorted(row["x"] for row in out) == [7] + [10] * 7
    assert [row["reason"] for row in out if row.get("state")] == ["arithmetic_error"]


def test_start_makes_rows_of_the_steps_schema() -> None:
    inputs = pa.Table.from_pylist([{"key": "k", "order": 0, "text": "hi", "state": "failed"}], schema=INPUT)
    schema = pa.schema([*SCHEMA, ("caption", pa.string())])
    assert start(inputs, schema, unit="image", caption="text").to_pylist() == [
        {
            "key": "k",
            "input_key": "k",
            "unit": "image",
            "x": None,
            "state": "failed",
            "reason": None,
            "retryable": None,
            "detail": None,
            "caption": "hi",
        }
    ]


def test_a_column_outside_the_schema_is_our_error() -> None:
    with pytest.raises(AssertionError, match="surprise"):
        to_table([{"key": "a", "surprise": 1}], SCHEMA)
