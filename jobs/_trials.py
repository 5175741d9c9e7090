"""The trials of `jobs.bench` that need more than torch: a name, the options, what is measured."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

from jobs import _example
from jobs._main import run
from jobs._ray import RayConfig, ray_session
from pipeline.bench import (
    consent,
    disk_full,
    flaky,
    overhead,
    politeness,
    report,
    resume,
    signals,
    two_drivers,
    workers,
)
from pipeline.bench.config import Ddp, Loader, Recovery
from pipeline.bench.report import Bench, Line
from pipeline.config import fail

B = TypeVar("B", bound=Bench)


def _trial(schema: type[B], measure: Callable[[B], Iterator[Line]]) -> Callable[[str], None]:
    """What reads a `schema` from the command line and publishes what is measured, under the command that is named."""

    def trial(command: str) -> None:
        def main(config: B) -> None:
            session = ray_session(RayConfig(), verbose=config.verbose, min_cpus=config.ray_cpus)
            with session if config.ray_cpus else contextlib.nullcontext():
                report.publish(command, measure(config), config.out)

        run(schema, main)

    return trial


def _signals(config: signals.Signals) -> Iterator[Line]:
    pause_s = 0.2  # of each input, so that a run is work for the most part, and not the start of Ray
    command = _example.command(config.step, pause_s=pause_s)
    return signals.measure(config, command, _example.before(config.step, pause_s=pause_s))


# Those below import torch, and for seconds: not before their options are read.


def _ddp(config: Ddp) -> Iterator[Line]:
    from pipeline.bench import ddp

    return ddp.measure(config)


def _loader(config: Loader) -> Iterator[Line]:
    from pipeline.bench import loader

    return loader.measure(config)


def _recovery(config: Recovery) -> Iterator[Line]:
    from pipeline.bench import recovery

    return recovery.measure(config)


TRIALS = {
    "ddp": _trial(Ddp, _ddp),
    "loader": _trial(Loader, _loader),
    "recovery": _trial(Recovery, _recovery),
    "overhead": _trial(overhead.Overhead, overhead.measure),
    "resume": _trial(resume.Resume, resume.measure),
    "flaky": _trial(flaky.Flaky, lambda config: flaky.measure(config, _example.command(pause_s=0.2))),
    "disk_full": _trial(disk_full.DiskFull, lambda config: disk_full.measure(config, _example.command())),
    "two_drivers": _trial(
        two_drivers.TwoDrivers, lambda config: two_drivers.measure(config, _example.command(pause_s=2.0))
    ),
    "workers": _trial(
        workers.Workers, lambda config: workers.measure(config, _example.command(pause_s=0.05, cpus="{cpus}"))
    ),
    "politeness": _trial(politeness.Politeness, politeness.measure),
    "consent": _trial(consent.Consent, consent.measure),
    "signals": _trial(signals.Signals, _signals),
}


def start(name: str, options: list[str]) -> None:
    """Run a trial with these options, and end the process; status 2 for a name that is none."""
    if name not in TRIALS:
        fail(f"no trial {name!r}; use one of train_step, {', '.join(TRIALS)}")
    sys.argv[1:] = options
    TRIALS[name](" ".join(["python -m jobs.bench", name, *options]))
