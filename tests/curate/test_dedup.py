"""Set-level rules: among equals the first listed stays, whatever the order of arrival."""

import random

import pyarrow as pa
import pytest

from pipeline.curate import dedup
from pipeline.curate.work import to_table
from pipeline.records import CLIP


def dataset(rows: list[dict], blocks: int):
    import ray

    table = to_table(rows, CLIP)
    size = -(-table.num_rows // blocks)
    return ray.data.from_arrow([table.slice(i, size) for i in range(0, table.num_rows, size)])


def collected(found) -> dict[str, tuple]:
    batches = list(found.iter_batches(batch_size=None, batch_format="pyarrow"))
    return {row["key"]: (row["state"], row["reason"]) for row in pa.concat_tables(batches).to_pylist()}


@pytest.mark.parametrize("seed", [0, 1])
def test_duplicates_and_orphans(local_ray: None, seed: int) -> None:
    episode = {"unit": "episode", "sha256": "s"}
    rows = [
        episode | {"key": "b", "input_key": "b", "order": 1},
        episode | {"key": "a", "input_key": "a", "order": 2},
        episode | {"key": "gone", "input_key": "gone", "order": 0, "state": "failed", "reason": "http_404"},
        {"unit": "episode", "key": "none", "input_key": "none", "order": 3},
        {"unit": "clip", "key": "a1", "input_key": "a", "order": 2, "sha256": "s"},
        {"unit": "clip", "key": "b1", "input_key": "b", "order": 1},
    ]
    random.Random(seed).shuffle(rows)
    found = dedup.drop_duplicates(
        dataset(rows, 1 + seed * 2), by="sha256", unit="episode", reason="duplicate_audio", buckets=2
    )
    assert collected(dedup.drop_orphans(found, buckets=2)) == {
        "b": (None, None),
        "a": ("dropped", "duplicate_audio"),
        "gone": ("failed", "http_404"),
        "none": (None, None),
        "a1": ("dropped", "episode_dropped"),
        "b1": (None, None),
    }
