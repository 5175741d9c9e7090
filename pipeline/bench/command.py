"""Commands that benchmarks of a curation start, with `{run_dir}` for the folder of the run."""

import os
import shlex
import subprocess
from collections.abc import Mapping

_LIMIT_S = 300.0  # ten times what the example takes on two busy cores


def words(command: str, run_dir: str) -> list[str]:
    """The command as a list, its folder filled in."""
    return [word.replace("{run_dir}", run_dir) for word in shlex.split(command)]


def run(command: str, run_dir: str, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run it to its end, whatever its status; TimeoutExpired after five minutes."""
    return subprocess.run(
        words(command, run_dir),
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=_LIMIT_S,
    )


def must_run(command: str, run_dir: str, environment: Mapping[str, str] | None = None) -> None:
    """Run it; ValueError with the end of what it said if it fails."""
    done = run(command, run_dir, environment)
    if done.returncode:
        raise ValueError(f"{command!r} fails with status {done.returncode}: {done.stderr[-500:]}")


def last_line(text: str) -> str:
    """The last line of a command's stderr; empty if there is none."""
    return (text.strip().splitlines() or [""])[-1]
