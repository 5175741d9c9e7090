"""A process that is told to end does so in one line and with its status, wherever it is; a mere import changes
nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipeline import signals
from pipeline.storage import Store, read_json

ROOT = Path(__file__).parents[1]
HEAD = """
import os, signal, sys, threading, time
from pipeline import signals

def ready():
    print("ready", flush=True)

signals.install()
"""


def ended(script: str, *sent: tuple[signal.Signals, float], env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Status, stdout and stderr of a script that is signalled once it is ready, each time after some seconds."""
    with subprocess.Popen(
        [sys.executable, "-c", HEAD + script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | (env or {}),
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n", process.communicate()[1]
        for number, after_s in sent:
            try:
                process.wait(after_s)
            except subprocess.TimeoutExpired:
                process.send_signal(number)
        out, said = process.communicate(timeout=120)
        return process.returncode, out, said


def line(number: signal.Signals) -> str:
    return f"stopped by {number.name}; run the same command again to go on\n"


WORKING = """
signals.work()
try:
    ready()
    time.sleep(30)
except signals.Stopped:
    print("released", flush=True)
    print("noise of the end", file=sys.stderr, flush=True)
    sys.exit(signals.status())
"""
RESTING = "ready(); time.sleep(30)"
STUCK = "signals.work()\ntry:\n    ready(); time.sleep(30)\nexcept signals.Stopped:\n    time.sleep(30)"
LOST = """
class Deaf:
    def __del__(self):
        ready()
        time.sleep(10)
signals.work()
try:
    Deaf()
    for _ in range(300):
        time.sleep(0.1)
except signals.Stopped:
    print("raised again", flush=True)
    sys.exit(signals.status())
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize(
    ("script", "said"), [(WORKING, "released\n"), (RESTING, ""), (LOST, "raised again\n")], ids=["work", "rest", "lost"]
)
def test_one_signal_is_one_line_and_its_status(number: signal.Signals, script: str, said: str) -> None:
    assert ended(script, (number, 0.2)) == (128 + number, said, line(number))


@pytest.mark.parametrize("state", ["signals.work()", "signals.rest()"])
def test_an_end_at_once_gives_a_lease_back(state: str, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    script = (
        f"from pipeline.lease import hold\nfrom pipeline.storage import Store\n"
        f"{state}\nwith hold(Store({store.url!r})):\n"
        "    try:\n        ready(); time.sleep(30)\n    finally:\n        time.sleep(30)\n"
    )
    assert ended(script, (signal.SIGTERM, 0.2), (signal.SIGTERM, 0.4)) == (143, "", line(signal.SIGTERM))
    assert read_json(store, "lease/000001.json")["released"]


def test_a_release_that_hangs_delays_the_end_but_little() -> None:
    script = "with signals.releasing(lambda: time.sleep(600)):\n    ready(); time.sleep(30)"
    assert ended(script, (signal.SIGTERM, 0.2)) == (143, "", line(signal.SIGTERM))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_process_that_is_stuck(number: signal.Signals) -> None:
    assert ended(STUCK, (number, 0.2), (number, 0.4)) == (128 + number, "", line(number))


def test_no_thread_runs_what_ray_puts_in_the_place_of_our_handlers() -> None:
    """A handler of C, as Ray's core installs it while it starts; threads of ours and of C libraries run already."""
    script = (
        "import ctypes\nsignals.work()\nthreading.Thread(target=time.sleep, args=(30,), daemon=True).start()\n"
        "with signals.resting():\n    for number in (15, 2):\n"
        "        ctypes.CDLL(None).signal(number, ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p))\n"
        "    if {ready}:\n        ready(); time.sleep(30)\nready()\ntry:\n    time.sleep(30)\n"
        "except signals.Stopped:\n    sys.exit(signals.status())\n"
    )
    for starting in (True, False):
        for number in (signal.SIGTERM, signal.SIGINT):
            assert ended(script.format(ready=starting), (number, 0.2)) == (128 + number, "", line(number))


def test_the_same_signal_told_twice_is_one(tmp_path: Path) -> None:
    slow = WORKING.replace('print("released"', 'time.sleep(1); print("released"')
    for script in (slow, RESTING):
        status, out, said = ended(script, (signal.SIGTERM, 0.2), (signal.SIGTERM, 0.0))
        assert (status, said) == (143, line(signal.SIGTERM)) and (out == "released\n") == (script == slow)


def test_what_cannot_end_is_ended_after_a_while_with_its_children(tmp_path: Path) -> None:
    child = tmp_path / "child"
    script = (
        "import subprocess\nsignals._PATIENCE_S = 1.0\nchild = subprocess.Popen([sys.executable, '-c', 'import time; "
        f"time.sleep(60)'])\nopen({str(child)!r}, 'w').write(str(child.pid))\n{STUCK}"
    )
    assert ended(script, (signal.SIGTERM, 0.2)) == (143, "", line(signal.SIGTERM))
    deadline = time.monotonic() + 10  # it was killed, and a busy machine takes its time to end it
    while is_alive(int(child.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_command_that_another_one_runs_leaves_the_line_to_it() -> None:
    assert ended(WORKING, (signal.SIGTERM, 0.2), env={signals.QUIET: "1"}) == (143, "released\n", "")


def test_ignored_signals_stay_ignored() -> None:
    """As under nohup: only SIGTERM ends such a process."""
    shell = f"trap '' INT; exec {sys.executable} -c \"$0\""
    with subprocess.Popen(
        ["/bin/sh", "-c", shell, HEAD + RESTING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.terminate()
        assert (process.wait(10), process.communicate()[1]) == (143, line(signal.SIGTERM))


def test_children_have_the_usual_handlers() -> None:
    script = (
        "import multiprocessing\ndef child():\n    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])\n"
        "    print(signal.getsignal(15) == signal.SIG_DFL, signal.SIGTERM in blocked, flush=True)\n"
        "p = multiprocessing.get_context('fork').Process(target=child); p.start(); p.join()\nready(); sys.exit(5)"
    )
    done = subprocess.run(
        [sys.executable, "-c", HEAD + script],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=120,
    )
    assert (done.returncode, done.stdout, done.stderr) == (5, "True False\nready\n", "")


def test_an_import_of_jobs_changes_no_handler() -> None:
    script = """
import signal
before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
import jobs._main
from pipeline import signals
assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set() and not signals._now.installed
"""
    # In a process of its own: a job that another test ran in this one has installed them.
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True, timeout=120)
