"""What no manifest names is not there: the files of a run that its manifests name, and the removal of all others of
ours.

Guarantees: only files of the known forms go; those of a wave that is not committed stay, since whoever works on it may
still commit them; so do those that a manifest may name which is missing or cannot be read, and whatever is not ours.
Whoever sweeps holds the run. Cost: one listing of the run.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from pipeline.curate import plan
from pipeline.curate.journal import MANIFESTS, Journal
from pipeline.curate.manifests import ExportManifest, Ledger, PlanManifest, WaveManifest
from pipeline.lease import Lease
from pipeline.manifest import Manifest
from pipeline.records import EXPORT, INPUTS, LEDGER, fingerprint_name, plan_name, verdicts_name, wave_name
from pipeline.storage import PROBE, TEMPORARY, CorruptFileError, File

_ATTEMPT = re.compile(r"rows/(\d+)-(\d+)-[0-9a-f]+/(purged-)?[0-9a-f]+\.(scores|payload)\.parquet")
_DATA = re.compile(
    r"inputs/[0-9a-f]{12}\.parquet|verdicts/[0-9a-f]{12}-[0-9a-f]{12}\.parquet|export/_index-[0-9a-f]{12}\.arrow"
    r"|export/data/shard-\d+-[0-9a-f]{12}\.parquet|export/webdataset/shard-\d+-[0-9a-f]{12}\.tar"
    r"|export/(shard|wds|index)-[\d-]*[0-9a-f]{12}\.(parquet|tar)"
)  # the last: where shards lay once
_UNFINISHED = re.compile(rf"(?!lease/|{re.escape(PROBE)}).*{re.escape(TEMPORARY)}[0-9a-f]+", re.DOTALL)
"""What a dead writer left. Leases and probes are written by drivers that do not hold the run: theirs may be alive."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """What the manifests of a run name, and which of them are missing or cannot be read."""

    manifests: dict[str, Manifest]
    damaged: dict[str, str]
    """Manifest -> what is wrong with it."""
    restyled: tuple[str, ...] = ()
    """Manifests that say what they said, though not in the bytes that were written: without their last line end,
    say."""

    @property
    def files(self) -> list[tuple[str, File]]:
        """(manifest, file) of all that is named."""
        return [(name, file) for name, manifest in self.manifests.items() for file in files_of(manifest)]

    @property
    def plans(self) -> dict[int, PlanManifest]:
        """Round -> its plan."""
        return {
            plan.number_of(name): manifest
            for name, manifest in self.manifests.items()
            if isinstance(manifest, PlanManifest)
        }

    @property
    def waves(self) -> list[WaveManifest]:
        """The committed waves."""
        return [manifest for manifest in self.manifests.values() if isinstance(manifest, WaveManifest)]


def files_of(manifest: Manifest) -> list[File]:
    """Every file that a manifest names: of an export, its tars, its index and its card too."""
    return [*manifest.data, manifest.card] if isinstance(manifest, ExportManifest) else [*manifest.files]


def named(journal: Journal) -> Named:
    """Read the manifests of a run."""
    manifests: dict[str, Manifest] = {}
    damaged: dict[str, str] = {}
    restyled = []
    names = journal.names("|".join(MANIFESTS))
    journal.read(names)
    for name in names:
        try:
            entry = journal.entry(name)
        except CorruptFileError:
            damaged[name] = "was altered, or is not valid JSON"
            continue
        if entry is not None and isinstance(entry.value, Manifest):
            manifests[name] = entry.value
            restyled += [name] if entry.is_restyled else []
    whole = Named(manifests=manifests, damaged=damaged, restyled=tuple(restyled))
    missing = sorted(set(_needed(journal, whole)) - journal.sizes.keys())
    return replace(whole, damaged=damaged | {name: "is missing" for name in missing})


def _needed(journal: Journal, there: Named) -> Iterator[str]:
    """Manifests that what is there cannot do without: each step commits before the next begins."""
    plans = there.plans
    rounds = {*plans, *(wave.round for wave in there.waves)}
    if rounds or LEDGER in journal.sizes or fingerprint_name(0) in journal.sizes:
        yield INPUTS
    if rounds or LEDGER in journal.sizes:
        yield from map(plan_name, range(max(rounds, default=0) + 1))
    try:
        ledger = journal.find(LEDGER, Ledger)
    except CorruptFileError:
        return
    if ledger is None:
        return  # what a run without a ledger has not got is not made yet
    yield from (EXPORT, verdicts_name(ledger.verdicts))
    for number in range(ledger.rounds):
        planned = len(plans[number].waves) if number in plans else 0
        yield from (wave_name(number, wave) for wave in range(planned))


def garbage(names: Iterable[str], there: Named) -> list[str]:
    """Those among these names of objects that are ours and that no manifest names."""
    known = {file.path for _, file in there.files}
    settled = {(wave.round, wave.wave) for wave in there.waves}
    is_unread = any(name.startswith("waves/") for name in there.damaged)

    def is_left(name: str) -> bool:
        attempt = _ATTEMPT.fullmatch(name)
        if attempt:
            return not is_unread and (int(attempt[1]), int(attempt[2])) in settled
        folder = name.split("/")[0]
        is_unsure = any(manifest.startswith((f"{folder}.", f"{folder}/", "plan")) for manifest in there.damaged)
        return bool(_DATA.fullmatch(name)) and (folder == "verdicts" or not is_unsure)  # those are made in a moment

    return [name for name in names if name not in known and is_left(name)]


def sweep(journal: Journal, lease: Lease | None = None) -> list[str]:
    """Delete what no manifest names, and what was never written to its end; returns the names.

    What the journal says is true if the lease is still ours once the run was listed: whoever takes a run over says so
    before it writes.
    """
    unfinished = journal.refresh()
    names = [*journal.sizes]
    if lease is not None:
        lease.check()
    gone = garbage(names, named(journal))
    gone += [name for name in names if re.fullmatch(rf"{re.escape(PROBE)}[0-9a-f]+", name)]
    gone += [name for name in unfinished if _UNFINISHED.fullmatch(name)]
    for name in gone:
        journal.delete(name)
    return gone
