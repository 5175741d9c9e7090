"""A run on a file system that fills up: its error, and whether it completes once there is room. Needs root."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.bench.command import last_line, must_run, run
from pipeline.bench.report import Bench, Line
from pipeline.chaos.verify import examine
from pipeline.curate import waves
from pipeline.curate.journal import Journal
from pipeline.storage import Store

_ROOM_BYTES = 48 << 10  # to begin, not to end: the example writes some 100 kB


@dataclass(frozen=True, kw_only=True)
class DiskFull(Bench):
    """A full disk, and then room on it."""

    size_mb: int = 1
    """MiB of the tmpfs."""


def measure(config: DiskFull, command: str) -> Iterator[Line]:
    """One line. ValueError if the command fails on a healthy disk, or a tmpfs cannot be mounted."""
    with tempfile.TemporaryDirectory() as folder:
        healthy = f"{folder}/reference"
        must_run(command, healthy)
        with _tmpfs(Path(folder, "small"), config.size_mb) as small:
            url = str(small / "run")
            filler = small / "filler"
            disk = os.statvfs(small)
            # All but a little is taken, so that the run begins, and fails in the middle of a write.
            filler.write_bytes(bytes(disk.f_bavail * disk.f_bsize - _ROOM_BYTES))
            full = run(command, url)
            # While it is full: what was committed before must still be there, and whole.
            visible = len(waves.committed(Journal(Store(url))))
            filler.unlink()
            after = run(command, url)
            # To the byte what it would be on a healthy disk.
            is_equal = after.returncode == 0 and examine(Store(url)).exported == examine(Store(healthy)).exported
    yield {
        "status_when_full": full.returncode,
        "error": last_line(full.stderr),
        "waves_visible_when_full": visible,
        "status_with_room": after.returncode,
        "exports_equal": is_equal,
    }


@contextlib.contextmanager
def _tmpfs(folder: Path, size_mb: int) -> Iterator[Path]:
    folder.mkdir()
    # nr_inodes=0: no limit on files; it is bytes that run out.
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,nr_inodes=0", "chaos", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        raise ValueError(f"cannot mount a tmpfs ({mounted.stderr.strip()}); this trial needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=False)
