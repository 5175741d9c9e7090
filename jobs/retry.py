"""Work again on the inputs that a host deferred or that failed for a reason that may pass; nothing else moves.

python -m jobs.retry RUN
python -m jobs.retry --run-dir s3://bucket/images --every
"""

from dataclasses import dataclass

from jobs._curations import open_curation
from jobs._main import run
from jobs._ray import ray_session
from pipeline.curate import audit
from pipeline.curate.journal import Journal
from pipeline.curate.run import summary
from pipeline.lease import hold
from pipeline.log import logger


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Retry failed and deferred inputs of a finished curation run."""

    run_dir: str
    """Folder of the run, any fsspec URL."""
    every: bool = False
    """Retry every failed input, also those whose failure is not expected to pass."""
    accept_plan: bool = False
    """Go on although the configuration, the code or a library changed since the run began."""
    verbose: bool = False
    """Show all that Ray says, and the whole of an error."""


def main(config: Retry) -> None:
    """Retry, or say that there is nothing to retry."""
    store, job, curation = open_curation(config.run_dir)
    # Held before it is looked at: two retries would work on the same inputs.
    with hold(store) as lease:
        journal = Journal(store)
        audit.check(journal)
        with ray_session(job.ray, verbose=config.verbose):
            tried, ledger = curation.retry(
                store, lease, journal=journal, every=config.every, accept_plan=config.accept_plan
            )
    logger.info(f"retry: {tried} inputs were worked on again" if tried else "retry: nothing to retry")
    summary(curation.name, ledger)


if __name__ == "__main__":
    run(Retry, main, "run-dir")
