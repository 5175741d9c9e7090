"""A curation run from sources to shards: discover inputs, score them in waves, decide, export, write the ledger.

Guarantees: each step commits before the next begins, and a step that is there is not done again, so the same command
resumes at any point. The ledger is made of the verdicts, names the export by its digest and is written last, once what
no manifest names is deleted: a run without a current ledger is not finished, and the same command ends it. A run whose
books do not balance is an error.
"""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from pipeline.config import digest, to_json
from pipeline.curate import code, decide, export, forget, listings, plan, revoke, sweep, waves
from pipeline.curate.guard import Guard
from pipeline.curate.journal import REVOCATIONS, Journal
from pipeline.curate.manifests import ExportConfig, Fingerprint, Ledger, Selection
from pipeline.curate.stage import Stage
from pipeline.curate.through import through
from pipeline.curate.waves import Step
from pipeline.curate.work import start
from pipeline.lease import Lease, hold
from pipeline.log import logger
from pipeline.records import EXPORT, LEDGER
from pipeline.redact import redacted_option
from pipeline.storage import Store

if TYPE_CHECKING:
    from ray.data import Dataset


@dataclass(frozen=True, kw_only=True)
class Curation:
    """All that one corpus needs: where inputs come from, the DAG that scores them, the rules that judge them."""

    name: str
    sources: tuple[str, ...]
    """Listings to read, each as KIND=URL."""
    discover: Stage
    """A row whose `source` is KIND=URL -> rows of records.INPUT, whose `order` goes on from its own; what cannot be
    read is one row that says so."""
    schema: pa.Schema
    unit: str
    """What an input becomes a row of; parts that stages split off carry another unit."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Column of the schema -> its name among the inputs, where they differ."""
    stages: tuple[Stage, ...]
    """What turns inputs into rows with every score; the DAG, and what binds a run to it, are derived from them."""
    guard: Guard | None = None
    """Limits of the processes that stages work in; without one they work in Ray's own."""
    resources: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Name of a stage -> fields of its `Resources` that are not as the stage says itself."""
    rules: tuple[decide.Rules, ...]
    export_unit: str
    export_columns: tuple[str, ...]
    waves: waves.WaveConfig
    export: ExportConfig

    def __post_init__(self) -> None:
        names = [type(stage).__name__ for stage in self.stages]
        if unknown := [name for name in self.resources if name not in names]:
            raise ValueError(f"there is no stage {unknown[0]!r} to give resources to; name one of {', '.join(names)}")

    def fingerprint(self, inputs_sha256: str) -> Fingerprint:
        """All that the rows depend on: sources, stages in their order with every field, code, libraries, schema, cut.

        Thresholds are not part of it, nor are limits and resources: they change no row.
        """
        return Fingerprint(
            job=self.name,
            sources=tuple(redacted_option(source) for source in self.sources),
            stages={
                f"{i} {type(stage).__name__}": to_json(stage) | stage.depends_on()
                for i, stage in enumerate(self.stages)
            },
            unit=self.unit,
            renamed=self.renamed,
            waves=to_json(self.waves),
            schema={column.name: str(column.type) for column in self.schema},
            code=code.modules(self.stages),
            libraries=code.libraries(self.stages),
            inputs=inputs_sha256,
        )

    def is_finished(self, journal: Journal) -> bool:
        """True if this very curation has been done; needs neither Ray nor the network."""
        ledger = journal.find(LEDGER, Ledger)
        if ledger is None or not export.is_current(journal, self.selection(ledger.verdicts)):
            return False
        # Other rules give other verdicts: no need to read every wave to know that.
        verdicts = decide.manifest_of(journal, ledger.verdicts)
        if verdicts is None or digest(verdicts.rules) != digest(decide.described(self.rules)):
            return False
        inputs = waves.read_inputs(journal, ["key"])
        if inputs is None or not waves.is_complete(journal):
            return False
        if not plan.is_bound(journal, self.fingerprint(plan.keys_digest(inputs["key"]))):
            return False
        return is_settled(journal, decide.name_of(journal, self.rules))

    # ---- what is done to a run; each opens a journal under the lease unless it is given what was read under it ----

    def run(
        self,
        store: Store,
        lease: Lease | None = None,
        *,
        journal: Journal | None = None,
        accept_plan: bool = False,
        refresh: bool = False,
    ) -> Ledger:
        """Do what is left to do; returns the ledger. Needs Ray, and holds the run unless it is held already.

        With `refresh`, what the listings of a run that is there name by now is worked on as well. Raises ValueError
        that names another driver which holds the run, or a listing if none could be read: nothing is committed then.
        """
        with _held(store, lease) as lease:
            journal = journal or Journal(store)
            inputs = waves.read_inputs(journal)
            is_new = inputs is None
            if inputs is None:
                inputs = self._open(journal)
            self._work(journal, lease, inputs, accept_plan)
            if refresh and not is_new:
                self._refresh(journal, lease, every=True)
            return self._settle(journal, lease)

    def retry(
        self,
        store: Store,
        lease: Lease | None = None,
        *,
        journal: Journal | None = None,
        every: bool = False,
        accept_plan: bool = False,
    ) -> tuple[int, Ledger]:
        """Work again on the inputs that are deferred or failed for a reason that may pass, or `every` failed one, and
        read the listings again that could not be read.

        Returns how many there were, and the ledger. Their new rows stand for the old ones; nothing else moves. A round
        that was cut short is ended first.
        """
        with _held(store, lease) as lease:
            journal = journal or Journal(store)
            inputs = waves.read_inputs(journal)
            if inputs is None or not waves.is_complete(journal, rounds=1):
                raise ValueError(f"{store.url} is not finished; run its job again first")
            self._work(journal, lease, inputs, accept_plan)
            listed = self._refresh(journal, lease, every=False)
            table = decide.verdicts(journal, self.decide(journal))
            again = pc.equal(table["state"], "failed") if every else _may_pass(table)
            again = pc.or_(pc.equal(table["state"], "deferred"), again)
            rows = listings.started(journal, self._started(inputs))
            # What left before any stage, such as a line that could not be read: there is nothing to work on again.
            chosen = pc.and_(
                pc.is_in(rows["key"], pc.unique(table.filter(again)["input_key"])), pc.is_null(rows["state"])
            )
            rows = rows.filter(chosen)
            if rows.num_rows:
                waves.again(journal, rows, self._step(journal, lease))
            return listed + rows.num_rows, self._settle(journal, lease)

    def revoke(
        self,
        store: Store,
        revocations: list[revoke.Revocation],
        lease: Lease | None = None,
        *,
        journal: Journal | None = None,
    ) -> Ledger:
        """Record revocations and obey them, in the waves and in the export; returns the ledger."""
        with _held(store, lease) as lease:
            journal = journal or Journal(store)
            for revocation in revocations:
                revoke.record(journal, revocation)
            if not waves.is_complete(journal):
                raise ValueError(f"{store.url} is not finished: the revocation is recorded, and its job will obey it")
            return self._settle(journal, lease)

    def decide(self, journal: Journal) -> str:
        """The name of the verdicts of this curation's rules, which are made if they are not there yet. Needs Ray."""
        return decide.decide(journal, self.rules, self.schema)

    def _work(self, journal: Journal, lease: Lease, inputs: pa.Table, accept_plan: bool) -> None:
        """Every wave of every round that is not committed yet, under the plan that the run is bound to."""
        plan.bind(journal, self.fingerprint(plan.keys_digest(inputs["key"])), accept=accept_plan)
        waves.run(journal, self._started(inputs), self._step(journal, lease), expected=inputs["expected_bytes"])

    def _settle(self, journal: Journal, lease: Lease) -> Ledger:
        """From committed waves to a current ledger; each step may be cut short and is then done again."""
        # Obey: what was revoked is taken out of the waves first, so that nothing after this can read it.
        forget.purge(journal, lease)
        # Judge. The name says what was judged; verdicts of that name are made once.
        name = self.decide(journal)
        table = decide.verdicts(journal, name)
        # Export, which its manifest makes visible as a whole.
        lease.check()
        shards = export.export(journal, self.selection(name), table, self.schema)
        # Forget: a secret in a URL goes once nothing may fetch that URL again.
        again = table.filter(pc.or_(pc.equal(table["state"], "deferred"), _may_pass(table)))
        forget.cut_secrets(journal, lease, set(again["input_key"].to_pylist()))
        # Sweep before the ledger: a run that has one holds no more than its manifests name.
        sweep.sweep(journal, lease)
        ledger = Ledger(
            verdicts=name,
            unit=self.unit,
            exported_rows=sum(file.rows for file in shards),
            steps=decide.books(table),
            export_sha256=_export_sha256(journal) or "",
            rounds=len(plan.rounds(journal)),
            revocations=len(journal.names(REVOCATIONS)),
        )
        # Close: the ledger is the last object; without it the run is not finished and the same command goes on.
        lease.check()
        journal.replace(LEDGER, ledger)
        if unbalanced := [unit for unit, book in ledger.steps.items() if not book.balances()]:
            raise RuntimeError(f"the books of {', '.join(unbalanced)} do not balance; see {journal.store.url}/{LEDGER}")
        return ledger

    def _step(self, journal: Journal, lease: Lease) -> Step:
        revoked = revoke.recorded(journal)
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

    def selection(self, verdicts: str) -> Selection:
        """What an export of the verdicts of this name holds."""
        return Selection(verdicts=verdicts, unit=self.export_unit, columns=self.export_columns, as_=self.export)

    def _open(self, journal: Journal) -> pa.Table:
        """Read the listings for the first time, and commit what they name as the run's inputs."""
        if not self.sources:
            raise ValueError("there is no listing to read; name some with --sources")
        tables = listings.read(self.discover, self.sources, self.guard)
        listings.refuse_unread(self.sources, tables)
        return waves.write_inputs(journal, listings.numbered(tables), listings.counted(self.sources, tables))

    def _refresh(self, journal: Journal, lease: Lease, *, every: bool) -> int:
        """Read listings again and work on what is new in them; returns how many inputs that were."""
        fresh = listings.fresh(journal, self.discover, self.sources, self.guard, every=every)
        if fresh is None:
            return 0
        waves.again(journal, self._started(fresh.rows), self._step(journal, lease), replaces=fresh.replaces)
        return fresh.rows.num_rows


def is_settled(journal: Journal, verdicts: str) -> bool:
    """True if the ledger is made of these verdicts and of what is exported now."""
    ledger = journal.find(LEDGER, Ledger)
    return ledger is not None and (ledger.verdicts, ledger.export_sha256) == (verdicts, _export_sha256(journal))


def _held(store: Store, lease: Lease | None) -> contextlib.AbstractContextManager[Lease]:
    return hold(store) if lease is None else contextlib.nullcontext(lease)


def _export_sha256(journal: Journal) -> str | None:
    entry = journal.entry(EXPORT)
    return None if entry is None else entry.sha256


def _may_pass(table: pa.Table) -> pa.ChunkedArray:
    """Which verdicts are failures that another try may mend."""
    return pc.and_(pc.equal(table["state"], "failed"), pc.fill_null(table["retryable"], False))


def summary(name: str, ledger: Ledger) -> None:
    """Say in a few lines where everything went."""
    for unit, book in ledger.steps.items():
        reasons = [f"{reason} {n}" for rows in book.gone.values() for reason, n in rows.items()]
        more = "; " + ", ".join(reasons) if reasons else ""
        logger.info("%s: %d of %d %ss kept%s", name, book.kept, book.in_, unit, more)
