"""The example of `pipeline.chaos` as a command of its own, which the chaos and the benchmarks start, kill and signal.

python -m jobs._example --run-dir RUN [--step retry]
"""

import sys
from dataclasses import dataclass

from jobs._main import run
from jobs._ray import RayConfig, ray_session
from pipeline.chaos import example
from pipeline.curate import audit
from pipeline.curate.journal import Journal
from pipeline.lease import hold
from pipeline.log import logger
from pipeline.storage import Store


@dataclass(frozen=True, kw_only=True)
class Example:
    """Do a step of the example."""

    run_dir: str
    """Folder of the run, any fsspec URL."""
    step: example.Step = "run"
    """What is done: a whole run, one that half of the inputs are away from, or a step of a finished run."""
    baseline: bool = False
    """The same rows on Ray Data's CheckpointConfig."""
    pause_s: float = 0.0
    """Seconds of work on each input."""
    cpus: int | None = None
    """CPUs of the local Ray; all of this machine's by default."""
    verbose: bool = False
    """Show all that Ray says, and the whole of an error."""


def command(
    step: example.Step = "run", *, pause_s: float = 0.0, baseline: bool = False, cpus: str | None = None
) -> str:
    """The command line that does a step in `{run_dir}`."""
    words = [sys.executable, "-m", "jobs._example", "--run-dir", "{run_dir}", "--step", step]
    words += ["--pause-s", str(pause_s)]
    if cpus:
        words += ["--cpus", cpus]
    if baseline:
        words.append("--baseline")
    return " ".join(words)


def before(step: example.Step, *, pause_s: float = 0.0) -> list[str]:
    """The command lines that come before a step, with the same pause: it is a part of the plan."""
    return [command(earlier, pause_s=pause_s) for earlier in example.BEFORE[step]]


def main(config: Example) -> None:
    """Do the step, as the job of its name does; or say that there is nothing left to do."""
    store = Store(config.run_dir)
    # It has no lease and no journal: Ray Data's own checkpoint is what is tried.
    if config.baseline:
        with ray_session(RayConfig(cpus=config.cpus), verbose=config.verbose):
            example.run_baseline(store)
        return
    toy = example.curation(pause_s=config.pause_s, step=config.step)
    if example.is_done(store, toy, config.step):
        logger.info("example: nothing left to do")
        return
    with hold(store) as lease:
        journal = Journal(store)
        audit.check(journal)
        with ray_session(RayConfig(cpus=config.cpus), verbose=config.verbose):
            example.do(journal, toy, config.step, lease)


if __name__ == "__main__":
    run(Example, main)
