"""Set-level rules: what can be decided only by looking at many rows together. Ray Data shuffles do the work.

Guarantees: a verdict depends on the rows alone, never on their arrival: among equals the one listed first stays. Rows
meet in buckets of some ROWS_A_BUCKET, and in each all are judged at once: sorted, each is compared with its neighbour.
"""

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from ray.data import Dataset

ROWS_A_BUCKET = 250_000
"""Some 100 MB of verdicts: what one task holds at a time."""
_BUCKET = "_bucket"


def buckets(rows: int) -> int:
    """How many buckets so many rows are dealt to."""
    return max(1, -(-rows // ROWS_A_BUCKET))


def drop_duplicates(dataset: "Dataset", *, by: str, unit: str, reason: str, buckets: int) -> "Dataset":
    """Drop all but the first listed of the rows of `unit` that still stand and share the digest in column `by`."""
    return _together(dataset, by, lambda table: mark_duplicates(table, by, unit, reason), buckets)


def drop_orphans(dataset: "Dataset", *, buckets: int) -> "Dataset":
    """Drop the parts of an input that left: each under `<unit of the input>_<its state>`."""
    return _together(dataset, "input_key", mark_orphans, buckets)


def mark_duplicates(table: pa.Table, by: str, unit: str, reason: str) -> pa.Table:
    """The table, in which every row with a digest is there, with all but the first of equals dropped."""
    stands = pc.and_(pc.and_(pc.is_null(table["state"]), pc.equal(table["unit"], unit)), pc.is_valid(table[by]))
    rivals = np.flatnonzero(pc.fill_null(stands, False).to_numpy())
    standing = table.select([by, "order", "key"]).take(rivals)
    order = pc.sort_indices(
        standing, sort_keys=[(by, "ascending"), ("order", "ascending"), ("key", "ascending")]
    ).to_numpy()
    digests = standing[by].take(order).to_numpy(zero_copy_only=False)
    follows = np.flatnonzero(digests[1:] == digests[:-1]) + 1  # places of those that have an equal before them
    if not len(follows):
        return table
    is_first = np.ones(len(order), bool)
    is_first[follows] = False
    firsts = np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))
    keys = standing["key"].take(order[firsts[follows]])
    detail = pc.binary_join_element_wise(f"same {by} as", keys, " ")
    return _leave(table, rivals[order[follows]], reason, detail)


def mark_orphans(table: pa.Table) -> pa.Table:
    """The table, in which an input is there with all its parts, with the parts of inputs that left dropped."""
    left = table.filter(pc.and_(pc.equal(table["key"], table["input_key"]), pc.is_valid(table["state"])))
    parent = pc.index_in(table["input_key"], left["key"].combine_chunks())
    is_orphan = pc.and_(
        pc.is_valid(parent), pc.and_(pc.is_null(table["state"]), pc.not_equal(table["key"], table["input_key"]))
    )
    where = np.flatnonzero(is_orphan.to_numpy())
    if not len(where):
        return table
    parents = left.take(parent.take(where))
    reason = pc.binary_join_element_wise(parents["unit"], parents["state"], "_")
    return _leave(table, where, reason, pc.fill_null(parents["reason"], ""))


def _together(dataset: "Dataset", by: str, mark: Callable[[pa.Table], pa.Table], buckets: int) -> "Dataset":
    def deal(table: pa.Table) -> pa.Table:
        # A row without a digest goes by its key: all of them in one bucket would be one worker's.
        places = [zlib.crc32(text.encode()) % buckets for text in pc.coalesce(table[by], table["key"]).to_pylist()]
        return table.append_column(_BUCKET, pa.array(places, pa.int32()))

    def judged(bucket: pa.Table) -> pa.Table:
        return mark(bucket.drop_columns([_BUCKET]))

    from ray.data.context import ShuffleStrategy

    # Hash shuffling starts actors for each shuffle, seconds of a small run; verdicts are narrow, so tasks carry them
    # far.
    dataset.context.shuffle_strategy = ShuffleStrategy.SORT_SHUFFLE_PULL_BASED
    dealt = dataset.map_batches(deal, batch_format="pyarrow", batch_size=None)
    return dealt.groupby(_BUCKET, num_partitions=buckets).map_groups(judged, batch_format="pyarrow")


def _leave(table: pa.Table, where: np.ndarray, reason: str | pa.ChunkedArray, detail: pa.ChunkedArray) -> pa.Table:
    """Let the rows in these places leave as dropped; a `reason` and a `detail` for each of them."""
    mask = np.zeros(table.num_rows, bool)
    mask[where] = True
    rank = np.argsort(where)  # replacements are taken in the order of the rows
    new = {
        "state": pa.repeat("dropped", len(where)),
        "detail": detail.take(rank),
        "reason": pa.repeat(reason, len(where)) if isinstance(reason, str) else reason.take(rank),
    }
    for name, values in new.items():
        flat = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
        field = table.schema.field(name)
        column = pc.replace_with_mask(table[name].combine_chunks(), pa.array(mask), flat.cast(field.type))
        table = table.set_column(table.schema.get_field_index(name), field, column)
    return table
