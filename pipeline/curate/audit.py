"""Whether a curation run is what its manifests say: every file there, as large and as digested as it was committed.

Guarantees: a missing, shortened, altered or surplus file is named, with what heals it. What is made from the waves (the
verdicts, the export, the ledger) heals by running the job again; what was fetched is fetched again, wave by wave; a
run's inputs and plan heal by nothing but a copy. Cost: one listing, all manifests and, up to a limit, every byte.
"""

import contextlib
import hashlib
import itertools
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pipeline import lease
from pipeline.curate import decide, sweep
from pipeline.curate.journal import FINGERPRINTS, REVOCATIONS, Journal
from pipeline.curate.manifests import Ledger, VerdictManifest
from pipeline.curate.run import Curation, is_settled
from pipeline.curate.sweep import Named
from pipeline.log import Progress, logger
from pipeline.records import CONFIG, EXPORT, LEDGER, fingerprint_name, plan_name, revocation_name, verdicts_name
from pipeline.storage import CorruptFileError, File, Store

QUICK_BYTES = 1 << 30
"""Of a run that is only looked at, so many bytes are read: a second's work, and all of a small run."""
_PIECE_BYTES = 8 << 20
_READERS = 4
_REVOKE = "revoke the same again: what it took out of the run would else come back as rows without their media"
_LEASE = "if no other driver works on the run, delete it and run the job again"
_AGAIN = "run its job again: it is made again from the waves, byte for byte"
_COPY = "put it back from a copy, or use a new run_dir: nothing else of the run tells what was in it"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong: `made_from_waves` if running the job again heals it without fetching anything."""

    path: str
    problem: str
    heals: str
    made_from_waves: bool = False
    goes: tuple[str, ...] = ()
    """What is deleted so that it is made again. Nothing, of what `made_from_waves`: it says what it said, and is
    written anew."""

    def __str__(self) -> str:
        return f"{self.path} {self.problem}; {self.heals}"


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was looked at, and what is wrong with it."""

    findings: tuple[Finding, ...]
    files: int
    size_bytes: int
    read_bytes: int
    """How much of it was read; of the rest, presence and size are known."""


def audit(journal: Journal, *, limit_bytes: int | None = None, progress: bool = False) -> Audit:
    """Look at every file of a run and read all of them, or the first `limit_bytes`, scores and manifests before
    media."""
    sizes = journal.sizes
    named = sweep.named(journal)
    findings = [_finding(named, name, problem, name) for name, problem in named.damaged.items()]
    findings += _records(journal, named)
    files = sorted(named.files, key=lambda pair: pair[1].path.endswith((".payload.parquet", ".tar")))
    findings += [
        _finding(named, name, _misfit(file, sizes), file.path)
        for name, file in files
        if sizes.get(file.path) != file.size_bytes
    ]
    there = [pair for pair in files if sizes.get(pair[1].path) == pair[1].size_bytes]
    ends = itertools.accumulate(file.size_bytes for _, file in there)
    read = [pair for pair, end in zip(there, ends, strict=True) if limit_bytes is None or end <= limit_bytes]
    altered = "was altered: its sha256 is not that of its manifest"
    findings += [_finding(named, name, altered, file.path) for name, file in _altered(journal.store, read, progress)]
    return Audit(
        findings=(*findings, *_surplus(named, sizes)),
        files=len(files),
        size_bytes=sum(file.size_bytes for _, file in files),
        read_bytes=sum(file.size_bytes for _, file in read),
    )


def _misfit(file: File, sizes: dict[str, int]) -> str:
    if file.path not in sizes:
        return "is missing"
    return f"has {sizes[file.path]} bytes where its manifest says {file.size_bytes}"


def is_done(store: Store, curation: Curation) -> bool:
    """True if the curation is finished, and its files are what its manifests say. Nobody need hold the run."""
    journal = Journal(store)
    try:
        return curation.is_finished(journal) and not audit(journal, limit_bytes=QUICK_BYTES).findings
    except CorruptFileError:
        return False  # `check` names it, once the run is held


def check(journal: Journal, *, only: str = "", but: str | None = None) -> None:
    """Before a run is worked on: have what is made from its waves made again where it is damaged, with a warning that
    names it; CorruptFileError for what cannot be.

    A command that makes no more than what is called `only` heals no more; one that mends what is called `but` itself is
    not kept from it.
    """
    findings = audit(journal, limit_bytes=QUICK_BYTES).findings
    beyond = [
        finding for finding in findings if not finding.made_from_waves and not finding.path.startswith(but or "/")
    ]
    if beyond:
        url = journal.store.url
        more = f" (and {len(beyond) - 1} more: python -m jobs.audit {url})" if beyond[1:] else ""
        raise CorruptFileError(f"{url}/{beyond[0]}{more}")
    heal(journal, tuple(finding for finding in findings if finding.path.startswith(only)))


def heal(journal: Journal, findings: tuple[Finding, ...]) -> None:
    """Delete what is damaged and can be made or fetched again, so that the run's job does so. Whoever heals holds the
    run."""
    healed = [finding for finding in findings if finding.made_from_waves or finding.goes]
    for problem, same in itertools.groupby(sorted(healed, key=_problem), _problem):
        paths = [finding.path for finding in same]
        logger.warning("healing: %s %s%s", paths[0], problem, f", and {len(paths) - 1} more" if paths[1:] else "")
    for finding in healed:
        for name in finding.goes:
            journal.delete(name)
        entry = None if finding.goes else journal.entry(finding.path)
        if entry is not None:
            journal.replace(finding.path, entry.value)


def _problem(finding: Finding) -> str:
    return finding.problem


def _finding(named: Named, manifest: str, problem: str, path: str) -> Finding:
    """What is wrong with a manifest, or with a file that it names; what goes includes the manifest that would stand for
    it."""
    if manifest.startswith("export/"):
        return Finding(path=path, problem=problem, heals=_AGAIN, made_from_waves=True, goes=(path,))
    if manifest.startswith("verdicts/"):
        return Finding(path=path, problem=problem, heals=_AGAIN, made_from_waves=True, goes=(path, manifest))
    if not manifest.startswith("waves/"):
        return Finding(path=path, problem=problem, heals=_COPY)
    number, wave = (int(digits) for digits in manifest.removeprefix("waves/").removesuffix(".json").split("-"))
    planned = named.plans[number].waves if number in named.plans else ()
    inputs = f"{planned[wave].rows} inputs" if wave < len(planned) else "its inputs"
    return Finding(
        path=path,
        problem=problem,
        goes=(path, manifest, LEDGER),  # without the ledger it is a run that goes on
        heals=f"delete {manifest} and {LEDGER} (jobs.audit --heal does) and run its job again: {inputs} are fetched "
        "again",
    )


def _sealed(journal: Journal, form: str, heals: str, goes: tuple[str, ...] = ()) -> Iterator[Finding]:
    """What is wrong with records that are no manifests."""
    names = journal.names(form)
    journal.read(names)
    for name in names:
        try:
            entry = journal.entry(name)
            if entry is not None and entry.is_restyled:
                yield _restyled(name)
        except CorruptFileError:
            yield Finding(
                path=name,
                problem="was altered, or is not valid JSON",
                heals=heals,
                made_from_waves=bool(goes),
                goes=goes,
            )


def _restyled(name: str) -> Finding:
    return Finding(
        path=name,
        problem="says what it said, but not as it was written",
        made_from_waves=True,
        heals="run its job again: it is written anew",
    )


def _records(journal: Journal, named: Named) -> Iterator[Finding]:
    """The ledger, and the small records beside the manifests."""
    sizes = journal.sizes
    yield from map(_restyled, named.restyled)
    yield from _sealed(journal, FINGERPRINTS, "delete it and run the job again with --accept-plan")
    yield from _sealed(journal, REVOCATIONS, f"put it back from a copy, or delete it and {_REVOKE}")
    if plan_name(0) in sizes and fingerprint_name(0) not in sizes:
        yield Finding(
            path=fingerprint_name(0),
            problem="is missing",
            made_from_waves=True,
            goes=(fingerprint_name(0),),
            heals="run its job again: the run is bound to the options that it has then",
        )
    yield from _unread(journal.store, sizes)
    if LEDGER not in sizes:
        if EXPORT in named.manifests:
            yield Finding(
                path=LEDGER, problem="is missing", heals="run its job again", made_from_waves=True, goes=(LEDGER,)
            )
        return
    yield from (damaged := [*_sealed(journal, re.escape(LEDGER), _AGAIN, (LEDGER,))])
    if not any(finding.goes for finding in damaged):
        yield from _behind(journal, named)


def _unread(store: Store, sizes: dict[str, int]) -> Iterator[Finding]:
    """What is written without a seal, and cannot be read."""
    leases = sorted(name for name in sizes if re.fullmatch(r"lease/\d{6,}\.json", name))
    for name, heals in [
        (CONFIG, "run its job again with its options"),
        *((name, _LEASE) for name in leases[-1:]),
    ]:
        try:
            data = store.read(name)
            json.loads(data) if name == CONFIG else lease.parsed(data)
        except FileNotFoundError:
            continue
        except (ValueError, RecursionError):
            yield Finding(
                path=name,
                problem="is not valid JSON, or none of ours",
                heals=heals,
                made_from_waves=name == CONFIG,
                goes=(name,) if name == CONFIG else (),
            )


def _behind(journal: Journal, named: Named) -> Iterator[Finding]:
    """What the ledger counts and is not there, and what is there and the ledger does not count."""
    ledger = journal.find(LEDGER, Ledger)
    assert ledger is not None
    records = [revocation_name(number) for number in range(ledger.revocations)]
    there = journal.names(REVOCATIONS)
    for name in [name for name in records if name not in there][: max(0, len(records) - len(there))]:
        yield Finding(path=name, problem="is missing", heals=f"put it back from a copy, or {_REVOKE}")
    verdicts = named.manifests.get(verdicts_name(ledger.verdicts))
    if len(there) < len(records) or not isinstance(verdicts, VerdictManifest):
        return
    if any(not name.startswith("export/") for name in named.damaged):
        return
    try:
        is_current = is_settled(journal, decide.name_by(journal, verdicts.rules))
    except CorruptFileError:  # of a revocation, or of the plan: it is named already
        return
    if not is_current and not named.damaged and EXPORT not in named.restyled:
        yield Finding(
            path=LEDGER,
            problem="is older than the waves, the revocations or the export",
            heals="run its job again",
            made_from_waves=True,
            goes=(LEDGER,),
        )


def _altered(store: Store, files: list[tuple[str, File]], progress: bool) -> Iterator[tuple[str, File]]:
    """Those whose bytes are not what their manifests say."""
    shown = Progress("audit", sum(file.size_bytes for _, file in files) / 1e6, "MB") if progress else None
    with ThreadPoolExecutor(_READERS) as pool, shown or contextlib.nullcontext():
        for pair, sha256 in zip(files, pool.map(lambda pair: _sha256(store, pair[1]), files), strict=True):
            if shown:
                shown.advance(pair[1].size_bytes / 1e6)
            if sha256 != pair[1].sha256:
                yield pair


def _sha256(store: Store, file: File) -> str | None:
    sha256 = hashlib.sha256()
    try:
        with store.open(file.path) as source:
            while piece := source.read(_PIECE_BYTES):
                sha256.update(piece)
    except FileNotFoundError:
        return None
    return sha256.hexdigest()


def _surplus(named: Named, sizes: dict[str, int]) -> Iterator[Finding]:
    """What no manifest names: ours, in a run that is finished; and of others, where readers take all that lies
    there."""
    known = {file.path for _, file in named.files}
    ours = set(sweep.garbage(sizes, named))
    for name in sorted(ours if LEDGER in sizes else ()):
        yield Finding(
            path=name,
            problem="is named by no manifest",
            heals="run its job again: it is deleted",
            made_from_waves=True,
            goes=(name,),
        )
    for name in [
        name for name in sizes if re.fullmatch(r"export/(data/[^._].*|webdataset/[^._].*\.tar)", name, re.DOTALL)
    ]:
        if name not in known and name not in ours and EXPORT in named.manifests:
            yield Finding(
                path=name,
                problem="is no file of this export, and readers of its folder would take it for one",
                heals="move it away",
            )
