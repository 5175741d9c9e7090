"""A curation run from sources to shards: discover inputs, score them in waves, decide, export, write the ledger.

Guarantees: each step commits before the next begins, and a step that is there is not done again, so the same command
resumes at any point. The ledger is made of the verdicts, and a run whose books do not balance is an error.
"""
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pipeline.config import digest
from pipeline.curate import decide, export, waves
from pipeline.curate.stage import Row, start
from pipeline.log import logger
from pipeline.records import INPUT, key_of
from pipeline.storage import Store, read_json, write_json

if TYPE_CHECKING:
    from ray.data import Dataset

LEDGER = "ledger.json"


@dataclass(frozen=True, kw_only=True)
class Curation:
    """All that one corpus needs: where inputs come from, the DAG that scores them, the rules that judge them."""

    name: str
    sources: tuple[str, ...]
    """Listings to read, each as KIND=URL."""
    discover: Callable[[str], list[Row]]
    """KIND=URL -> rows of records.INPUT in the listing's order; what cannot be read is one row that says so."""
    schema: pa.Schema
    unit: str
    """What an input becomes a row of; parts that stages split off carry another unit."""
    renamed: dict[str, str] = field(default_factory=dict)
    dag: "Callable[[Dataset], Dataset]"
    rules: tuple[decide.Rules, ...]
    export_unit: str
    export_columns: tuple[str, ...]
    plan: dict[str, Any]
    """What the scores depend on: resuming under another plan is refused. Thresholds are not part of it."""
    waves: waves.WaveConfig
    export: export.ExportConfig
    shuffle_partitions: int = 2

    def is_finished(self, store: Store) -> bool:
        """True if this very curation has been done; needs neither Ray nor the network."""
        inputs = waves.read_inputs(store)
        if inputs is None or not waves.is_complete(store, inputs, self.waves) or not store.exists(LEDGER):
            return False
        if not waves.is_bound(store, self.plan, digest(inputs["key"].to_pylist())):
            return False
        name = decide.name_of(store, self.rules)
        return read_json(store, LEDGER)["verdicts"] == name and export.is_current(store, self._wanted(name))

    def run(self, store: Store, *, accept_plan: bool = False) -> dict[str, Any]:
        """Do what is left to do; returns the ledger. Needs Ray."""
        inputs = waves.read_inputs(store)
        if inputs is None:
            inputs = waves.write_inputs(store, self._discover())
        if inputs.num_rows == 0:
            raise ValueError(f"the sources name no inputs: {', '.join(self.sources)}")
        waves.bind_plan(store, self.plan, digest(inputs["key"].to_pylist()), accept=accept_plan)
        waves.run(store, start(inputs, self.schema, unit=self.unit, **self.renamed), self.dag, self.waves, name=self.name)
        name = decide.decide(store, self.rules, self.schema, partitions=self.shuffle_partitions)
        shards = export.export(store, self._wanted(name), self.schema, self.export)
        books = decide.books(decide.verdicts(store, name))
        ledger = {"verdicts": name, "unit": self.unit, "exported_rows": sum(file.rows for file in shards), "steps": books}
        write_json(store, LEDGER, ledger)
        if unbalanced := [unit for unit, book in books.items() if not decide.balances(book)]:
            raise RuntimeError(f"the books of {', '.join(unbalanced)} do not balance; see {store.url}/{LEDGER}")
        return ledger

    def _wanted(self, name: str) -> dict[str, Any]:
        return {"verdicts": name, "unit": self.export_unit, "columns": list(self.export_columns)}

    def _discover(self) -> pa.Table:
        import ray

        discover = self.discover

        def read(item: Row) -> list[Row]:
            return [row | {"source": item["source"], "_listing": item["listing"], "_place": place}
                    for place, row in enumerate(discover(item["source"]))]

        listings = [{"source": source, "listing": i} for i, source in enumerate(self.sources)]
        found = ray.data.from_items(listings, override_num_blocks=len(listings)).flat_map(read).take_all()
        found.sort(key=lambda row: (row["_listing"], row["_place"]))
        return _unique([{k: v for k, v in row.items() if k in INPUT.names} for row in found])


def _unique(rows: list[Row]) -> pa.Table:
    """Number the inputs; one that was listed before is an input too, and leaves as a duplicate."""
    seen: dict[str, int] = {}
    for order, row in enumerate(rows):
        row["order"] = order
        again = seen.get(row["key"], 0)
        seen[row["key"]] = again + 1
        if again:
            row |= {"key": key_of(row["key"], str(again)), "state": "dropped", "reason": "duplicate_url"}
    return pa.Table.from_pylist(rows, schema=INPUT)


def summary(name: str, ledger: dict[str, Any]) -> None:
    """Say in a few lines where everything went."""
    for unit, book in ledger["steps"].items():
        reasons = [f"{reason} {n}" for state in ("dropped", "failed", "unknown", "deferred") for reason, n in book[state].items()]
        logger.info("%s: %d of %d %ss kept%s", name, book["kept"], book["in"], unit, "; " + ", ".join(reasons) if reasons else "")
