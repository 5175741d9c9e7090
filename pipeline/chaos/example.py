"""The pipeline that chaos is tried on unless a user names another: fan-out, a filter, failures, duplicates; no network.

What is done to a finished run is tried on it too: a retry of inputs that were away at first, a decision by another
threshold, a revocation. And the same work on Ray Data's own job checkpoint, as the baseline.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import pyarrow as pa

from pipeline.curate import audit
from pipeline.curate.decide import Rules
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import ExportConfig
from pipeline.curate.revoke import Revocation
from pipeline.curate.run import Curation
from pipeline.curate.stage import Filter, Leave, Row, Split
from pipeline.curate.waves import WaveConfig
from pipeline.lease import Lease
from pipeline.records import CLIP, INPUT, key_of
from pipeline.storage import Store, parquet_bytes

Step = Literal["run", "first", "retry", "decide", "revoke"]
"""What is done to the example: a whole run, one that half of the inputs are away from, or a step of a finished run."""
BEFORE: dict[Step, tuple[Step, ...]] = {
    "run": (),
    "first": (),
    "retry": ("first",),
    "decide": ("first", "retry"),
    "revoke": ("first", "retry"),
}
"""What comes before a step."""
REVOKED = Revocation(kind="license", value="CC-BY-NC-4.0", note="chaos")
"""Rows of both rounds, and input 9, which was away and holds the bytes of input 8: that one was kept, and goes as a
copy."""


@dataclass(frozen=True, kw_only=True)
class Cut(Split):
    """Three clips an episode; every ninth episode fails, and every fifth holds the bytes of the one before it."""

    pause_s: float = 0.0
    is_away: ClassVar[bool] = False
    """Of the world, not of the config: every second episode is away; a half of those are deferred, the others fail for
    a reason that may pass."""

    def while_away(self) -> "Cut":
        """The same stage in such a world."""
        stage = replace(self)
        object.__setattr__(stage, "is_away", True)
        return stage

    def split(self, row: Row) -> Iterator[Row]:
        """The episode and its clips."""
        number = row["order"]
        time.sleep(self.pause_s)
        if self.is_away and number % 2:
            raise Leave("deferred", "retry_later") if number % 4 == 1 else Leave("failed", "timeout", retryable=True)
        if number % 9 == 4:
            # As a bug would: the row fails as key_error, and the run goes on.
            raise KeyError("no such codec")
        yield row | {"sha256": key_of(str(number - (number % 5 == 4))), "duration_s": 6.0}
        for part in range(3):
            yield row | {
                "key": key_of(row["key"], str(part)),
                "unit": "clip",
                "start_s": 2.0 * part,
                "duration_s": 1.0 + part,
                # Each episode's own bytes, so that rows that were mixed up are seen.
                "audio": number.to_bytes(4, "big") * 50,
                "text": f"{number}/{part}",
                "size_bytes": 200,
            }


@dataclass(frozen=True, kw_only=True)
class DropShort(Filter):
    """Drop as `clip_too_short`."""

    min_s: float = 1.5

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        return "clip_too_short" if row["duration_s"] < self.min_s else None


def listing(count: int) -> list[Row]:
    """`count` episodes, each with a caption and a secret in its URL; every seventh has a license that is revoked
    later."""
    blank = dict.fromkeys(INPUT.names) | {"source": "example"}
    return [
        blank
        | {
            "key": key_of(str(i)),
            "order": i,
            "url": f"https://example.org/{i}?token=secret{i}",
            "text": f"episode {i}",
            "license": REVOKED.value if i % 7 == 2 else "CC0-1.0",
        }
        for i in range(count)
    ]


@dataclass(frozen=True, kw_only=True)
class Listing(Split):
    """Names the example's episodes."""

    count: int = 24

    def split(self, row: Row) -> Iterator[Row]:
        """`listing`, for the one source that there is."""
        yield from listing(self.count)


def curation(inputs: int = 24, wave_rows: int = 8, pause_s: float = 0.0, *, step: Step = "run") -> Curation:
    """The example as a curation; neither what is away nor the threshold binds a run of it."""
    cut = Cut(pause_s=pause_s)
    return Curation(
        name="chaos_example",
        sources=("example",),
        discover=Listing(count=inputs),
        schema=CLIP,
        unit="episode",
        stages=(cut.while_away() if step == "first" else cut,),
        rules=(
            Rules(unit="episode", unique_by="sha256", unique_reason="duplicate_audio"),
            Rules(unit="clip", filters=(DropShort(min_s=2.5 if step == "decide" else 1.5),)),
        ),
        export_unit="clip",
        export_columns=("key", "audio", "text"),
        # Two splits a wave, and more shards than one: the smallest run in which order could go wrong.
        waves=WaveConfig(wave_rows=wave_rows, split_rows=max(1, wave_rows // 2)),
        export=ExportConfig(shard_rows=16, webdataset=True),
    )


def is_done(store: Store, toy: Curation, step: Step) -> bool:
    """True if there is nothing left to do, as the curation jobs find it; a retry and a revocation do not ask."""
    return step not in ("retry", "revoke") and audit.is_done(store, toy)


def do(journal: Journal, toy: Curation, step: Step, lease: Lease) -> None:
    """Do the step, as its job does. Needs Ray."""
    if step == "retry":
        toy.retry(journal.store, lease, journal=journal)
    elif step == "revoke":
        toy.revoke(journal.store, [REVOKED], lease, journal=journal)
    else:
        toy.run(journal.store, lease, journal=journal)


def run_baseline(store: Store, inputs: int = 24) -> None:
    """The example's rows by one Ray Data pass with `CheckpointConfig`, from Parquet to Parquet."""
    import ray
    from ray.data.checkpoint import CheckpointConfig

    if not store.exists("source/0.parquet"):
        # Several files: Ray Data resumes whole blocks.
        for part in range(4):
            rows = [row for row in listing(inputs) if row["order"] % 4 == part]
            table = pa.Table.from_pylist([{"key": row["key"], "order": row["order"]} for row in rows])
            store.write(f"source/{part}.parquet", parquet_bytes(table, 64))
    filesystem, root = _arrow_filesystem(store)
    context = ray.data.DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(
        id_column="key",
        checkpoint_path=f"{root}/checkpoint",
        override_filesystem=filesystem,
        delete_checkpoint_on_success=False,
    )
    dataset = ray.data.read_parquet(f"{root}/source", filesystem=filesystem, override_num_blocks=4)
    dataset = dataset.flat_map(_cut).filter(_is_long)
    dataset.write_parquet(f"{root}/out", filesystem=filesystem)


def _cut(row: Row) -> list[Row]:
    return [] if row["order"] % 9 == 4 else [row | {"part": part} for part in range(3)]


def _is_long(row: Row) -> bool:
    return bool(row["part"] > 0)


def _arrow_filesystem(store: Store) -> tuple["pa.fs.FileSystem", str]:
    import os

    from pyarrow import fs

    if store.is_local:
        return fs.LocalFileSystem(), store.local_path
    endpoint = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    return fs.S3FileSystem(endpoint_override=endpoint, scheme="http", region="us-east-1"), store.url.removeprefix(
        "s3://"
    )
