"""A small step with everything that goes wrong: fan-out, a filter's verdict, an error, duplicates."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pipeline.curate import decide, waves
from pipeline.curate.manifests import ExportConfig
from pipeline.curate.run import Curation
from pipeline.curate.stage import Filter, Leave, Map, Row, Split
from pipeline.curate.work import start
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
            yield row | {
                "key": key_of(row["key"], str(part)),
                "unit": "clip",
                "start_s": 2.0 * part,
                "duration_s": 1.0 + part,
                "audio": number.to_bytes(4, "big") * 20,
                "text": f"{number}/{part}",
                "size_bytes": 80,
            }


@dataclass(frozen=True, kw_only=True)
class DropShort(Filter):
    min_s: float = 1.5

    def reason(self, row: Row) -> str | None:
        return "clip_too_short" if row["duration_s"] < self.min_s else None


def inputs(count: int) -> pa.Table:
    rows = [
        {"key": key_of(f"https://example.org/{i}"), "order": i, "url": f"https://example.org/{i}"} for i in range(count)
    ]
    return start(pa.Table.from_pylist(rows, schema=INPUT), CLIP, unit="episode")


@dataclass(frozen=True, kw_only=True)
class Visit(Map):
    """A host that is away until the file `back` exists: number 5 is deferred, 7 fails and may pass, 9 fails for
    good."""

    back: str

    def map(self, row: Row) -> Row:
        number = row["order"]
        if number == 9:
            raise Leave("failed", "http_404")
        if number in (5, 7) and not Path(self.back).exists():
            raise Leave("deferred", "retry_after") if number == 5 else Leave("failed", "http_503", retryable=True)
        return row


@dataclass(frozen=True, kw_only=True)
class Listed(Split):
    """Reads a listing by a function."""

    read: Callable[[str], list[Row]]

    def split(self, row: Row) -> Iterator[Row]:
        for place, found in enumerate(self.read(row["source"])):
            yield found | {"order": row["order"] + place}


def listing(source: str) -> list[Row]:
    """Thirty episodes of three hosts."""
    blank = dict.fromkeys(INPUT.names)
    return [
        blank
        | {
            "key": key_of(source, str(i)),
            "url": f"https://h{i % 3}.example.org/{source}/{i}",
            "source": source,
            "license": "CC0" if i % 2 else "CC-BY",
        }
        for i in range(30)
    ]


def curation(back: str, min_s: float = 1.5) -> Curation:
    """A whole curation of `listing`, in shards of five clips."""
    return Curation(
        name="toy",
        sources=("a",),
        discover=Listed(read=listing),
        schema=CLIP,
        unit="episode",
        stages=(Visit(back=back), Cut()),
        rules=(
            decide.Rules(unit="episode", unique_by="sha256", unique_reason="duplicate_audio"),
            decide.Rules(unit="clip", filters=(DropShort(min_s=min_s),)),
        ),
        export_unit="clip",
        export_columns=("key", "audio", "text", "url", "license"),
        waves=waves.WaveConfig(wave_rows=16, split_rows=4),
        export=ExportConfig(shard_rows=5, webdataset=True),
    )
