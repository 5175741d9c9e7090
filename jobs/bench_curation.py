"""Measure what a curation's promises cost, on this machine, each beside its baseline.

python -m jobs.bench_curation --trial overhead      # waves against one plain Ray Data pass, in turn
python -m jobs.bench_curation --trial resume        # a finished run of 10^4, 10^5 and 10^6 inputs
python -m jobs.bench_curation --trial flaky         # 5 % and 20 % of storage requests answered 503 or reset
python -m jobs.bench_curation --trial disk_full     # a full tmpfs; needs root
python -m jobs.bench_curation --trial two_drivers
python -m jobs.bench_curation --trial workers       # the same bytes from 1, 2 and 4 workers
python -m jobs.bench_curation --trial signals       # SIGTERM and SIGINT at random moments of the example, or of
--command
"""

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from statistics import median
from typing import Any, Literal

from jobs._example import command as example_command
from jobs._main import run
from jobs._ray import RayConfig, ray_session
from pipeline.bench import curation, signals
from pipeline.chaos import example

Trial = Literal["overhead", "resume", "flaky", "disk_full", "two_drivers", "workers", "signals"]


@dataclass(frozen=True, kw_only=True)
class BenchCuration:
    """Measure one promise of the curation core."""

    trial: Trial
    """What to measure."""
    rounds: int = 3
    """How often overhead and flaky repeat; medians are printed."""
    wave_s: float = 60.0
    """Seconds of work in one wave, for overhead."""
    sizes: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """Numbers of inputs, for resume."""
    rates: tuple[float, ...] = (0.05, 0.2)
    """Shares of storage requests that fail, for flaky."""
    command: str | None = None
    """What is signalled, with {run_dir} for the folder of the run; the built-in example by default."""
    before: tuple[str, ...] = ()
    """Commands that come before it, in this order and undisturbed: once, and each point starts as a copy of what they
    left."""
    step: example.Step = "run"
    """Of the built-in example: a whole run, or what is done to a finished run."""
    moments: int = 20
    """How often each signal is sent."""
    ray: RayConfig = field(default_factory=RayConfig)
    verbose: bool = False


def main(config: BenchCuration) -> None:
    """Print the machine, then one JSON object a measurement."""
    libraries = {name: version(name) for name in ("ray", "pyarrow", "s3fs")}
    print(
        json.dumps(
            {
                "date": f"{datetime.now(UTC):%Y-%m-%d}",
                "machine": platform.machine(),
                "cpus": os.cpu_count(),
                "python": platform.python_version(),
            }
            | libraries
        ),
        flush=True,
    )
    for line in _measure(config):
        print(json.dumps(line), flush=True)


def _measure(config: BenchCuration) -> Iterator[dict[str, Any]]:
    if config.trial == "overhead":
        cpus = config.ray.cpus or os.cpu_count() or 1
        with ray_session(config.ray, verbose=config.verbose):
            found = []
            for line in curation.overhead(config.wave_s, config.rounds, cpus):
                found.append(line)
                yield line
            yield {name: median(line[name] for line in found) for name in ("waves_s", "plain_s", "overhead")} | {
                "of": "medians"
            }
    elif config.trial == "resume":
        yield from curation.resume(config.sizes)
    elif config.trial == "flaky":
        yield from curation.flaky(config.rates, config.rounds, example_command(pause_s=0.2))
    elif config.trial == "disk_full":
        yield curation.disk_full(example_command())
    elif config.trial == "workers":
        yield curation.workers(example_command(pause_s=0.05, cpus="{cpus}"), (1, 2, 4))
    elif config.trial == "signals":
        command = config.command or example_command(config.step, pause_s=0.2)
        before = config.before or [example_command(step) for step in example.BEFORE[config.step]]
        yield from map(asdict, signals.trial(command, before, config.moments))
    else:
        yield curation.two_drivers(example_command(pause_s=2.0))


if __name__ == "__main__":
    run(BenchCuration, main)
