"""The example has what breaks other checkpoints: fan-out, a filter, inputs that fail; and steps that change a finished
run."""

import shutil
from collections import Counter
from pathlib import Path

from pipeline.chaos import example, verify
from pipeline.curate import decide, waves
from pipeline.curate.journal import Journal
from pipeline.lease import hold
from pipeline.storage import Store
from tests.curate.finished import ledger_of


def test_the_listing_is_stable_and_the_baseline_fans_out_and_filters() -> None:
    rows = example.listing(24)
    assert rows == example.listing(24) and len({row["key"] for row in rows}) == 24
    parts = [part for row in rows for part in example._cut(row) if example._is_long(part)]
    wanted = {(part["key"], part["part"]) for part in parts}
    failing = [row for row in rows if row["order"] % 9 == 4]
    assert len(failing) == 3 and len(wanted) == (24 - 3) * 2
    assert {part for _, part in wanted} == {1, 2} and not {row["key"] for row in failing} & {key for key, _ in wanted}


def do(store: Store, step: example.Step) -> dict[str, Counter[str]]:
    """The books of the example after a step: unit -> reason -> rows."""
    with hold(store) as lease:
        example.do(Journal(store), example.curation(step=step), step, lease)
    table = decide.verdicts(Journal(store), ledger_of(store).verdicts, ["unit", "state", "reason"])
    books: dict[str, Counter[str]] = {"episode": Counter(), "clip": Counter()}
    for unit, state, reason in zip(*(table[name].to_pylist() for name in table.column_names), strict=True):
        books[unit][reason or state] += 1
    return books


def test_each_step_changes_the_run_and_ends_where_a_whole_run_does(tmp_path: Path, local_ray: None) -> None:
    store, other = Store(str(tmp_path / "run")), Store(str(tmp_path / "other"))
    assert do(store, "first")["episode"] == {"kept": 10, "key_error": 2, "retry_later": 6, "timeout": 6}
    back = do(store, "retry")
    assert back == do(other, "run") and back["episode"] == {"kept": 19, "key_error": 3, "duplicate_audio": 2}
    assert len(waves.committed(Journal(store), 1)) == 2, "a round can be cut short between two waves"
    whole, again = verify.examine(other), verify.examine(store)
    assert whole.exported == again.exported
    assert verify.compare(again, whole)[0] == 11 * 3, "the clips of 11 inputs that came back are held by round 1"
    shutil.rmtree(other.url)
    shutil.copytree(store.url, other.url)
    assert do(other, "decide")["clip"]["kept"] == back["clip"]["kept"] // 2
    gone = do(store, "revoke")
    assert gone["episode"]["revoked_copy"] == 1 and gone["clip"]["revoked_copy"] == 2 and gone["clip"]["revoked"] == 6
    lost, doubled = verify.compare(verify.examine(store), again)
    assert lost > 0 and doubled > 0, "what is held, or is not held any longer, is seen"
