"""Audit events number what is written to a disk, and a process dies before the request that is named."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from pipeline.chaos import disk
from pipeline.storage import Store

SCRIPT = (
    "import sys\nfrom pipeline.storage import Store\nstore = Store(sys.argv[1])\n"
    "store.write('a', b'1')\nprint(store.create('b', b'2'))\n"
)


def run(tmp_path: Path, name: str, at: int) -> tuple[int, int, list[str]]:
    folder, pid_file = tmp_path / name, tmp_path / "driver"
    environment = os.environ | disk.prepare(tmp_path)
    disk.watch(tmp_path / "counter", folder, at, pid_file)
    process = subprocess.Popen(
        ["/bin/sh", "-c", 'read _; exec "$@"', "sh", sys.executable, "-c", SCRIPT, str(folder)],
        env=environment,
        start_new_session=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    pid_file.write_text(str(process.pid))
    process.communicate(b"\n", timeout=120)
    found = sorted(name for name in os.listdir(folder)) if folder.exists() else []
    return process.returncode, disk.count(tmp_path / "counter"), found


def test_every_request_is_a_crash_point(tmp_path: Path) -> None:
    status, requests, found = run(tmp_path, "whole", 0)
    # write: open, rename; create: open, link, unlink
    assert (status, requests, found) == (0, 5, ["a", "b"])
    visible = []
    for at in range(1, requests + 1):
        status, count, _ = run(tmp_path, f"run{at}", at)
        assert status == -signal.SIGKILL and count == at
        visible.append(Store(str(tmp_path / f"run{at}")).list())
    assert visible == [[], [], ["a"], ["a"], ["a", "b"]]
