"""The commands that look into a curation run: how they are called, what they refuse, how they end."""

import dataclasses
import json
import re
from pathlib import Path

import pyarrow as pa
import pytest

from jobs import _curations, diff, replay_failure, status
from jobs._curations import open_curation
from jobs._main import named
from pipeline.chaos import example
from pipeline.config import dumps
from pipeline.curate import plan
from pipeline.curate.guard import Guard, GuardConfig
from pipeline.curate.journal import Journal
from pipeline.curate.work import start
from pipeline.manifest import unsealed, write_sealed
from pipeline.records import CLIP, INPUT, LEDGER, key_of
from pipeline.storage import Store
from tests.commands import command
from tests.curate.poison import Harm


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["RUN", "KEY"], ["--run-dir", "RUN", "--key", "KEY"]),
        (["RUN", "--key", "k"], ["--run-dir", "RUN", "--key", "k"]),
        (["--run-dir", "r", "--key", "k"], ["--run-dir", "r", "--key", "k"]),
        (["c.toml", "--key", "k"], ["c.toml", "--key", "k"]),
        ([], []),
    ],
)
def test_first_words_stand_for_options(given: list[str], meant: list[str]) -> None:
    assert named(given, ("run-dir", "key")) == meant


def test_a_run_is_opened_with_the_options_it_was_made_with(tmp_path: Path) -> None:
    from jobs.curate_images import CurateImages

    store = Store(str(tmp_path))
    with pytest.raises(ValueError, match="is no curation run"):
        open_curation(store.url)
    made = CurateImages(run_dir="elsewhere", sources=("list=https://example.org/l.csv",))
    made = dataclasses.replace(made, small=dataclasses.replace(made.small, min_side_px=99))
    store.write("config.json", dumps(made))
    plan.bind(Journal(store), {"job": "curate_images"})
    _, config, curation = open_curation(store.url, ["--flat.min-entropy-bits", "2.5"])
    assert (config.run_dir, config.small.min_side_px, config.flat.min_entropy_bits) == (store.url, 99, 2.5)
    assert curation.name == "curate_images" and config.flat in curation.rules[0].filters
    saved = store.read("config.json")
    store.write("config.json", b"[]")
    with pytest.raises(ValueError, match="config.json holds no table of options; run curate_images again"):
        open_curation(store.url)
    store.write("config.json", saved)
    plan.bind(Journal(store), {"job": "my_job"}, accept=True)
    with pytest.raises(ValueError, match="made by 'my_job', which is none of curate_images, curate_speech"):
        open_curation(store.url)
    assert set(_curations.JOBS) == {"curate_images", "curate_speech"}


@pytest.fixture(scope="module")
def finished(local_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store(str(tmp_path_factory.mktemp("jobs") / "run"))
    example.curation().run(store)
    return store


def test_status_prints_the_books_and_ends_with_1_if_they_do_not_balance(
    finished: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    status.main(status.Status(run_dir=finished.url))
    out = capsys.readouterr().out
    assert "24 inputs: 24 in committed waves, 0 pending" in out
    assert re.search(r"^failed    key_error +3 +0\.000 +0\.00  \(0 retryable\)$", out, re.MULTILINE)
    ledger = unsealed(finished, LEDGER, finished.read(LEDGER))
    wrong = json.loads(json.dumps(ledger))
    wrong["steps"]["clip"]["kept"] -= 1
    write_sealed(finished, LEDGER, wrong)
    with pytest.raises(SystemExit) as left:
        status.main(status.Status(run_dir=finished.url))
    assert left.value.code == 1 and "THE BOOKS DO NOT BALANCE" in capsys.readouterr().out
    write_sealed(finished, LEDGER, ledger)
    with pytest.raises(ValueError, match="no curation run"):
        status.main(status.Status(run_dir=finished.url + "-none"))


def test_a_row_that_killed_its_process_is_replayed_by_command(tmp_path: Path) -> None:
    listed = {"key": key_of("k"), "order": 0, "text": "exit"}
    table = start(pa.Table.from_pylist([listed], schema=INPUT), CLIP, unit="episode")
    Guard(limits=GuardConfig(timeout_s=30.0, memory_mb=4096), run_dir=str(tmp_path)).run(Harm(), table, CLIP)
    replay = ("jobs.replay_failure", str(tmp_path))
    assert command(*replay).stdout == key_of("k") + "\n"
    done = command(*replay, key_of("k"))
    assert done.returncode == 1 and done.stdout.splitlines() == [
        "stage     tests.curate.poison:Harm",
        "it was    worker_killed",
        "it is     worker_killed (exit status 3)",
    ]
    none = command(*replay, "nobody")
    assert none.returncode == 2 and len(none.stderr.splitlines()) == 1 and "has no quarantine/nobody" in none.stderr


def test_a_run_does_not_differ_from_itself_and_has_nothing_in_quarantine(
    finished: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    diff.main(diff.Diff(a=finished.url, b=finished.url))
    assert capsys.readouterr().out.split("\n")[:2] == ["plan      the same", "no sample differs"]
    replay_failure.main(replay_failure.ReplayFailure(run_dir=finished.url))
    assert capsys.readouterr().out == ""


def test_resources_change_what_they_name_and_nothing_else() -> None:
    from jobs.curate_images import CurateImages, curation

    made = CurateImages(
        run_dir="x",
        sources=("list=https://example.org/l.csv",),
        resources=("Fetch.workers=3", "DecodeImage.cpus=0.25", "Fetch.memory_mb=100"),
    )
    assert curation(made).resources == {"Fetch": {"workers": (1, 3), "memory_mb": 100}, "DecodeImage": {"cpus": 0.25}}
    for word in ("Fetch.workers=0", "Fetch.cpus=nan", "Fetch.ram=1", "Fetch", "Fetch.cpus=-1"):
        with pytest.raises(ValueError, match="resources holds .*; write STAGE.WHAT=VALUE"):
            dataclasses.replace(made, resources=(word,))
    with pytest.raises(ValueError, match="no stage 'Decode'"):
        curation(dataclasses.replace(made, resources=("Decode.cpus=1",)))
