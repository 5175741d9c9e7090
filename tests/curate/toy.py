"""A small step with everything that goes wrong: fan-out, a filter's verdict, an error, duplicates."""
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from pipeline.curate.stage import Filter, Row, Split, start
from pipeline.records import CLIP, INPUT, key_of


@dataclass(frozen=True, kw_only=True)
class Cut(Split):
    """Three clips an episode; every 25th episode fails; two in ten episodes are the same bytes as another."""

    def split(self, row: Row) -> Iterator[Row]:
        number = row["order"]
        if number % 25 == 3:
            raise KeyError("no such codec")
        yield row | {"sha256": key_of(str(number if number % 10 > 1 else number // 10)), "duration_s": 6.0}
        for part in range(3):
            yield row | {"key": key_of(row["key"], str(part)), "unit": "clip", "start_s": 2.0 * part, "duration_s": 1.0 + part,
                         "audio": number.to_bytes(4, "big") * 20, "text": f"{number}/{part}", "size_bytes": 80}


@dataclass(frozen=True, kw_only=True)
class DropShort(Filter):
    min_s: float = 1.5

    def reason(self, row: Row) -> str | None:
        return "clip_too_short" if row["duration_s"] < self.min_s else None


def inputs(count: int) -> pa.Table:
    rows = [{"key": key_of(f"https://example.org/{i}"), "order": i, "url": f"https://example.org/{i}"} for i in range(count)]
    return start(pa.Table.from_pylist(rows, schema=INPUT), CLIP, unit="episode")
