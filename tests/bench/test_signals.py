"""A trial tells a job that stops well from one that says too much, ends wrongly or leaves something else at last."""

import sys
from pathlib import Path

import pytest

from pipeline.bench.signals import trial

JOB = """
import pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[1])
folder.mkdir(exist_ok=True)
stopped = pathlib.Path(__file__).with_name("stopped")
def stop(number, frame):
    stopped.touch()
    if {torn}:
        (folder / "torn").touch()
    print({words!r}, file=sys.stderr)
    sys.exit({status})
signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
if stopped.exists():  # nobody signals the run after that
    stopped.unlink()
else:
    time.sleep(1.5)
if not (folder / "result").exists():
    (folder / "result").write_text(str(len(list(folder.iterdir()))))
"""


def outcomes(folder: Path, words: str = "stopped", status: str = "128 + number", torn: bool = False):
    (folder / "job.py").write_text(JOB.format(words=words, status=status, torn=torn))
    before = f"{sys.executable} -c \"import os; os.mkdir('{{run_dir}}')\""
    return list(trial(f"{sys.executable} {folder}/job.py {{run_dir}}", [before], moments=2, seed=3))


def test_a_job_that_stops_well_has_nothing_odd(tmp_path: Path) -> None:
    term, interrupt = outcomes(tmp_path)
    assert (term.signal, interrupt.signal, term.points, term.compared_files) == ("SIGTERM", "SIGINT", 2, 1)
    assert term.odd == interrupt.odd == ()
    assert term.wrong_status == term.extra_lines == term.processes_left == term.not_equal == 0


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"torn": True}, "not_equal"),
        ({"words": "Traceback\nstopped"}, "extra_lines"),
        ({"status": "1"}, "wrong_status"),
    ],
)
def test_what_is_wrong_is_counted_and_shown(tmp_path: Path, options: dict[str, str], wrong: str) -> None:
    for outcome in outcomes(tmp_path, **options):
        counted = outcome.points - outcome.before_our_code
        assert getattr(outcome, wrong) == counted == len(outcome.odd) > 0


def test_a_command_that_fails_by_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="'false' fails without a signal .status 1."):
        next(trial("false", [], moments=1))
