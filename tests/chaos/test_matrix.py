"""The enumerator on the example and on steps of its finished run: nothing is lost, and its verdict notices what is."""

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from jobs._example import command as example_command
from jobs.chaos import Chaos
from pipeline.chaos import example, verify
from pipeline.chaos.matrix import Point, certificate
from pipeline.chaos.verify import Findings, compare
from pipeline.config import load
from pipeline.storage import Store, read_json


def test_a_comparison_counts_what_is_lost_and_what_is_doubled() -> None:
    wanted = Findings(rows=Counter(a=1, b=2), exported=(), orphan_bytes=0)
    assert compare(wanted, wanted) == (0, 0)
    assert compare(replace(wanted, rows=Counter(a=2, b=1, c=1)), wanted) == (1, 2)


def test_a_run_is_read_back_whole(tmp_path: Path, local_ray: None) -> None:
    store = Store(str(tmp_path))
    example.curation().run(store)
    found = verify.examine(store)
    # 24 inputs, 3 of which fail; 21 x 3 clips; each row once in the waves, once by what it holds and once in the
    # verdicts.
    episodes = [i for i in range(24) if i % 9 != 4]
    kept = [i for i in episodes if not (i % 5 == 4 and i - 1 in episodes)]
    assert found.rows.total() == 24 + 3 * (24 + 3 * len(episodes)) + 2 * len(kept)
    assert found.orphan_bytes == 0 and any(".tar" in name for name in found.exported)
    store.write("rows/000-000000-other/x.parquet", b"12345")
    store.write("export/data/.x.parquet.tmp-1", b"1")
    store.write("lease/000001.json.tmp-1", b"1")
    assert verify.examine(store).orphan_bytes == 6


def test_the_certificate_sums_up() -> None:
    whole = Point(
        fault="kill",
        at=1,
        lost=0,
        duplicated=0,
        same_bytes=True,
        orphan_bytes=7,
        resumes=1,
        first_row_s=2.0,
        finished=True,
    )
    text = certificate(
        [whole, replace(whole, at=2, lost=3, same_bytes=False, first_row_s=4.0), replace(whole, fault="drop")], 9
    )
    assert "| kill | 2 | 2 | 3 | 0 | 1 | 7 | 3.0 s |" in text and "| drop | 1 | 1 | 0 | 0 | 1 | 7 | 2.0 s |" in text


def test_a_point_is_whole_only_if_nothing_is_wrong() -> None:
    whole = Point(
        fault="kill",
        at=1,
        lost=0,
        duplicated=0,
        same_bytes=True,
        orphan_bytes=0,
        resumes=1,
        first_row_s=None,
        finished=True,
    )
    assert whole.is_whole
    for wrong in ({"lost": 1}, {"duplicated": 1}, {"same_bytes": False}, {"orphan_bytes": 1}, {"finished": False}):
        assert not replace(whole, **wrong).is_whole


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--before", "true"], "--before comes before a --command"),
        (["--step", "retry", "--command", "true"], "--step retry is one of the example"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        load(Chaos, argv)
    assert said in capsys.readouterr().err


def enumerate_points(out: Path, *options: str) -> list[dict]:
    """What `jobs.chaos` certifies, as a command of its own: a process can meet only one cluster's token."""
    mine = ("AWS_", "RAY_", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(mine)}
    command = [sys.executable, "-m", "jobs.chaos", *options, "--out", str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    return read_json(Store(str(out)), "certificate.json")["points"]


def test_a_killed_driver_and_a_lost_answer_lose_nothing(tmp_path: Path) -> None:
    points = enumerate_points(tmp_path, "--faults", "kill_after", "drop", "worker", "--at", "40", "80")
    assert [(p["fault"], p["at"], p["finished"]) for p in points] == [
        (fault, at, True) for fault in ("kill_after", "drop", "worker") for at in (40, 80)
    ]
    assert {(p["lost"], p["duplicated"], p["same_bytes"]) for p in points} == {(0, 0, True)}
    assert [p["resumes"] for p in points if p["fault"] == "kill_after"] == [1, 1], "the kill hit the driver"


def test_a_step_of_a_finished_run_is_harmed_on_copies_of_that_run(tmp_path: Path) -> None:
    before, command = example_command("first"), example_command("retry")
    points = enumerate_points(tmp_path, "--before", before, "--command", command, "--at", "60", "100")
    assert [(p["lost"], p["duplicated"], p["same_bytes"], p["resumes"]) for p in points] == [(0, 0, True, 1)] * 2


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["s3", "disk"])
@pytest.mark.parametrize("step", ["retry", "decide", "revoke"])
def test_a_step_killed_at_many_points_ends_as_if_it_had_not_been(step: str, storage: str, tmp_path: Path) -> None:
    assert len(enumerate_points(tmp_path, "--step", step, "--storage", storage, "--every", "17")) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["s3", "disk"])
def test_killed_at_many_points_it_loses_nothing(storage: str, tmp_path: Path) -> None:
    points = enumerate_points(tmp_path, "--storage", storage, "--every", "12")
    assert len(points) >= 5 and all(p["resumes"] >= 1 for p in points[1:-1])


@pytest.mark.slow
def test_nodes_that_die_or_sleep_lose_nothing(tmp_path: Path) -> None:
    assert len(enumerate_points(tmp_path, "--faults", "raylet", "pause", "--at", "40", "80")) == 4
