"""Show where one row came from and where it went, by its key or its URL.

python -m jobs.explain RUN KEY
python -m jobs.explain RUN https://example.org/a.png
"""

from dataclasses import dataclass

from jobs._curations import open_curation
from jobs._main import run
from pipeline.curate.explain import explain, matching
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import Ledger
from pipeline.log import say
from pipeline.records import LEDGER

# A transcript in a row would fill the screen.
_LINE_CHARS = 1000


@dataclass(frozen=True, kw_only=True)
class Explain:
    """Explain one row of a curation run, or all that came from one URL."""

    run_dir: str
    """Folder of the run, any fsspec URL."""
    row: str
    """Key of a row, or the beginning of one; or the URL of a file, in any spelling."""


def main(config: Explain) -> None:
    """Print its story, a line each."""
    store, _, curation = open_curation(config.run_dir)
    journal = Journal(store)
    ledger = journal.find(LEDGER, Ledger)
    if ledger is None:
        raise ValueError(f"{config.run_dir} is not finished, it has no {LEDGER}; run its job again first")
    for number, verdict in enumerate(matching(journal, config.row, ledger.verdicts)):
        if number:
            say()
        for line in explain(journal, verdict, curation.rules):
            say(line, limit=_LINE_CHARS)


if __name__ == "__main__":
    run(Explain, main, "run-dir", "row")
