"""Storage requests on a local disk, numbered across processes, with a kill at the one that is named.

Python's audit events tell of every file opened for writing, renamed, linked or deleted below a folder, before it
happens, without a change to the code that does it. `prepare` makes the environment in which every Python process of a
run (driver and workers) listens; each event takes the next number from a counter file under a lock.
"""

import fcntl
import os
import signal
import sys
from pathlib import Path

_COUNTER = "TRIPTYCH_CHAOS_COUNTER"
_EVENTS = {"os.rename", "os.link", "os.remove"}


def prepare(scratch: Path) -> dict[str, str]:
    """Environment variables for the processes to watch; `watch` tells what to watch for."""
    site = scratch / "site"
    site.mkdir(parents=True, exist_ok=True)
    # Python imports a sitecustomize by itself as it starts, so Ray's workers need not be told.
    (site / "sitecustomize.py").write_text("from pipeline.chaos import disk\ndisk.install()\n")
    root = Path(__file__).parents[2]
    path = os.pathsep.join(filter(None, [str(site), str(root), os.environ.get("PYTHONPATH")]))
    return {"PYTHONPATH": path, _COUNTER: str(scratch / "counter")}


def watch(counter: Path, folder: Path, at: int, pid_file: Path) -> None:
    """Count requests below `folder` from 0 on; at request `at`, kill the process group whose number `pid_file`
    holds."""
    # Put in place at once: a process of the run before may still look.
    staged = counter.with_suffix(".new")
    staged.write_text(f"0\n{folder}\n{at}\n{pid_file}\n")
    os.replace(staged, counter)


def count(counter: Path) -> int:
    """How many requests there were."""
    return int(counter.read_text().split("\n")[0])


def install() -> None:
    """Listen in this process."""
    if os.environ.get(_COUNTER):
        sys.addaudithook(_hook)


def _hook(event: str, args: tuple[object, ...]) -> None:
    if event == "open":
        # Reads change nothing, so they are no crash points.
        path, mode, flags = args
        if not isinstance(path, str) or not (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)):
            return
    elif event in _EVENTS:
        path = args[0]
    else:
        return
    counter = os.environ[_COUNTER]
    # Without the counter: it is opened for each number, which raises this event again.
    if isinstance(path, str) and path.startswith(os.path.dirname(counter)) and path != counter:
        _step(counter, path)


def _step(counter: str, path: str) -> None:
    try:
        # None is left once the trial is over, and a process may outlive it.
        descriptor = os.open(counter, os.O_RDWR)
    except OSError:
        return
    try:
        # Driver and workers count together: each number is given once.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        number, folder, at, pid_file = os.pread(descriptor, 4096, 0).decode().strip().split("\n")
        if not path.startswith(folder):
            return
        number = str(int(number) + 1)
        # Always nine digits: the text never gets shorter, and no end of a longer one stays behind.
        os.pwrite(descriptor, f"{int(number):09d}\n{folder}\n{at}\n{pid_file}\n".encode(), 0)
        if number == at:
            os.killpg(int(Path(pid_file).read_text()), signal.SIGKILL)
    finally:
        os.close(descriptor)
