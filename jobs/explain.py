"""Show where one row came from and where it went.

    python -m jobs.explain RUN KEY
"""
from dataclasses import dataclass

from jobs._curations import open_curation, positional
from jobs._main import run
from pipeline.curate.explain import explain
from pipeline.curate.run import LEDGER
from pipeline.storage import read_json


@dataclass(frozen=True, kw_only=True)
class Explain:
    """Explain one row of a curation run."""

    run_dir: str
    """Folder of the run, any fsspec URL."""
    key: str
    """Key of a row, or the beginning of one."""


def main(config: Explain) -> None:
    """Print its story, a line each."""
    store, _, curation = open_curation(config.run_dir)
    if not store.exists(LEDGER):
        raise ValueError(f"{config.run_dir} is not finished; run its job again first")
    print("\n".join(explain(store, config.key, curation.rules, read_json(store, LEDGER)["verdicts"])))


if __name__ == "__main__":
    positional("run-dir", "key")
    run(Explain, main)
