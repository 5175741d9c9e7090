"""The demo's runner: memory and time are counted over all processes and all attempts."""

import subprocess
import sys
import time

import pytest

from pipeline.demo import runner
from pipeline.storage import Store, read_json


def test_memory_counts_child_processes(tmp_path) -> None:
    before = runner.resident_bytes()
    child = subprocess.Popen(
        [sys.executable, "-c", "x = bytearray(300_000_000); print('ready', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        child.stdout.readline()
        assert runner.resident_bytes() - before > 290_000_000
    finally:
        child.communicate(b"\n")


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
