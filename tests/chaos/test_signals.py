"""What counts as the line of a command, when a signal came too early for it, and who is left of it."""

import signal
import sys
from pathlib import Path

import psutil

from pipeline.chaos import signals

JOB = """
import signal, sys, time
print("example         3/24 inputs  3.72 inputs/s  4s left  wave 1", file=sys.stderr)
print("took 3.5 s", file=sys.stderr, flush=True)
def stop(*_):
    print("stopped", file=sys.stderr)
    sys.exit(143)
signal.signal(15, stop)
time.sleep(0.5 if len(sys.argv) == 1 else 30)
"""


def test_what_counts_as_the_line_of_a_command(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text(JOB)
    first = signals.run([sys.executable, str(script)])
    assert (first.status, first.lines, first.early, first.left) == (0, ("took 3.5 s",), False, 0)
    ended = signals.run([sys.executable, str(script), "long"], 15, 1.5, usual=frozenset(["took 0 s"]))
    assert (ended.status, ended.lines) == (143, ("stopped",))
    assert ended.has_right_status(signal.SIGTERM) and ended.is_quiet()
    assert not ended.has_right_status(signal.SIGINT)
    assert signals.run([sys.executable, str(script), "long"], 15, 0.0).early


def test_a_process_that_is_left_behind_is_counted_and_ended(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(signals, "_SETTLE_S", 1.0)
    code = (
        "import subprocess, sys; print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid, file=sys.stderr)"
    )
    ended = signals.run([sys.executable, "-c", code])
    assert (ended.status, ended.left) == (0, 1)
    assert not psutil.pid_exists(int(ended.lines[0])) or psutil.Process(int(ended.lines[0])).status() == "zombie"
