"""The enumerator on the example: at the most delicate request nothing is lost, and its verdict notices what is."""
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.curate.chaos import example, verify
from pipeline.curate.chaos.matrix import Point, certificate, harness, point, reference
from pipeline.curate.chaos.verify import Findings, compare
from pipeline.storage import Store

COMMAND = f"{sys.executable} -m jobs.chaos --example-run {{run_dir}}"


def test_a_comparison_counts_what_is_lost_and_what_is_doubled() -> None:
    wanted = Findings(rows=Counter(a=1, b=2), exported=(), orphan_bytes=0)
    assert compare(wanted, wanted) == (0, 0)
    assert compare(replace(wanted, rows=Counter(a=2, b=1, c=1)), wanted) == (1, 2)


def test_a_run_is_read_back_whole(tmp_path: Path, local_ray: None) -> None:
    store = Store(str(tmp_path))
    example.curation().run(store)
    found = verify.examine(store)
    # 24 inputs, 3 of which fail; 21 x 3 clips; each row once in the waves and once in the verdicts.
    episodes = [i for i in range(24) if i % 9 != 4]
    kept = [i for i in episodes if not (i % 5 == 4 and i - 1 in episodes)]
    assert found.rows.total() == 2 * (24 + 3 * len(episodes)) + 2 * len(kept)
    assert found.orphan_bytes == 0 and any("wds-" in name for name in found.exported)
    store.write("rows/000-000000-other/x.parquet", b"12345")
    assert verify.examine(store).orphan_bytes == 5


def test_the_certificate_sums_up() -> None:
    whole = Point(fault="kill", at=1, lost=0, duplicated=0, same_bytes=True, orphan_bytes=7, resumes=1, first_row_s=2.0,
                  finished=True)
    text = certificate([whole, replace(whole, at=2, lost=3, same_bytes=False, first_row_s=4.0), replace(whole, fault="drop")], 9)
    assert "| kill | 2 | 2 | 3 | 0 | 1 | 7 | 3.0 s |" in text and "| drop | 1 | 1 | 0 | 0 | 1 | 7 | 2.0 s |" in text


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS", "PYTHONPATH"):
        monkeypatch.setenv(name, "")  # so that it is put back whatever the harness makes of it
        monkeypatch.delenv(name)


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["s3", "disk"])
def test_killed_at_many_points_it_loses_nothing(storage: str, tmp_path: Path, clean_environment: None) -> None:
    with harness(COMMAND, verify.examine, tmp_path, storage=storage) as made:
        wanted, requests = reference(made)
        points = [point(made, wanted, "kill", at) for at in range(2, requests + 1, max(1, requests // 6))]
    assert [(p.lost, p.duplicated, p.same_bytes, p.finished) for p in points] == [(0, 0, True, True)] * len(points)


@pytest.mark.slow
def test_the_answer_to_the_commit_is_lost(tmp_path: Path, clean_environment: None) -> None:
    with harness(COMMAND, verify.examine, tmp_path, storage="s3") as made:
        wanted, _ = reference(made)
        at = next(i for i, seen in enumerate(made.proxy.seen, 1) if seen.method == "PUT" and "/waves/" in seen.path)
        for fault in ("drop", "kill_after", "worker"):
            found = point(made, wanted, fault, at)
            assert (found.lost, found.duplicated, found.same_bytes, found.finished) == (0, 0, True, True), fault
