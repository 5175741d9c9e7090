"""Waves, verdicts and export as one: nothing lost, nothing doubled, the same bytes however the work went."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.curate import decide, export, survey, waves
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import ExportConfig, Selection
from pipeline.curate.through import through
from pipeline.log import cause_of
from pipeline.records import CLIP
from pipeline.storage import CorruptFileError, File, Store
from tests.curate.toy import Cut, DropShort, inputs

RULES = (
    decide.Rules(unit="episode", unique_by="sha256", unique_reason="duplicate_audio"),
    decide.Rules(unit="clip", filters=(DropShort(),)),
)


def curate(url: str, count: int = 60, **config: int) -> Store:
    store = Store(url)
    waves.run(Journal(store), inputs(count), step(**{"wave_rows": 25, "split_rows": 7} | config))
    return store


def step(**config: int) -> waves.Step:
    return waves.Step(name="toy", dag=lambda ds: through(ds, Cut(), schema=CLIP), config=waves.WaveConfig(**config))


def finish(store: Store, **config: int) -> dict[str, str]:
    shards = exported(store, **{"shard_rows": 40} | config)
    return {file.path: file.sha256 for file in shards}


def exported(store: Store, **config: int) -> tuple[File, ...]:
    journal = Journal(store)
    name = decide.decide(journal, RULES, CLIP)
    selection = Selection(verdicts=name, unit="clip", columns=("key", "audio", "text"), as_=ExportConfig(**config))
    return export.export(journal, selection, decide.verdicts(journal, name), CLIP)


@pytest.fixture(scope="module")
def whole(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Store:
    return curate(str(tmp_path_factory.mktemp("waves") / "run"))


def test_every_input_ends_in_one_state(whole: Store) -> None:
    table = decide.verdicts(Journal(whole), decide.decide(Journal(whole), RULES, CLIP))
    books = decide.books(table)
    assert all(book.balances() for book in books.values())
    failed = {3, 28, 53}
    # 0, 10, … 50 and 1, 11, … 51 hold the digests 0…5 twice; 2…5 also lie in the first ten episodes.
    left = [i for i in range(60) if i not in failed]
    digests = {i: (i if i % 10 > 1 else i // 10) for i in left}
    first = {d: min(i for i in left if digests[i] == d) for d in digests.values()}
    kept = {i for i in left if first[digests[i]] == i}
    assert books["episode"].in_ == 60 and books["episode"].failed == {"key_error": 3}
    assert books["episode"].kept == len(kept) and books["episode"].dropped == {"duplicate_audio": 57 - len(kept)}
    assert books["clip"].in_ == 57 * 3 and books["clip"].kept == 2 * len(kept)
    assert books["clip"].dropped == {"clip_too_short": 57, "episode_dropped": 2 * (57 - len(kept))}
    rows = table.to_pylist()
    assert {r["order"] for r in rows if r["unit"] == "episode" and r["state"] == "kept"} == kept
    assert len({r["key"] for r in rows}) == len(rows) == 60 + 57 * 3


def test_a_filter_is_asked_about_its_own_unit_alone(whole: Store) -> None:
    nothing = DropShort(min_s=100)  # clips and episodes alike would be dropped
    for unit, other in (("episode", "clip"), ("clip", "episode")):
        rules = (decide.Rules(unit=unit, filters=(nothing,)), decide.Rules(unit=other))
        journal = Journal(whole)
        books = decide.books(decide.verdicts(journal, decide.decide(journal, rules, CLIP)))
        assert books[unit].kept == 0 and "clip_too_short" not in books[other].dropped
        found = survey.survey(journal, rules, CLIP)
        assert found.alone[unit].keys() == {"DropShort"} and not found.alone[other]


def test_export_is_the_same_for_any_cut_and_arrival_of_the_work(whole: Store, tmp_path: Path, local_ray: None) -> None:
    other = Store(str(tmp_path / "run"))
    shuffled = replace(
        step(wave_rows=31, split_rows=3),
        dag=lambda ds: through(ds.randomize_block_order(seed=1), Cut(), schema=CLIP).randomize_block_order(seed=2),
    )
    waves.run(Journal(other), inputs(60), shuffled)
    assert finish(other, webdataset=True) == finish(whole, webdataset=True)
    tars = [[file.sha256 for file in export.shards(Journal(store))] for store in (other, whole)]
    assert tars[0] == tars[1] and len(tars[0]) % 2 == 1 and len(tars[0]) > 3, "shards, as many tars, an index"
    assert len(finish(whole)) > 1


def test_a_finished_run_does_nothing_again(whole: Store) -> None:
    finish(whole)
    before = {name: os.stat(f"{whole.local_path}/{name}").st_mtime_ns for name in whole.list()}
    curate(whole.url)
    finish(whole)
    assert before == {name: os.stat(f"{whole.local_path}/{name}").st_mtime_ns for name in whole.list()}


def test_a_lost_input_is_never_committed(tmp_path: Path, local_ray: None) -> None:
    store = Store(str(tmp_path))
    with pytest.raises(RuntimeError, match="10 inputs went in and 9 came out"):
        waves.run(Journal(store), inputs(10), replace(step(), dag=lambda ds: ds.limit(9)))
    with pytest.raises(RuntimeError, match="nothing was committed"):
        waves.run(Journal(store), inputs(10), replace(step(), dag=lambda ds: ds.union(ds.limit(1))))
    assert waves.committed(Journal(store)) == set() and waves.parts(Journal(store)) == []


def test_another_attempts_files_are_not_seen_and_not_deleted(tmp_path: Path, local_ray: None) -> None:
    store = Store(str(tmp_path / "run"))
    store.write("rows/000-000000-dead/x.parquet", b"torn")
    store = curate(store.url, count=25)
    assert all("dead" not in part.scores.path for part in waves.parts(Journal(store))) and store.exists(
        "rows/000-000000-dead/x.parquet"
    )


def test_an_altered_file_is_named(tmp_path: Path, local_ray: None) -> None:
    store = curate(str(tmp_path / "run"), count=25)
    decide.decide(Journal(store), RULES, CLIP)
    victim = waves.parts(Journal(store))[0]
    flip(store, victim.payload.path)
    with pytest.raises(Exception, match=victim.payload.path) as caught:
        exported(store)
    assert isinstance(cause_of(caught.value), CorruptFileError)
    flip(store, victim.scores.path)
    stricter = (RULES[0], replace(RULES[1], filters=(DropShort(min_s=2.5),)))
    with pytest.raises(Exception, match=victim.scores.path) as caught:
        decide.decide(Journal(store), stricter, CLIP)
    assert isinstance(cause_of(caught.value), CorruptFileError), "scores are not believed unread"


def flip(store: Store, name: str) -> None:
    data = bytearray(store.read(name))
    data[40] ^= 1
    store.write(name, bytes(data))


def test_on_s3_and_with_a_killed_driver(bucket: str, whole: Store, local_ray: None, tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        "import ray, sys\n"
        "ray.init(address='local', num_cpus=2, include_dashboard=False, object_store_memory=100 << 20,\n"
        "         log_to_driver=False,\n"
        "         _node_ip_address='127.0.0.1', logging_level='ERROR')\n"
        "from tests.curate.test_waves import curate\n"
        f"curate({bucket + '/run'!r})\n"
    )
    store = Store(bucket + "/run")
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 180
    while process.poll() is None and not waves.committed(Journal(store)) and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert waves.committed(Journal(store)), "the driver was killed after its first commit"
    assert finish(curate(store.url)) == finish(whole)
