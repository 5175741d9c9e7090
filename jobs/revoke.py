"""Take back what must not be kept: recorded, taken out of the waves and the export, never fetched again.

    python -m jobs.revoke RUN --host example.org
    python -m jobs.revoke RUN --url https://example.org/a.png --key 0f3a… --license CC-BY-NC-4.0 --note "mail of 3 May"
"""
from dataclasses import dataclass

from jobs._curations import open_curation, positional
from jobs._main import run
from jobs._ray import ray_session
from pipeline.curate.revoke import Kind, Revocation
from pipeline.curate.run import summary


@dataclass(frozen=True, kw_only=True)
class Revoke:
    """Revoke rows of a curation run; each option may name several."""

    run_dir: str
    """Folder of the run, any fsspec URL."""
    host: tuple[str, ...] = ()
    """Hosts of files or of their pages, with their subdomains."""
    url: tuple[str, ...] = ()
    """URLs of files or of their pages."""
    key: tuple[str, ...] = ()
    """Keys of rows, or of the inputs that they were made from."""
    license: tuple[str, ...] = ()
    """Licenses, as the sources wrote them."""
    note: str = ""
    """Who asked for it; kept with the record."""
    verbose: bool = False


def main(config: Revoke) -> None:
    """Record and obey."""
    kinds: tuple[Kind, ...] = ("host", "url", "key", "license")
    wanted = [Revocation(kind=kind, value=value.lower() if kind == "host" else value, note=config.note)
              for kind in kinds for value in getattr(config, kind)]
    if not wanted:
        raise ValueError("nothing to revoke; name a --host, --url, --key or --license")
    store, job, curation = open_curation(config.run_dir)
    with ray_session(job.ray, verbose=config.verbose):
        summary(curation.name, curation.revoke(store, wanted))


if __name__ == "__main__":
    positional("run-dir")
    run(Revoke, main)
