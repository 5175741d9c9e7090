"""Read every byte of a curation run, name each file that is missing, altered or surplus, and say what heals it.

python -m jobs.audit RUN
python -m jobs.audit RUN --heal         # delete what can be made or fetched again; then run its job
"""

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass

from jobs._curations import JOBS, open_curation
from jobs._main import run
from pipeline.config import difference, to_json
from pipeline.curate import audit, decide, export, plan
from pipeline.curate.audit import Finding
from pipeline.curate.journal import Journal
from pipeline.curate.manifests import Ledger
from pipeline.curate.run import Curation
from pipeline.lease import hold
from pipeline.log import say
from pipeline.records import CONFIG, INPUTS, LEDGER, plan_name
from pipeline.storage import CorruptFileError, Store

_MEND = "run its job again with the options that are wanted"


@dataclass(frozen=True, kw_only=True)
class AuditRun:
    """Verify a curation run against its manifests; status 1 if anything is wrong."""

    run_dir: str
    """Folder of the run, any fsspec URL."""
    heal: bool = False
    """Delete what is damaged and can be made again, or fetched again, so that the run's job does it."""


def main(config: AuditRun) -> None:
    """Print a line for each finding, and what was read."""
    store = begun(config.run_dir)
    journal = Journal(store)
    found = audit.audit(journal, progress=True)
    findings = (*found.findings, *options(store))
    for finding in findings:
        say(str(finding), limit=1000)
    wrong = f"{len(findings) or 'nothing'} {'are' if len(findings) > 1 else 'is'} wrong"
    say(f"{found.files} files, {found.size_bytes / 1e6:.2f} MB, all read: {wrong}")
    if config.heal and findings:
        # Not while a driver works on what is deleted.
        with hold(store):
            audit.heal(Journal(store), findings)
    if findings:
        raise SystemExit(1)


def begun(run_dir: str) -> Store:
    """The run's folder; ValueError if no run was ever there."""
    store = Store(run_dir)
    if not any(map(store.exists, (INPUTS, plan_name(0), LEDGER))):
        raise ValueError(f"{run_dir} is no curation run, or has no inputs yet; see its --run-dir")
    return store


def options(store: Store) -> list[Finding]:
    """What is wrong with `config.json`, from which commands take the options of a run that they work on.

    It has no digest, since users change options; what the run was made with is in its fingerprint and its manifests.
    """
    try:
        journal = Journal(store)
        fingerprints = plan.fingerprints(journal)
        if not fingerprints or fingerprints[-1].get("job") not in JOBS:
            return []
        if CONFIG not in journal.sizes:
            return [Finding(path=CONFIG, problem="is missing", heals=_MEND, made_from_waves=True, goes=(CONFIG,))]
        # `load` prints and exits, as for a command line; here that becomes a finding.
        with contextlib.redirect_stderr(io.StringIO()) as said:
            _, _, curation = open_curation(store.url)
        changes = [*_changes(journal, curation, fingerprints)]
    except CorruptFileError:  # it is named already
        return []
    except (SystemExit, ValueError) as error:
        changes = [f"it cannot be read: {said.getvalue().strip() or error}"]
    problem = f"is not what the run was made with ({'; '.join(changes)})"
    return [Finding(path=CONFIG, problem=problem, heals=_MEND)] if changes else []


def _changes(journal: Journal, curation: Curation, accepted: list[dict[str, object]]) -> Iterator[str]:
    """How the options differ from those that a finished run was made with."""
    ledger = journal.find(LEDGER, Ledger)
    if ledger is None:
        return
    ours = to_json(curation.fingerprint(str(accepted[-1]["inputs"])))
    # Code and libraries may be newer than the run; only options are looked at here.
    same = [{name: entry[name] for name in entry if name not in ("code", "libraries")} for entry in (ours, *accepted)]
    if same[0] not in same[1:]:
        yield from difference(same[-1], same[0])
    verdicts, exported = decide.manifest_of(journal, ledger.verdicts), export.manifest_of(journal)
    if verdicts is not None:
        rules = decide.described(curation.rules)
        yield from difference(decide.by_unit(verdicts.rules), decide.by_unit(rules), "rules.")
    if exported is not None:
        yield from difference(exported.made_from, curation.selection(ledger.verdicts), "export.")


if __name__ == "__main__":
    run(AuditRun, main, "run-dir")
