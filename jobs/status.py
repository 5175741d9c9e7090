"""Show where every input of a curation run is; status 1 if its books do not balance.

    python -m jobs.status RUN
"""
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from jobs._curations import positional
from jobs._main import run
from pipeline.curate import decide, waves
from pipeline.curate.run import LEDGER
from pipeline.records import STATES
from pipeline.storage import Store, read_json


@dataclass(frozen=True, kw_only=True)
class Status:
    """Print the ledger of a curation run."""

    run_dir: str
    """Folder of the run, any fsspec URL."""


def main(config: Status) -> None:
    """Print the inputs, then one table per unit."""
    store = Store(config.run_dir)
    inputs = waves.read_inputs(store, ["key"])
    if inputs is None:
        raise ValueError(f"{config.run_dir} is no curation run, or has no inputs yet; see its --run-dir")
    made = waves.every_manifest(store)
    done = sum(wave["inputs"] for wave in made if wave["round"] == 0)
    again = len(waves.superseded(made))
    print(f"{inputs.num_rows} inputs: {done} in committed waves, {inputs.num_rows - done} pending"
          + (f"; {again} were worked on again" if again else ""))
    balanced = done <= inputs.num_rows
    if store.exists(LEDGER):
        ledger = read_json(store, LEDGER)
        table = decide.verdicts(store, ledger["verdicts"], ["unit", "state", "reason", "retryable"])
        balanced &= ledger["steps"].get(ledger["unit"], {"in": 0})["in"] == done == inputs.num_rows
        for unit, book in ledger["steps"].items():
            _show(unit, book, _retryable(table.filter(pc.equal(table["unit"], unit))))
            balanced &= decide.balances(book)
    else:
        for name, rows in sorted(sum((Counter(wave["counts"]) for wave in made), Counter()).items()):
            print(f"{name.replace('/', ' '):<34} {rows:>8}")
    if not balanced:
        print("THE BOOKS DO NOT BALANCE")
        raise SystemExit(1)


def _retryable(table: Any) -> dict[str, int]:
    failed = table.filter(pc.and_(pc.equal(table["state"], "failed"), pc.fill_null(table["retryable"], False)))
    return Counter(failed["reason"].to_pylist())


def _show(unit: str, book: dict[str, Any], retryable: dict[str, int]) -> None:
    print(f"\n{unit:<34} {'rows':>8} {'hours':>9} {'MB':>9}")
    total = {name: sum(book[name].values()) for name in ("hours", "bytes")}
    print(f"{'in':<34} {book['in']:>8} {total['hours']:>9.3f} {total['bytes'] / 1e6:>9.2f}")
    for state in STATES:
        reasons = {} if state == "kept" else book[state]
        for reason, rows in reasons.items():
            note = f"  ({retryable.get(reason, 0)} retryable)" if state == "failed" else ""
            print(f"{state:<9} {reason:<24} {rows:>8}{note}")
        rows = book["kept"] if state == "kept" else sum(reasons.values())
        size_mb = book["bytes"].get(state, 0) / 1e6
        print(f"{state:<9} {'in all':<24} {rows:>8} {book['hours'].get(state, 0):>9.3f} {size_mb:>9.2f}")


if __name__ == "__main__":
    positional("run-dir")
    run(Status, main)
