"""List the rows of a curation run that ended in one way: keys, URLs, and what was said of them.

python -m jobs.rows RUN --state failed --reason http_404
python -m jobs.rows RUN --state dropped --out dropped.csv       # or .jsonl, .parquet; any fsspec URL
"""

import csv
import io
import json
from collections import Counter
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from jobs._main import run
from pipeline.curate import decide
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import Ledger
from pipeline.log import clean, logger, say
from pipeline.ranges import check_range
from pipeline.records import LEDGER, VERDICT
from pipeline.storage import Store, parquet_bytes

_COLUMNS = [name for name in VERDICT.names if name not in ("order", "file", "row")]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """List rows by how they ended."""

    run_dir: str
    """Folder of the run, any fsspec URL."""
    state: Literal["kept", "dropped", "failed", "unknown", "deferred"] | None = None
    """Only rows that ended in this state."""
    reason: str | None = None
    """Only rows that ended for this reason."""
    unit: str | None = None
    """Only rows of this unit: image, episode or clip."""
    limit: int = 100
    """Rows to print; --out writes all."""
    out: str | None = None
    """A file for all of them: *.csv, *.jsonl or *.parquet, any fsspec URL."""

    def __post_init__(self) -> None:
        check_range(self, "limit", low=0)
        if self.out is not None and self.out.rpartition(".")[2] not in _WRITERS:
            raise ValueError(f"out is {self.out!r}; name a file that ends in .{', .'.join(_WRITERS)}")


def main(config: Rows) -> None:
    """Print or write them."""
    journal = Journal(Store(config.run_dir))
    ledger = journal.find(LEDGER, Ledger)
    if ledger is None:
        raise ValueError(f"{config.run_dir} is no finished curation run: it has no {LEDGER}; run its job (again) first")
    whole = decide.verdicts(journal, ledger.verdicts, _COLUMNS)
    table = whole
    for name in ("state", "reason", "unit"):
        if (value := getattr(config, name)) is not None:
            # A kept row has no reason, and null is equal to nothing.
            table = table.filter(pc.fill_null(pc.equal(table[name], value), False))
    if config.out:
        folder, _, name = config.out.rpartition("/")
        Store(folder or ".").write(name, _WRITERS[config.out.rpartition(".")[2]](table))
        logger.info("%d rows, written to %s", table.num_rows, config.out)
    else:
        _show(table, config.limit)
    # A word may be misspelt: say which there are.
    if table.num_rows == 0:
        ends = Counter(decide.ending(row) for row in whole.select(["state", "reason"]).to_pylist())
        logger.info("rows there are: %s", ", ".join(f"{number} {end}" for end, number in sorted(ends.items())))


def _show(table: pa.Table, limit: int) -> None:
    for row in table.slice(0, limit).to_pylist():
        parts = (f"{decide.ending(row):<34}", row["key"], row["url"], clean(row["detail"] or "", 200))
        say("  ".join(part for part in parts if part), limit=800)
    hidden = max(0, table.num_rows - limit)
    more = f", of which {hidden} are not shown; see --limit and --out" if hidden else ""
    logger.info("%d rows%s", table.num_rows, more)


def _as_csv(table: pa.Table) -> bytes:
    """One line a row; what a spreadsheet would take for a formula is marked as text by an apostrophe before it."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(table.column_names)
    for row in table.to_pylist():
        writer.writerow([_cell(value) for value in row.values()])
    return text.getvalue().encode()


def _cell(value: object) -> object:
    if not isinstance(value, str):
        return value
    value = clean(value, 10_000)
    return f"'{value}" if value.startswith(("=", "+", "-", "@")) else value


def _as_jsonl(table: pa.Table) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in table.to_pylist()).encode()


_WRITERS = {"csv": _as_csv, "jsonl": _as_jsonl, "parquet": lambda table: parquet_bytes(table, 65536)}


if __name__ == "__main__":
    run(Rows, main, "run-dir")
