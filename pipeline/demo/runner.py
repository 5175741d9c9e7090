"""Runs the demo's commands one after the other, as a user would, and measures them from outside.

Guarantees: a command that fails stops the demo with its own status; wall time and peak memory count over all attempts,
killed ones included, because they are written down every second.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from pipeline import signals
from pipeline.log import logger
from pipeline.storage import Store, read_json

_POLL_S = 0.05
_ROOT = str(Path(__file__).parents[2])


class Meter:
    """Wall seconds and peak resident memory (GB, summed over this process and all below it), kept in `name` of the
    store."""

    def __init__(self, store: Store, name: str = "meter.json", interval_s: float = 0.5) -> None:
        self._store = store
        self._name = name
        self._interval_s = interval_s
        before = read_json(store, name) if store.exists(name) else {"wall_s": 0.0, "peak_rss_gb": 0.0}
        self._wall_s: float = before["wall_s"]
        self.peak_rss_gb: float = before["peak_rss_gb"]
        self._start = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="meter", daemon=True)

    @property
    def wall_s(self) -> float:
        """Seconds spent so far, earlier attempts included."""
        return self._wall_s + time.monotonic() - self._start

    def __enter__(self) -> "Meter":
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.peak_rss_gb = max(self.peak_rss_gb, resident_bytes() / 1e9)
            # In whole, each time: a kill costs no more than the last interval.
            self._store.write(self._name, json.dumps({"wall_s": self.wall_s, "peak_rss_gb": self.peak_rss_gb}).encode())


def resident_bytes() -> int:
    """Resident memory of this process and all its descendants; pages that they share count once for each."""
    own = psutil.Process()
    total = 0
    for process in [own, *own.children(recursive=True)]:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:  # it ended since it was listed
            continue
    return total


def run_job(name: str, arguments: Sequence[str]) -> None:
    """Run `python -m jobs.NAME ARGUMENTS`; SystemExit with its status if it fails. A signal to us is passed on to it,
    and it is waited for: training saves first."""
    path = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH", "")]))
    # Of a signal one line is said, and that by us.
    environment = os.environ | {"PYTHONPATH": path, signals.QUIET: "1"}
    job = subprocess.Popen([sys.executable, "-m", f"jobs.{name}", *arguments], env=environment)
    try:
        # Not `wait`, which sleeps before it lets an interrupt through: Ctrl-C reaches the job too, and must look like
        # one.
        while (status := job.poll()) is None:
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        job.send_signal((signals.status() or 128 + signal.SIGINT) - 128)
        job.wait()
        raise
    if status:
        logger.error("error: jobs.%s ended with status %d; run the same command again to go on", name, status)
        # Popen says -n of a job that died of signal n, and a shell 128 + n.
        raise SystemExit(status if status > 0 else 128 - status)
