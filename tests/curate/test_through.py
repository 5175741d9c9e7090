"""The adapter to Ray Data: one schema in every block, whatever a block happens to hold."""

import pyarrow as pa

from pipeline.curate.through import through
from pipeline.curate.work import to_table
from tests.curate.test_work import SCHEMA, DropLarge, Invert, Repeat, rows


def test_through_keeps_one_schema_in_every_block(local_ray: None) -> None:
    import ray

    table = to_table(rows(*range(1, 9), None), SCHEMA)
    dataset = ray.data.from_arrow([table.slice(i, 3) for i in range(0, 9, 3)])
    out = through(dataset, DropLarge(), Repeat(), schema=SCHEMA)
    batches = list(out.iter_batches(batch_size=None, batch_format="pyarrow"))
    assert all(batch.schema == SCHEMA for batch in batches)
    got = sorted((row["key"], str(row["state"])) for batch in batches for row in batch.to_pylist())
    kept = [(f"{x}-{i}", "None") for x in (1, 2, 3) for i in range(x)]
    assert got == sorted([*kept, *((str(x), "dropped") for x in range(4, 9)), ("None", "unknown")])


def test_resources_that_a_user_gives_go_before_the_stages_own(local_ray: None) -> None:
    import ray

    table = to_table(rows(*range(1, 9)), SCHEMA)
    given = {"Invert": {"cpus": 0.5, "memory_mb": 10, "workers": (2, 2)}}
    out = through(
        ray.data.from_arrow([table.slice(i, 2) for i in range(0, 8, 2)]), Invert(), schema=SCHEMA, resources=given
    )
    assert sorted(row["x"] for row in pa.concat_tables(out.iter_batches(batch_format="pyarrow")).to_pylist()) == sorted(
        12 // x for x in range(1, 9)
    )
