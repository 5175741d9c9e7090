"""A command told to end at random moments: does it end in one line, with its status, and resume to the same bytes?

Moments are uniform over the time that the undisturbed command takes, and seeded; every second one is signalled twice.
After each the same command is given again, once, undisturbed; it has to succeed, and to leave what it leaves where
nobody disturbs it. All runs are in one folder, emptied in between, so that what names the folder is equal too.
"""

import random
import shlex
import shutil
import signal
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.bench.report import Bench, Line
from pipeline.chaos.example import Step
from pipeline.chaos.folder import Contents, contents
from pipeline.chaos.signals import Ended, run, shape
from pipeline.log import Progress

_SHOWN = 3  # lines, or names, of a point that went wrong


@dataclass(frozen=True, kw_only=True)
class Signals(Bench):
    """SIGTERM and SIGINT at random moments of a command."""

    command: str | None = None
    """What is signalled, with {run_dir} for the folder of the run; the built-in example by default."""
    before: tuple[str, ...] = ()
    """Commands that come before it, in this order and undisturbed: once, and each point starts as a copy of what they
    left."""
    step: Step = "run"
    """Of the built-in example: a whole run, or what is done to a finished run."""
    moments: int = 20
    """Number of times that each signal is sent."""
    seed: int = 0
    """Number that the moments depend on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.moments < 1:
            raise ValueError(f"--moments is {self.moments}; use 1 or more")
        if self.before and self.command is None:
            raise ValueError("--before comes before a --command, and none is named; --step names a step of the example")
        if self.step != "run" and self.command is not None:
            raise ValueError(f"--step {self.step} is one of the example; leave it out beside --command")


def measure(config: Signals, command: str, before: Sequence[str]) -> Iterator[Line]:
    """One line for each signal; the example's command and what comes before it stand for those that are not named."""
    outcomes = trial(config.command or command, config.before or before, config.moments, config.seed)
    yield from map(asdict, outcomes)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one signal."""

    job: str
    signal: str
    undisturbed_s: float
    points: int
    before_our_code: int
    """Points at which Python itself still started; they count for the resume alone."""
    done_before: int
    wrong_status: int
    extra_lines: int
    """Points at which it said more than its one line, or nothing."""
    processes_left: int
    not_equal: int
    """Points after which the same command failed, or left something else."""
    compared_files: int
    odd: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class _Point:
    ended: Ended
    again: Ended
    differences: tuple[str, ...]

    def odd(self, number: int) -> str:
        """What was wrong, in one line; empty if nothing was."""
        ended = self.ended
        parts = []
        if not ended.early and not (ended.has_right_status(number) and ended.is_quiet() and not ended.left):
            parts.append(f"status {ended.status}, {ended.left} left: {' / '.join(ended.lines[:_SHOWN])}")
        if self.again.status != 0:
            parts.append(f"again: status {self.again.status}: {' / '.join(self.again.lines[-_SHOWN:])}")
        elif self.differences:
            parts.append(f"differs: {', '.join(self.differences[:_SHOWN])}")
        return "; ".join(parts)


def trial(command: str, before: Sequence[str], moments: int, seed: int = 0) -> Iterator[Outcome]:
    """For SIGTERM and for SIGINT: what `moments` runs of the command came to, signalled and given again.

    ValueError if the command, or one of `before`, fails without a signal.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "run")
        base = Path(scratch, "base")
        for preparation in before:
            _undisturbed(preparation, folder)
        if before:
            folder.rename(base)
        _prepare(folder, base)
        first = _undisturbed(command, folder)
        # What is said undisturbed, as warnings of libraries are, is no line of its end.
        usual = frozenset(map(shape, first.lines))
        expected = contents(folder)
        rng = random.Random(seed)
        for number in (signal.SIGTERM, signal.SIGINT):
            points = []
            with Progress(f"signals {number.name}", moments, "points") as progress:
                for i in range(moments):
                    _prepare(folder, base)
                    # Within the undisturbed time: later there is nobody to signal.
                    at_s = rng.uniform(0, first.took_s)
                    ended = run(_words(command, folder), number, at_s, twice=i % 2 == 1, usual=usual)
                    points.append(_resumed(command, folder, ended, expected))
                    progress.advance()
            yield _outcome(command, number, first.took_s, points, len(expected.files))


def _undisturbed(command: str, folder: Path) -> Ended:
    ended = run(_words(command, folder))
    if ended.status != 0:
        raise ValueError(f"{command!r} fails without a signal (status {ended.status}): {' '.join(ended.lines)[-500:]}")
    return ended


def _prepare(folder: Path, base: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if base.exists():
        shutil.copytree(base, folder)


def _resumed(command: str, folder: Path, ended: Ended, expected: Contents) -> _Point:
    again = run(_words(command, folder))
    differences = expected.differences(contents(folder)) if again.status == 0 else []
    return _Point(ended=ended, again=again, differences=tuple(differences))


def _outcome(
    command: str, number: signal.Signals, undisturbed_s: float, points: list[_Point], compared_files: int
) -> Outcome:
    words = shlex.split(command)
    counted = [point.ended for point in points if not point.ended.early]
    return Outcome(
        job=words[words.index("-m") + 1] if "-m" in words else words[0],
        signal=number.name,
        undisturbed_s=round(undisturbed_s, 1),
        points=len(points),
        before_our_code=len(points) - len(counted),
        done_before=sum(ended.status == 0 for ended in counted),
        wrong_status=sum(not ended.has_right_status(number) for ended in counted),
        extra_lines=sum(not ended.is_quiet() for ended in counted),
        processes_left=sum(ended.left > 0 for ended in counted),
        not_equal=sum(point.again.status != 0 or bool(point.differences) for point in points),
        compared_files=compared_files,
        odd=tuple(filter(None, (point.odd(number) for point in points))),
    )


def _words(command: str, folder: Path) -> list[str]:
    return [word.replace("{run_dir}", str(folder)) for word in shlex.split(command)]
