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

from pipeline.curate import decide, export, plan, revoke, sweep
from pipeline.curate.run import Curation, is_settled
from pipeline.curate.sweep import Named
from pipeline.lease import Holder
from pipeline.log import Progress, logger
from pipeline.manifest import read_sealed, sealed, write_sealed
from pipeline.records import LEDGER
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


def audit(store: Store, *, limit_bytes: int | None = None, progress: bool = False) -> Audit:
    """Look at every file of a run and read all of them, or the first `limit_bytes`, scores and manifests before
    media."""
    sizes = store.sizes()
    named = sweep.named(store, sizes)
    findings = [_finding(named, name, problem, name) for name, problem in named.damaged.items()]
    findings += _records(store, named, sizes)
    files = sorted(named.files, key=lambda pair: pair[1].path.endswith((".payload.parquet", ".tar")))
    there = [pair for pair in files if sizes.get(pair[1].path) == pair[1].size_bytes]
    findings += [
        _finding(
            named,
            name,
            "is missing"
            if file.path not in sizes
            else f"has {sizes[file.path]} bytes where its manifest says {file.size_bytes}",
            file.path,
        )
        for name, file in files
        if sizes.get(file.path) != file.size_bytes
    ]
    ends = itertools.accumulate(file.size_bytes for _, file in there)
    read = [pair for pair, end in zip(there, ends, strict=True) if limit_bytes is None or end <= limit_bytes]
    findings += [
        _finding(named, name, "was altered: its sha256 is not that of its manifest", file.path)
        for name, file in _altered(store, read, progress)
    ]
    return Audit(
        findings=(*findings, *_surplus(named, sizes)),
        files=len(files),
        size_bytes=sum(file.size_bytes for _, file in files),
        read_bytes=sum(file.size_bytes for _, file in read),
    )


def is_done(store: Store, curation: Curation) -> bool:
    """True if the curation is finished, and its files are what its manifests say."""
    try:
        return curation.is_finished(store) and not audit(store, limit_bytes=QUICK_BYTES).findings
    except CorruptFileError:
        return False  # `check` names it, once the run is held


def check(store: Store, *, only: str = "", but: str | None = None) -> None:
    """Before a run is worked on: have what is made from its waves made again where it is damaged, with a warning that
    names it; CorruptFileError for what cannot be.

    A command that makes no more than what is called `only` heals no more; one that mends what is called `but` itself is
    not kept from it.
    """
    findings = audit(store, limit_bytes=QUICK_BYTES).findings
    beyond = [
        finding for finding in findings if not finding.made_from_waves and not finding.path.startswith(but or "/")
    ]
    if beyond:
        more = f" (and {len(beyond) - 1} more: python -m jobs.audit {store.url})" if beyond[1:] else ""
        raise CorruptFileError(f"{store.url}/{beyond[0]}{more}")
    heal(store, tuple(finding for finding in findings if finding.path.startswith(only)))


def heal(store: Store, findings: tuple[Finding, ...]) -> None:
    """Delete what is damaged and can be made or fetched again, so that the run's job does so. Whoever heals holds the
    run."""
    healed = [finding for finding in findings if finding.made_from_waves or finding.goes]
    for problem, same in itertools.groupby(sorted(healed, key=_problem), _problem):
        paths = [finding.path for finding in same]
        logger.warning("healing: %s %s%s", paths[0], problem, f", and {len(paths) - 1} more" if paths[1:] else "")
    for finding in healed:
        for name in finding.goes:
            store.delete(name)
        if not finding.goes:
            write_sealed(store, finding.path, read_sealed(store, finding.path))


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
    number, wave = (int(word) for word in manifest.removeprefix("waves/").removesuffix(".json").split("-"))
    planned = named.manifests.get(f"plans/{number:03d}.json" if number else "plan.json", {}).get("waves", [])
    inputs = f"{planned[wave]['rows']} inputs" if wave < len(planned) else "its inputs"
    return Finding(
        path=path,
        problem=problem,
        goes=(path, manifest, LEDGER),  # without the ledger it is a run that goes on
        heals=f"delete {manifest} and {LEDGER} (jobs.audit --heal does) and run its job again: {inputs} are fetched "
        "again",
    )


def _sealed(
    store: Store, sizes: dict[str, int], form: str, heals: str, goes: tuple[str, ...] = ()
) -> Iterator[Finding]:
    """What is wrong with records that are no manifests."""
    for name in [name for name in sizes if re.fullmatch(form, name)]:
        try:
            if sealed(read_sealed(store, name)) != store.read(name):
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


def _records(store: Store, named: Named, sizes: dict[str, int]) -> Iterator[Finding]:
    """The ledger, and the small records beside the manifests."""
    yield from map(_restyled, named.restyled)
    yield from _sealed(store, sizes, f"fingerprints/{plan.NAMES}", "delete it and run the job again with --accept-plan")
    yield from _sealed(
        store, sizes, f"revocations/{revoke.NAMES}", f"put it back from a copy, or delete it and {_REVOKE}"
    )
    if "plan.json" in sizes and "fingerprints/000.json" not in sizes:
        yield Finding(
            path="fingerprints/000.json",
            problem="is missing",
            made_from_waves=True,
            goes=("fingerprints/000.json",),
            heals="run its job again: the run is bound to the options that it has then",
        )
    yield from _unread(store, sizes)
    if LEDGER not in sizes:
        if export.MANIFEST in named.manifests:
            yield Finding(
                path=LEDGER, problem="is missing", heals="run its job again", made_from_waves=True, goes=(LEDGER,)
            )
        return
    yield from (damaged := [*_sealed(store, sizes, re.escape(LEDGER), _AGAIN, (LEDGER,))])
    if not any(finding.goes for finding in damaged):
        yield from _behind(store, named, sizes)


def _unread(store: Store, sizes: dict[str, int]) -> Iterator[Finding]:
    """What is written without a seal, and cannot be read."""
    leases = sorted(name for name in sizes if re.fullmatch(r"lease/\d{6,}\.json", name))
    for name, heals in [
        ("config.json", "run its job again with its options"),
        *((name, _LEASE) for name in leases[-1:]),
    ]:
        try:
            value = json.loads(store.read(name))
            if name != "config.json":
                Holder(**value)
        except FileNotFoundError:
            continue
        except (ValueError, TypeError, RecursionError):
            yield Finding(
                path=name,
                problem="is not valid JSON, or none of ours",
                heals=heals,
                made_from_waves=name == "config.json",
                goes=(name,) if name == "config.json" else (),
            )


def _behind(store: Store, named: Named, sizes: dict[str, int]) -> Iterator[Finding]:
    """What the ledger counts and is not there, and what is there and the ledger does not count."""
    ledger = read_sealed(store, LEDGER)
    records = [f"revocations/{number:06d}.json" for number in range(ledger.get("revocations", 0))]
    there = [name for name in sizes if re.fullmatch(f"revocations/{revoke.NAMES}", name)]
    for name in [name for name in records if name not in sizes][: max(0, len(records) - len(there))]:
        yield Finding(path=name, problem="is missing", heals=f"put it back from a copy, or {_REVOKE}")
    verdicts = named.manifests.get(f"verdicts/{ledger['verdicts']}.json")
    if len(there) < len(records) or verdicts is None or any(not name.startswith("export/") for name in named.damaged):
        return
    try:
        is_current = is_settled(store, decide.name_by(store, verdicts["rules"]))
    except CorruptFileError:  # of a revocation, or of the plan: it is named already
        return
    if not is_current and not named.damaged and export.MANIFEST not in named.restyled:
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
        if name not in known and name not in ours and export.MANIFEST in named.manifests:
            yield Finding(
                path=name,
                problem="is no file of this export, and readers of its folder would take it for one",
                heals="move it away",
            )
