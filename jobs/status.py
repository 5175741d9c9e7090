"""Show where every input of a curation run is; status 1 if its books do not balance.

    python -m jobs.status --run-dir runs/demo/images
"""
from dataclasses import dataclass

from jobs._main import run
from pipeline.curate import decide, waves
from pipeline.curate.run import LEDGER
from pipeline.records import STATES
from pipeline.storage import Store, read_json


@dataclass(frozen=True, kw_only=True)
class Status:
    """Print the ledger of a curation run."""

    run_dir: str


def main(config: Status) -> None:
    """Print one table per unit."""
    store = Store(config.run_dir)
    inputs = waves.read_inputs(store)
    if inputs is None:
        raise ValueError(f"{config.run_dir} is no curation run, or has no inputs yet; see its --run-dir")
    done = sum(waves.wave_manifest(store, wave)["inputs"] for wave in waves.committed(store))
    print(f"{inputs.num_rows} inputs, {done} in committed waves, {inputs.num_rows - done} pending")
    if not store.exists(LEDGER):
        return
    balanced = True
    for unit, book in read_json(store, LEDGER)["steps"].items():
        print(f"\n{unit:<10} {'rows':>8} {'hours':>9} {'MB':>9}")
        print(f"{'in':<34} {book['in']:>8}")
        for state in STATES:
            reasons = {"": book["kept"]} if state == "kept" else book[state]
            for reason, rows in reasons.items():
                print(f"{state:<9} {reason:<24} {rows:>8}")
            print(f"{state:<9} {'in all':<24} {sum(reasons.values()):>8} {book['hours'].get(state, 0):>9.3f} "
                  f"{book['bytes'].get(state, 0) / 1e6:>9.2f}")
        if not decide.balances(book):
            balanced = False
            print(f"{unit}: THE BOOKS DO NOT BALANCE")
    if not balanced:
        raise SystemExit(1)


if __name__ == "__main__":
    run(Status, main)
