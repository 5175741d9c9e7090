"""Commands are told to end, as real processes: one line, the documented status, and a run that goes on."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs import _example
from pipeline.bench.signals import trial
from pipeline.chaos import example, signals
from pipeline.lease import hold
from pipeline.storage import Store, read_json

ROOT = Path(__file__).parents[2]
BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


def start(*argv: str) -> subprocess.Popen:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"} | {
        "PYTHONPATH": str(ROOT)
    }
    return subprocess.Popen(
        [sys.executable, "-m", *argv],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def prepared(process: subprocess.Popen) -> None:
    """Until our code runs: before that the signals are Python's."""
    end = time.monotonic() + 120
    while not signals.is_prepared(process.pid):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.001)


def line(number: signal.Signals) -> str:
    return f"stopped by {number.name}; run the same command again to go on\n"


@BOTH
@pytest.mark.parametrize("job", ["curate_images", "decide", "status", "train_gpt", "generate", "chaos"])
def test_a_command_that_still_imports_ends_in_one_line(job: str, number: signal.Signals) -> None:
    process = start(f"jobs.{job}", "--help")
    prepared(process)
    time.sleep(random.Random(f"{job}{number}").uniform(0.0, 0.3))
    process.send_signal(number)
    out, said = process.communicate(timeout=120)
    assert (process.returncode, out, said) == (128 + number, "", line(number))


@BOTH
def test_the_overview_ends_so_too(number: signal.Signals) -> None:
    process = start("jobs._main", "curate_speech", "--help")
    prepared(process)
    process.send_signal(number)
    assert (process.wait(120), process.communicate()[1]) == (128 + number, line(number))


@BOTH
@pytest.mark.parametrize("twice", [False, True], ids=["once", "twice"])
def test_a_curation_ends_in_one_line_and_gives_its_run_back(
    number: signal.Signals, twice: bool, tmp_path: Path
) -> None:
    store = Store(str(tmp_path / "run"))
    process = start("jobs._example", "--run-dir", store.url, "--pause-s", "2")
    end = time.monotonic() + 100
    while not store.list("lease"):
        assert process.poll() is None and time.monotonic() < end, process.communicate()
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(number)
    if twice:
        time.sleep(0.4)
        process.send_signal(number)
    said = process.communicate(timeout=120)[1]
    assert (process.returncode, said) == (128 + number, line(number))
    with hold(store) as held:  # released, or its holder is dead
        assert held.epoch == 2


@pytest.mark.slow
@pytest.mark.parametrize("step", ["run", "retry", "revoke"])
def test_signals_at_any_moment_end_a_curation_well(step: example.Step) -> None:
    command, before = _example.command(step, pause_s=0.1), _example.before(step, pause_s=0.1)
    for outcome in trial(command, before, moments=4, seed=1):
        assert outcome.odd == () and outcome.points == 4 and outcome.not_equal == 0 and outcome.compared_files > 5


TRAINING = """
import sys
from dataclasses import dataclass
from pathlib import Path
from jobs._main import run
from jobs._ray import RayConfig, ray_session

@dataclass(frozen=True, kw_only=True)
class Config:
    folder: str
    verbose: bool = False

def main(config):
    at = Path(config.folder)
    with ray_session(RayConfig(cpus=2), verbose=False):  # before imports of Ray, whose environment it sets
        from pipeline.train.launch.fit import fit
        from tests.train import tiny
        from tests.train.test_faults import settings, worker
        fit(worker, **settings(tiny.dataset(at / "data").url, str(at / "run"), at, pause_s=0.5,
                               train=tiny.config(checkpoint_every=100)))

run(Config, main)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "status", "said"),
    [
        ([signal.SIGTERM], 143, r"stopped, after the checkpoint of step \d+; run the same command again to go on\n"),
        ([signal.SIGTERM] * 2, 143, r"stopped(, after the checkpoint of step \d+| by SIGTERM); run the same .*\n"),
        ([signal.SIGINT], 130, r"stopped by SIGINT; run the same command again to go on\n"),
    ],
    ids=["SIGTERM", "SIGTERM twice", "SIGINT"],
)
def test_training_saves_at_sigterm_and_says_so_in_its_one_line(
    sent: list[signal.Signals], status: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "training.py").write_text(TRAINING)
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"}
    with subprocess.Popen(
        [sys.executable, "-m", "training", "--folder", str(tmp_path)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        marks, end = tmp_path / "marks", time.monotonic() + 240
        while not (marks.exists() and "step 2 " in marks.read_text()):
            assert process.poll() is None and time.monotonic() < end, process.communicate()
            time.sleep(0.05)
        for number in sent:
            process.send_signal(number)
            time.sleep(0.3)
        heard = process.communicate(timeout=120)[1]
    assert process.returncode == status and re.fullmatch(said, heard), (process.returncode, heard)
    assert read_json(Store(str(tmp_path / "run")), "lease/000001.json")["released"]
