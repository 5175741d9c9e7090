"""One command, signalled at one moment: how it ends, what it says, and who is left of it.

What a command prints in any case does not count as its line: lines of `Progress`, known by their shape, and lines that
the undisturbed command prints too, compared without their digits. A process is one of the command's if it has the
command's mark in its environment, so one that has left the process group is found as well; psutil reads it on Linux.
"""

import contextlib
import os
import re
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

_MARK = "TRIPTYCH_SIGNAL_TRIAL"
_PROGRESS = re.compile(r"\S.{14,} {1,2}?[\d.e+]+(/[\d.e+]+)? (\w+)  [\d.e+-]+ \2/s\b")
_BETWEEN_S = 0.3  # between two signals; what comes within 0.2 s of a signal is the same one to a command
_LIMIT_S = 600.0  # longer than any job of the debug profile
_SETTLE_S = 5.0  # Ray's daemons look after their driver once a second, and then end


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended."""

    status: int | None
    """None if it had to be killed."""
    lines: tuple[str, ...]
    """Of stderr, without what the command says in any case."""
    took_s: float
    early: bool
    """The signal came while Python itself started, before any line of ours could run."""
    left: int
    """Its processes that were still alive some seconds after its end."""

    def has_right_status(self, number: int) -> bool:
        """True for 128 + the signal, and for success: the work was done before."""
        return self.status in (128 + number, 0)

    def is_quiet(self) -> bool:
        """True if it said one line, or none because the work was done before."""
        return len(self.lines) == (self.status != 0)


def run(
    words: Sequence[str],
    number: int = 0,
    at_s: float = 0.0,
    *,
    twice: bool = False,
    usual: frozenset[str] = frozenset(),
) -> Ended:
    """Run a command, and send it signal `number`, to it alone in its process group, `at_s` seconds after its start.

    `usual` holds the shapes of lines that do not count; number 0 sends nothing.
    """
    mark = secrets.token_hex(8)
    moments_s = [at_s, _BETWEEN_S] if twice else [at_s]
    with tempfile.TemporaryFile() as log:
        began_s = time.monotonic()
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=os.environ | {_MARK: mark},
            start_new_session=True,
            # Under nohup or a shell's `&` SIGINT is ignored, and a child would inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        early = False
        for wait_s in moments_s if number else ():
            try:
                process.wait(wait_s)
            except subprocess.TimeoutExpired:
                # Until then the status is Python's own, and says nothing of ours.
                early = early or not is_prepared(process.pid)
                process.send_signal(number)
        status = _status(process)
        took_s = time.monotonic() - began_s
        # Not by parent or process group: Ray's daemons leave both.
        left = _clear(mark)
        log.seek(0)
        said = log.read().decode(errors="backslashreplace").splitlines()
    lines = [line for line in said if line.strip() and not _PROGRESS.match(line) and shape(line) not in usual]
    return Ended(status=status, lines=tuple(lines), took_s=took_s, early=early, left=left)


def shape(line: str) -> str:
    """A line without its digits."""
    return re.sub(r"[0-9.]+", "0", line)


def is_prepared(pid: int) -> bool:
    """Whether a process blocks or catches SIGTERM, as Linux tells."""
    with contextlib.suppress(OSError):
        text = Path(f"/proc/{pid}/status").read_text("ascii")
        masks = dict(re.findall(r"^(Sig\w+):\s*([0-9a-f]+)$", text, re.MULTILINE))
        return bool((int(masks["SigBlk"], 16) | int(masks["SigCgt"], 16)) >> (signal.SIGTERM - 1) & 1)
    return True


def _status(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(_LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def _clear(mark: str) -> int:
    """Wait for the processes with this mark to end; how many did not, and were killed."""
    end_s = time.monotonic() + _SETTLE_S
    while (processes := _marked(mark)) and time.monotonic() < end_s:
        time.sleep(0.1)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=_SETTLE_S)
    return len(processes)


def _marked(mark: str) -> list[psutil.Process]:
    processes = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            # A zombie is dead; it waits for its parent alone.
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(_MARK) == mark:
                processes.append(process)
    return processes
