"""A command told to end at random moments: does it end in one line, with its status, and resume to the same bytes?

Guarantees: moments are uniform over the time that the undisturbed command takes, and seeded; every second moment
signals twice. What a command prints in any case does not count as its line: lines of `Progress`, known by their shape,
and lines that the undisturbed command prints too, compared without their digits.
"""

import contextlib
import os
import random
import re
import shlex
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.chaos.verify import Findings, compare, examine
from pipeline.storage import Store

_PROGRESS = re.compile(r"\S.{14,} {1,2}?[\d.e+]+(/[\d.e+]+)? (\w+)  [\d.e+-]+ \2/s\b")
_BETWEEN_S = 0.3  # between two signals; what comes within 0.2 s of a signal is the same one to a command
_LIMIT_S = 300.0
_RESUMES = 3


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended; `said` without what it says in any case, `status` None if it had to be killed."""

    status: int | None
    said: tuple[str, ...]
    took_s: float
    early: bool
    """The signal came while Python itself started, before any line of ours could run."""


def trial(command: str, moments: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """For SIGTERM and for SIGINT: what `moments` runs of a command with {run_dir} in it came to, signalled and
    resumed."""
    with tempfile.TemporaryDirectory() as folder:
        first = run(_words(command, f"{folder}/reference"))
        if first.status != 0:
            raise ValueError(
                f"the command fails without a signal (status {first.status}): {' '.join(first.said)[-500:]}"
            )
        usual = frozenset(map(_shape, first.said))
        wanted = examine(Store(f"{folder}/reference"))
        rng = random.Random(seed)
        for number in (signal.SIGTERM, signal.SIGINT):
            runs, equal = [], []
            for i in range(moments):
                words = _words(command, f"{folder}/{number}-{i}")
                runs.append(run(words, number, rng.uniform(0, first.took_s), twice=i % 2 == 1, usual=usual))
                equal.append(_resumes(words, Store(f"{folder}/{number}-{i}"), wanted))
            yield (
                {"signal": number.name, "undisturbed_s": round(first.took_s, 1)}
                | _report(number, runs)
                | {"resumed_equal": sum(equal), "exported_files": len(wanted.exported)}
            )


def is_right(ended: Ended, number: int) -> bool:
    """One line and 128 + the signal, or success without a line: the work was done before."""
    return (ended.status, len(ended.said)) in ((128 + number, 1), (0, 0))


def _report(number: int, runs: list[Ended]) -> dict[str, Any]:
    counted = [ended for ended in runs if not ended.early]
    return {
        "moments": len(runs),
        "before_our_code": len(runs) - len(counted),
        "statuses": dict(Counter(str(ended.status) for ended in counted)),
        "one_line": sum(len(ended.said) == 1 for ended in counted),
        "right_status": sum(ended.status in (128 + number, 0) for ended in counted),
        "right": sum(is_right(ended, number) for ended in counted),
        "odd": [[ended.status, *ended.said[:3]] for ended in counted if not is_right(ended, number)],
    }


def run(
    words: list[str], number: int = 0, at_s: float = 0.0, *, twice: bool = False, usual: frozenset[str] = frozenset()
) -> Ended:
    """Run a command, and signal it, alone in its process group, `at_s` seconds after its start."""
    with tempfile.TemporaryFile() as log:
        began = time.monotonic()
        # Under nohup or a shell's `&` SIGINT is ignored, and a child would inherit that.
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        early = False
        for wait_s in [at_s, _BETWEEN_S][: (number > 0) + twice]:
            try:
                process.wait(wait_s)
            except subprocess.TimeoutExpired:
                early = early or not is_prepared(process.pid)
                process.send_signal(number)
        try:
            process.wait(_LIMIT_S)
            status: int | None = process.returncode
        except subprocess.TimeoutExpired:
            status = None
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        took_s = time.monotonic() - began
        log.seek(0)
        lines = log.read().decode(errors="backslashreplace").splitlines()
    said = tuple(line for line in lines if line.strip() and not _PROGRESS.match(line) and _shape(line) not in usual)
    return Ended(status=status, said=said, took_s=took_s, early=early)


def _resumes(words: list[str], store: Store, wanted: Findings) -> bool:
    """Whether the same command, given again, ends well, with all rows once and the same exported bytes."""
    for _ in range(_RESUMES):
        if run(words).status == 0:
            found = examine(store)
            return compare(found, wanted) == (0, 0) and found.exported == wanted.exported
    return False


def is_prepared(pid: int) -> bool:
    """Whether a process blocks or catches SIGTERM, as Linux tells."""
    with contextlib.suppress(OSError):
        masks = dict(
            re.findall(r"^(Sig\w+):\s*([0-9a-f]+)$", Path(f"/proc/{pid}/status").read_text("ascii"), re.MULTILINE)
        )
        return bool((int(masks["SigBlk"], 16) | int(masks["SigCgt"], 16)) >> (signal.SIGTERM - 1) & 1)
    return True


def _shape(line: str) -> str:
    return re.sub(r"[0-9.]+", "0", line)


def _words(command: str, url: str) -> list[str]:
    return [word.replace("{run_dir}", url) for word in shlex.split(command)]
