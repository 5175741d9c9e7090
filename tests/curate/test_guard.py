"""One bad row costs one row, whatever it does to the process it is worked on in."""

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.curate import guard
from pipeline.curate.guard import Guard, GuardConfig
from pipeline.curate.stage import Stage
from pipeline.curate.through import through
from pipeline.curate.work import start
from pipeline.records import CLIP, INPUT, key_of
from pipeline.storage import Store
from tests.curate.poison import Harm, HarmBatch, Reserve

POISON = {100: "raise", 350: "exit", 600: "memory", 850: "hang"}
REASONS = {"raise": "key_error", "exit": "worker_killed", "memory": "out_of_memory", "hang": "timeout"}


def rows(count: int, poison: dict[int, str]) -> pa.Table:
    listed = [{"key": key_of(str(i)), "order": i, "text": poison.get(i, "good")} for i in range(count)]
    return start(pa.Table.from_pylist(listed, schema=INPUT), CLIP, unit="episode")


def limited(run_dir: Path, timeout_s: float = 1.0) -> Guard:
    return Guard(limits=GuardConfig(timeout_s=timeout_s, memory_mb=4096), run_dir=str(run_dir))


def test_four_poison_rows_of_a_thousand_cost_four(tmp_path: Path, local_ray: None) -> None:
    import ray

    table = rows(1000, POISON)
    dataset = ray.data.from_arrow([table.slice(i, 125) for i in range(0, 1000, 125)])
    out = through(dataset, Harm(), schema=CLIP, guard=limited(tmp_path))
    got = [row for batch in out.iter_batches(batch_size=None, batch_format="pyarrow") for row in batch.to_pylist()]
    failed = {row["order"]: row["reason"] for row in got if row["state"] == "failed"}
    assert failed == {order: REASONS[how] for order, how in POISON.items()}
    kept = sorted(row["order"] for row in got if row["state"] is None and row["duration_s"] == 1.0)
    assert kept == [i for i in range(1000) if i not in POISON]


def test_a_batch_is_bisected_and_each_death_is_named(tmp_path: Path) -> None:
    poison = {3: "segfault", 9: "exit"}
    out = limited(tmp_path, 60.0).run(HarmBatch(), rows(16, poison), CLIP).to_pylist()
    assert {row["order"]: row["reason"] for row in out if row["state"]} == {3: "worker_killed", 9: "worker_killed"}
    assert "SIGSEGV" in out[3]["detail"] and "poison.py" in out[3]["detail"] and out[9]["detail"] == "exit status 3"
    assert len(out) == 16


@pytest.mark.parametrize(("how", "stage"), [("exit", Harm()), ("hang", HarmBatch())])
def test_a_quarantined_row_can_be_replayed(tmp_path: Path, how: str, stage: Stage) -> None:
    store, table = Store(str(tmp_path)), rows(1, {0: how})
    limited(tmp_path, 0.3).run(stage, table, CLIP)
    key = table["key"][0].as_py()
    again = guard.replay(store, key)
    assert (again.was, again.reason, again.rows) == (REASONS[how], REASONS[how], ())
    healed = table.set_column(table.schema.get_field_index("text"), "text", pa.array(["good"]))
    work = guard.Work(stage=stage, schema=CLIP, limits=GuardConfig())
    guard._quarantine(store, work, healed, guard.Leave("failed", "timeout"))
    assert guard.replay(store, key).rows[0]["duration_s"] == 1.0
    with pytest.raises(ValueError, match="has no quarantine/none"):
        guard.replay(store, "none")


def test_a_bundle_cannot_name_what_is_no_stage() -> None:
    with pytest.raises(ValueError, match="no stage"):
        guard._stage(guard.Bundle(stage="os:getcwd", config={}, reason="", detail="", limits=GuardConfig()))


def test_a_stage_that_the_run_gives_gpus_has_no_limit_of_address_space(tmp_path: Path) -> None:
    """CUDA maps more than any limit; what counts is what the run asks for (`--resources`), not the stage's own."""
    work = guard.Work(stage=Harm(), schema=CLIP, limits=GuardConfig(memory_mb=4096))
    assert work.memory_bytes == 4096 << 20 and replace(work, gpus=1.0).memory_bytes == 0
    for gpus, reason in ((0.0, "os_error"), (1.0, None)):
        row = limited(tmp_path, 60.0).run(Reserve(), rows(1, {}), CLIP, gpus=gpus).to_pylist()[0]
        assert row["reason"] == reason


def test_a_wrong_stage_is_an_error_of_the_run(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not in the schema"):
        limited(tmp_path).run(Harm(), rows(1, {}), pa.schema([field for field in CLIP if field.name != "duration_s"]))
