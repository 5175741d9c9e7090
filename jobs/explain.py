"""Show where one row came from and where it went, by its key or its URL.

python -m jobs.explain RUN KEY
python -m jobs.explain RUN https://example.org/a.png
"""

from dataclasses import dataclass

from jobs._curations import open_curation
from jobs._main import run
from pipeline.curate.explain import explain, matching
from pipeline.log import say
from pipeline.manifest import read_sealed
from pipeline.records import LEDGER

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
    if not store.exists(LEDGER):
        raise ValueError(f"{config.run_dir} is not finished, it has no {LEDGER}; run its job again first")
    verdicts = read_sealed(store, LEDGER)["verdicts"]
    for number, verdict in enumerate(matching(store, config.row, verdicts)):
        if number:
            say()
        for line in explain(store, verdict, curation.rules):
            say(line, limit=_LINE_CHARS)


if __name__ == "__main__":
    run(Explain, main, "run-dir", "row")
