"""Read every byte of a curation run, name each file that is missing, altered or surplus, and say what heals it.

python -m jobs.audit RUN
python -m jobs.audit RUN --heal         # delete what can be made or fetched again; then run its job
"""

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass

from jobs._curations import JOBS, open_curation
from jobs._main import run
from pipeline.config import difference
from pipeline.curate import audit, decide, diff, export, plan, waves
from pipeline.curate.audit import Finding
from pipeline.curate.run import Curation
from pipeline.lease import hold
from pipeline.log import say
from pipeline.manifest import read_manifest, read_sealed
from pipeline.records import LEDGER
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
    found = audit.audit(store, progress=True)
    findings = (*found.findings, *options(store))
    for finding in findings:
        say(str(finding), limit=1000)
    wrong = f"{len(findings) or 'nothing'} {'are' if len(findings) > 1 else 'is'} wrong"
    say(f"{found.files} files, {found.size_bytes / 1e6:.2f} MB, all read: {wrong}")
    if config.heal and findings:
        with hold(store):
            audit.heal(store, findings)
    if findings:
        raise SystemExit(1)


def begun(run_dir: str) -> Store:
    """The run's folder; ValueError if no run was ever there."""
    store = Store(run_dir)
    if not any(map(store.exists, (waves.INPUTS, "plan.json", LEDGER))):
        raise ValueError(f"{run_dir} is no curation run, or has no inputs yet; see its --run-dir")
    return store


def options(store: Store) -> list[Finding]:
    """What is wrong with `config.json`, from which commands take the options of a run that they work on.

    It has no digest, since users change options; what the run was made with is in its fingerprint and its manifests.
    """
    try:
        made = plan.fingerprints(store)
        if not made or made[-1]["job"] not in JOBS:
            return []
        if not store.exists("config.json"):
            return [
                Finding(
                    path="config.json", problem="is missing", heals=_MEND, made_from_waves=True, goes=("config.json",)
                )
            ]
        with contextlib.redirect_stderr(io.StringIO()) as said:
            _, _, curation = open_curation(store.url)
        changes = [*_changes(store, curation, made)] if store.exists(LEDGER) else []
    except CorruptFileError:  # it is named already
        return []
    except (SystemExit, ValueError) as error:
        changes = [f"it cannot be read: {said.getvalue().strip() or error}"]
    problem = f"is not what the run was made with ({'; '.join(changes)})"
    return [Finding(path="config.json", problem=problem, heals=_MEND)] if changes else []


def _changes(store: Store, curation: Curation, accepted: list[dict[str, object]]) -> Iterator[str]:
    wanted = json.loads(json.dumps(curation.fingerprint(str(accepted[-1]["inputs"]))))
    same = [{name: entry[name] for name in entry if name not in ("code", "libraries")} for entry in (wanted, *accepted)]
    if same[0] not in same[1:]:
        yield from difference(same[-1], same[0])
    name = read_sealed(store, LEDGER)["verdicts"]
    decided, exported = read_manifest(store, f"verdicts/{name}.json"), read_manifest(store, export.MANIFEST)
    rules = json.loads(json.dumps([decide.describe(rule) for rule in curation.rules]))
    if decided is not None:
        yield from difference(diff.by_unit(decided["rules"]), diff.by_unit(rules), "rules.")
    if exported is not None:
        yield from difference(exported["made_from"], curation.wanted(name), "export.")


if __name__ == "__main__":
    run(AuditRun, main, "run-dir")
