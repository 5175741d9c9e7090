"""The demo's runner: memory and time are counted over all processes and all attempts."""

import subprocess
import sys
import time

import pytest

from pipeline.demo import runner
from pipeline.storage import Store, read_json

_PARENT = """
import subprocess, sys
from pipeline.demo import runner
before = runner.resident_bytes()
child = subprocess.Popen(
    [sys.executable, "-c", "x = bytearray(300_000_000); print('ready', flush=True); input()"],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
)
child.stdout.readline()
print(runner.resident_bytes() - before)
child.communicate(b"\\n")
"""


def test_memory_counts_child_processes() -> None:
    # In a process of its own: children of the tests' one (Ray's workers) come and go meanwhile.
    grown = subprocess.run([sys.executable, "-c", _PARENT], capture_output=True, text=True, check=True).stdout
    assert 290_000_000 < int(grown) < 400_000_000


def test_the_meter_goes_on_where_a_killed_attempt_stopped(tmp_path) -> None:
    store = Store(str(tmp_path))
    with runner.Meter(store, interval_s=0.05) as meter:
        time.sleep(0.3)
    first = read_json(store, "meter.json")
    assert 0.2 < first["wall_s"] <= meter.wall_s and first["peak_rss_gb"] > 0.01
    with runner.Meter(store, interval_s=0.05) as meter:
        time.sleep(0.2)
        assert meter.wall_s >= first["wall_s"] + 0.2 and meter.peak_rss_gb >= first["peak_rss_gb"]


def test_a_job_that_fails_stops_the_demo_with_its_status() -> None:
    with pytest.raises(SystemExit) as leave:
        runner.run_job("status", ["--run-dir", "/nowhere/at/all"])
    assert leave.value.code == 2
