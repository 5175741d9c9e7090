"""The one adapter between stages and Ray Data; every block that leaves a stage has one declared schema."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa

from pipeline.curate import metrics
from pipeline.curate.guard import Guard
from pipeline.curate.stage import Resources, Stage
from pipeline.curate.work import parted, process

if TYPE_CHECKING:
    from ray.data import Dataset


def through(
    dataset: "Dataset",
    *stages: Stage,
    schema: pa.Schema,
    guard: Guard | None = None,
    resources: Mapping[str, Mapping[str, object]] | None = None,
) -> "Dataset":
    """Send a dataset through stages; every block that leaves one has `schema`.

    With a `guard`, stages work in child processes within its limits, so that a row which kills or hangs its process
    costs itself alone. `resources` of a stage, by its name, go before what it says itself.
    """
    from ray.data import ActorPoolStrategy  # so that stages are tested without starting Ray

    for stage in stages:
        given = (resources or {}).get(type(stage).__name__, {})
        needs = replace(stage.resources, **cast(dict[str, Any], given))
        dataset = dataset.map_batches(
            _worker(stage, schema, guard, needs),
            batch_format="pyarrow",
            batch_size=stage.batch_rows,
            zero_copy_batch=True,
            compute=ActorPoolStrategy(min_size=needs.workers[0], max_size=needs.workers[1]) if needs.workers else None,
            num_cpus=needs.cpus,
            num_gpus=needs.gpus or None,
            memory=None if needs.memory_mb is None else needs.memory_mb << 20,
        )
    return dataset


def tables(dataset: "Dataset", *, prefetch: int = 1) -> Iterator[pa.Table]:
    """The blocks of a dataset as they come, in no order; so many of them are fetched ahead."""
    for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=prefetch):
        assert isinstance(block, pa.Table)
        yield block


def _worker(
    stage: Stage, schema: pa.Schema, guard: Guard | None, needs: Resources
) -> Callable[[pa.Table], pa.Table] | type:
    def work(table: pa.Table) -> pa.Table:
        started = time.monotonic()
        if guard is None:
            rows = process(stage, table, schema)
        else:
            gone, waiting = parted(table, schema)
            worked = [guard.run(stage, waiting, schema, gpus=needs.gpus)] if waiting.num_rows else []
            rows = pa.concat_tables([gone, *worked])
        metrics.observe(type(stage).__name__, rows, time.monotonic() - started)
        return rows

    class Worker:
        def __call__(self, table: pa.Table) -> pa.Table:
            return work(table)

    fn = Worker if needs.workers else work
    fn.__name__ = fn.__qualname__ = type(stage).__name__  # what Ray shows in its progress and stats
    return fn
