"""A curation run from sources to shards: discover inputs, score them in waves, decide, export, write the ledger.

Guarantees: each step commits before the next begins, and a step that is there is not done again, so the same command
resumes at any point. The ledger is made of the verdicts, names the export by its digest and is written last, once what
no manifest names is deleted: a run without a current ledger is not finished, and the same command ends it. A run whose
books do not balance is an error.
"""

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import to_json
from pipeline.curate import code, decide, export, forget, plan, revoke, sweep, waves
from pipeline.curate.guard import Guard
from pipeline.curate.stage import Row, Stage
from pipeline.curate.through import through
from pipeline.curate.waves import Step
from pipeline.curate.work import start
from pipeline.lease import Lease, hold
from pipeline.log import clean, logger
from pipeline.manifest import read_sealed, write_sealed
from pipeline.records import INPUT, LEDGER, key_of
from pipeline.redact import is_redacted, redacted_option, redacted_text
from pipeline.storage import Store

if TYPE_CHECKING:
    from ray.data import Dataset


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
    """Column of the schema -> its name among the inputs, where they differ."""
    stages: tuple[Stage, ...]
    """What turns inputs into rows with every score; the DAG, and what binds a run to it, are derived from them."""
    guard: Guard | None = None
    """Limits of the processes that stages work in; without one they work in Ray's own."""
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Name of a stage -> fields of its `Resources` that are not as the stage says itself."""
    rules: tuple[decide.Rules, ...]
    export_unit: str
    export_columns: tuple[str, ...]
    waves: waves.WaveConfig
    export: export.ExportConfig

    def __post_init__(self) -> None:
        names = [type(stage).__name__ for stage in self.stages]
        if unknown := [name for name in self.resources if name not in names]:
            raise ValueError(f"there is no stage {unknown[0]!r} to give resources to; name one of {', '.join(names)}")

    def fingerprint(self, inputs_sha256: str) -> dict[str, Any]:
        """All that the rows depend on: sources, stages in their order with every field, code, libraries, schema, cut.

        Thresholds are not part of it, nor are limits and resources: they change no row.
        """
        stages = {
            f"{i} {type(stage).__name__}": to_json(stage) | stage.depends_on() for i, stage in enumerate(self.stages)
        }
        return {
            "job": self.name,
            "sources": [redacted_option(source) for source in self.sources],
            "stages": stages,
            "unit": self.unit,
            "renamed": self.renamed,
            "waves": to_json(self.waves),
            "schema": {column.name: str(column.type) for column in self.schema},
            "code": code.modules(self.stages),
            "libraries": code.libraries(self.stages),
            "inputs": inputs_sha256,
        }

    def is_finished(self, store: Store) -> bool:
        """True if this very curation has been done; needs neither Ray nor the network."""
        inputs = waves.read_inputs(store, ["key"])
        if inputs is None or not waves.is_complete(store) or not store.exists(LEDGER):
            return False
        if not plan.is_bound(store, self.fingerprint(plan.keys_digest(inputs["key"]))):
            return False
        name = decide.name_of(store, self.rules)
        return is_settled(store, name) and export.is_current(store, self.wanted(name))

    def run(self, store: Store, lease: Lease | None = None, *, accept_plan: bool = False) -> dict[str, Any]:
        """Do what is left to do; returns the ledger. Needs Ray, and holds the run unless it is held already.

        Raises ValueError that names another driver which holds it.
        """
        with _held(store, lease) as lease:
            inputs = waves.read_inputs(store)
            if inputs is None:
                inputs = waves.write_inputs(store, self._discover())
            if inputs.num_rows == 0:
                raise ValueError(f"the sources name no inputs: {', '.join(map(_shown, self.sources))}")
            self._work(store, lease, inputs, accept_plan)
            return self._settle(store, lease)

    def retry(
        self, store: Store, lease: Lease | None = None, *, every: bool = False, accept_plan: bool = False
    ) -> tuple[int, dict[str, Any]]:
        """Work again on the inputs that are deferred or failed for a reason that may pass, or `every` failed one.

        Returns how many there were, and the ledger. Their new rows stand for the old ones; nothing else moves. A round
        that was cut short is ended first.
        """
        with _held(store, lease) as lease:
            inputs = waves.read_inputs(store)
            if inputs is None or not waves.is_complete(store, rounds=1):
                raise ValueError(f"{store.url} is not finished; run its job again first")
            self._work(store, lease, inputs, accept_plan)
            table = decide.verdicts(store, self.decide(store))
            again = pc.equal(table["state"], "failed") if every else _may_pass(table)
            again = pc.or_(pc.equal(table["state"], "deferred"), again)
            rows = self._started(inputs)
            # A listing that could not be read left before any stage: there is nothing here to work on again.
            chosen = pc.and_(
                pc.is_in(rows["key"], pc.unique(table.filter(again)["input_key"])), pc.is_null(rows["state"])
            )
            rows = rows.filter(chosen)
            if rows.num_rows:
                waves.again(store, rows, self._step(store, lease))
            return rows.num_rows, self._settle(store, lease)

    def revoke(self, store: Store, revocations: list[revoke.Revocation], lease: Lease | None = None) -> dict[str, Any]:
        """Record revocations and obey them, in the waves and in the export; returns the ledger."""
        with _held(store, lease) as lease:
            for revocation in revocations:
                revoke.record(store, revocation)
            if not waves.is_complete(store):
                raise ValueError(f"{store.url} is not finished: the revocation is recorded, and its job will obey it")
            return self._settle(store, lease)

    def decide(self, store: Store) -> str:
        """The name of the verdicts of this curation's rules, which are made if they are not there yet. Needs Ray."""
        return decide.decide(store, self.rules, self.schema)

    def _work(self, store: Store, lease: Lease, inputs: pa.Table, accept_plan: bool) -> None:
        """Every wave of every round that is not committed yet, under the plan that the run is bound to."""
        plan.bind(store, self.fingerprint(plan.keys_digest(inputs["key"])), accept=accept_plan)
        waves.run(store, self._started(inputs), self._step(store, lease), expected=inputs["expected_bytes"])

    def _settle(self, store: Store, lease: Lease) -> dict[str, Any]:
        """From committed waves to a current ledger; each step may be cut short and is then done again."""
        forget.purge(store, lease)
        name = self.decide(store)
        lease.check()
        shards = export.export(store, self.wanted(name), self.schema, self.export)
        table = decide.verdicts(store, name)
        again = table.filter(pc.or_(pc.equal(table["state"], "deferred"), _may_pass(table)))
        forget.cut_secrets(store, lease, set(again["input_key"].to_pylist()))
        lease.check()
        sweep.sweep(store)
        books = decide.books(table)
        ledger = {
            "verdicts": name,
            "unit": self.unit,
            "exported_rows": sum(file.rows for file in shards),
            "steps": books,
            "export_sha256": _digest(store, export.MANIFEST),
            "rounds": len(plan.rounds(store)),
            "revocations": len(store.list("revocations", revoke.NAMES)),
        }
        lease.check()
        write_sealed(store, LEDGER, ledger)
        if unbalanced := [unit for unit, book in books.items() if not decide.balances(book)]:
            raise RuntimeError(f"the books of {', '.join(unbalanced)} do not balance; see {store.url}/{LEDGER}")
        return ledger

    def _step(self, store: Store, lease: Lease) -> Step:
        revoked = revoke.recorded(store)
        return Step(
            name=self.name,
            dag=self._dag,
            config=self.waves,
            lease=lease,
            refuse=lambda rows: revoke.mark(rows, revoked, only=None, reason=revoke.BEFORE),
        )

    def _dag(self, inputs: "Dataset") -> "Dataset":
        return through(inputs, *self.stages, schema=self.schema, guard=self.guard, resources=self.resources)

    def _started(self, inputs: pa.Table) -> pa.Table:
        return start(inputs, self.schema, unit=self.unit, **self.renamed)

    def wanted(self, name: str) -> dict[str, Any]:
        """What an export of the verdicts `name` is to hold."""
        return {
            "verdicts": name,
            "unit": self.export_unit,
            "columns": list(self.export_columns),
            "as": to_json(self.export),
        }

    def _discover(self) -> pa.Table:
        import ray

        if cut := [source for source in self.sources if is_redacted(source)]:
            raise ValueError(f"{_shown(cut[0])} was saved without the secret in it; name it again with --sources")
        discover = self.discover

        def read(item: Row) -> list[Row]:
            return [
                row | {"source": redacted_text(item["source"]), "_listing": item["listing"], "_place": place}
                for place, row in enumerate(discover(item["source"]))
            ]

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


def is_settled(store: Store, verdicts: str) -> bool:
    """True if the ledger is made of these verdicts and of what is exported now."""
    ledger = read_sealed(store, LEDGER)
    return ledger["verdicts"] == verdicts and ledger["export_sha256"] == _digest(store, export.MANIFEST)


def _held(store: Store, lease: Lease | None) -> contextlib.AbstractContextManager[Lease]:
    return hold(store) if lease is None else contextlib.nullcontext(lease)


def _digest(store: Store, name: str) -> str | None:
    return hashlib.sha256(store.read(name)).hexdigest() if store.exists(name) else None


def _may_pass(table: pa.Table) -> pa.ChunkedArray:
    """Which verdicts are failures that another try may mend."""
    return pc.and_(pc.equal(table["state"], "failed"), pc.fill_null(table["retryable"], False))


def _shown(source: str) -> str:
    return clean(redacted_text(source))


def summary(name: str, ledger: dict[str, Any]) -> None:
    """Say in a few lines where everything went."""
    for unit, book in ledger["steps"].items():
        reasons = [
            f"{reason} {n}"
            for state in ("dropped", "failed", "unknown", "deferred")
            for reason, n in book[state].items()
        ]
        logger.info(
            "%s: %d of %d %ss kept%s",
            name,
            book["kept"],
            book["in"],
            unit,
            "; " + ", ".join(reasons) if reasons else "",
        )
