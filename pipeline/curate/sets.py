"""Set-level rules: what can be decided only by looking at many rows together. Ray Data shuffles do the work.

Guarantees: a verdict depends on the rows alone, never on their arrival: among equals the one listed first stays.
"""
from collections.abc import Callable
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from ray.data import Dataset

_GROUP = "_group"


def drop_duplicates(dataset: "Dataset", *, by: str, unit: str, reason: str, partitions: int) -> "Dataset":
    """Drop all but the first listed of the rows of `unit` that still stand and share the digest in column `by`."""

    def mark(group: pa.Table) -> pa.Table:
        standing = pc.fill_null(pc.and_(pc.is_null(group["state"]), pc.equal(group["unit"], unit)), False).to_pylist()
        rivals = [i for i, stands in enumerate(standing) if stands]
        if group.num_rows == 1 or len(rivals) < 2:
            return group
        orders, keys = group["order"].to_pylist(), group["key"].to_pylist()
        first = min(rivals, key=lambda i: (orders[i], keys[i]))
        lost = [stands and i != first for i, stands in enumerate(standing)]
        return _leave(group, lost, "dropped", reason, f"same {by} as {keys[first]}")

    return _grouped(dataset, by, mark, partitions)


def drop_orphans(dataset: "Dataset", *, partitions: int) -> "Dataset":
    """Drop the parts of an input that left: each under `<unit of the input>_<its state>`."""

    def mark(group: pa.Table) -> pa.Table:
        keys, inputs = group["key"].to_pylist(), group["input_key"].to_pylist()
        parents = [i for i, key in enumerate(keys) if key == inputs[i]]
        if not parents or group["state"][parents[0]].as_py() is None:
            return group
        parent = group.slice(parents[0], 1).to_pylist()[0]
        lost = [i != parents[0] and state is None for i, state in enumerate(group["state"].to_pylist())]
        return _leave(group, lost, "dropped", f"{parent['unit']}_{parent['state']}", parent["reason"] or "")

    return _grouped(dataset, "input_key", mark, partitions)


def _grouped(dataset: "Dataset", by: str, mark: Callable[[pa.Table], pa.Table], partitions: int) -> "Dataset":
    # A row without a digest is its own group: one group of all of them would land on one worker.
    def label(table: pa.Table) -> pa.Table:
        return table.append_column(_GROUP, pc.coalesce(table[by], table["key"]))

    def unlabelled(group: pa.Table) -> pa.Table:
        return mark(group.drop_columns([_GROUP]))

    from ray.data.context import ShuffleStrategy

    # Hash shuffling starts actors for each shuffle, seconds of a small run; verdicts are narrow, so tasks carry them far.
    dataset.context.shuffle_strategy = ShuffleStrategy.SORT_SHUFFLE_PULL_BASED
    labelled = dataset.map_batches(label, batch_format="pyarrow", batch_size=None)
    return labelled.groupby(_GROUP, num_partitions=partitions).map_groups(unlabelled, batch_format="pyarrow")


def _leave(table: pa.Table, where: list[bool], state: str, reason: str, detail: str) -> pa.Table:
    for name, value in (("state", state), ("reason", reason), ("detail", detail)):
        index = table.schema.get_field_index(name)
        table = table.set_column(index, table.schema.field(name), pc.if_else(pa.array(where), value, table[name]))
    return table
