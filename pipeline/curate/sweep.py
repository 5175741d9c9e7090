"""What no manifest names is not there: the files of a run that its manifests name, and the removal of all others of
ours.

Guarantees: only files of the known forms go; those of a wave that is not committed stay, since whoever works on it may
still commit them; so do those that a manifest may name which is missing or cannot be read, and whatever is not ours.
Whoever sweeps holds the run. Cost: one listing of the run.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.curate import plan, waves
from pipeline.manifest import parse_manifest, read_sealed, sealed
from pipeline.records import LEDGER
from pipeline.storage import PROBE, TEMPORARY, CorruptFileError, File, Store

EXPORT = "export/manifest.json"
MANIFESTS = (
    r"inputs\.json",
    r"plan\.json",
    rf"plans/{plan.NAMES}",
    rf"waves/{waves.NAMES}",
    r"verdicts/[0-9a-f]{12}\.json",
    re.escape(EXPORT),
)
"""Forms of the names under which a curation run commits files."""
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

    manifests: dict[str, dict[str, Any]]
    damaged: dict[str, str]
    """Manifest -> what is wrong with it."""
    restyled: tuple[str, ...] = ()
    """Manifests that say what they said, though not in the bytes that were written: without their last line end,
    say."""

    @property
    def files(self) -> list[tuple[str, File]]:
        """(manifest, file) of all that is named."""
        return [(name, file) for name, found in self.manifests.items() for file in files_of(found)]


def files_of(found: dict[str, Any]) -> list[File]:
    """Every file that a manifest names: of an export, its tars, its index and its card too."""
    further = [File(**file) for name in ("webdataset", "index", "card") for file in _listed(found.get(name))]
    return [*found["files"], *further]


def named(store: Store, names: Iterable[str]) -> Named:
    """Read the manifests among these names of a run's objects."""
    manifests: dict[str, dict[str, Any]] = {}
    damaged: dict[str, str] = {}
    restyled = []
    there = set(names)
    ours = sorted(name for name in there if any(re.fullmatch(form, name) for form in MANIFESTS))
    for name, data in store.read_many(ours).items():
        try:
            manifests[name] = parse_manifest(store, name, data)
        except CorruptFileError:
            damaged[name] = "was altered, or is not valid JSON"
            continue
        if sealed(json.loads(data)) != data:
            restyled.append(name)
    damaged |= {name: "is missing" for name in sorted(set(_needed(store, there, manifests)) - there)}
    return Named(manifests=manifests, damaged=damaged, restyled=tuple(restyled))


def _needed(store: Store, names: set[str], manifests: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Manifests that what is there cannot do without: each step commits before the next begins."""
    plans = {
        0 if name == "plan.json" else int(name[len("plans/") : -len(".json")]): manifest["waves"]
        for name, manifest in manifests.items()
        if name.startswith("plan")
    }
    rounds = {*plans, *(manifest["round"] for name, manifest in manifests.items() if name.startswith("waves/"))}
    if rounds or LEDGER in names or "fingerprints/000.json" in names:
        yield waves.INPUTS
    if rounds or LEDGER in names:
        yield from (
            "plan.json" if number == 0 else f"plans/{number:03d}.json" for number in range(max(rounds, default=0) + 1)
        )
    try:
        ledger = read_sealed(store, LEDGER)
    except (CorruptFileError, FileNotFoundError):
        return  # what a run without a ledger has not got is not made yet
    yield from (EXPORT, f"verdicts/{ledger['verdicts']}.json")
    for number in range(ledger.get("rounds", 1)):
        yield from (waves.name_of({"round": number, "wave": wave}) for wave in range(len(plans.get(number, ()))))


def garbage(names: Iterable[str], found: Named) -> list[str]:
    """Those among these names of objects that are ours and that no manifest names."""
    known = {file.path for _, file in found.files}
    settled = {(wave["round"], wave["wave"]) for name, wave in found.manifests.items() if name.startswith("waves/")}
    unread = any(name.startswith("waves/") for name in found.damaged)

    def is_left(name: str) -> bool:
        attempt = _ATTEMPT.fullmatch(name)
        if attempt:
            return not unread and (int(attempt[1]), int(attempt[2])) in settled
        folder = name.split("/")[0]
        unsure = any(manifest_name.startswith((f"{folder}.", f"{folder}/", "plan")) for manifest_name in found.damaged)
        return bool(_DATA.fullmatch(name)) and (folder == "verdicts" or not unsure)  # those are made again in a moment

    return [name for name in names if name not in known and is_left(name)]


def sweep(store: Store) -> list[str]:
    """Delete what no manifest names, and what was never written to its end; returns the names."""
    names = store.list()
    gone = garbage(names, named(store, names))
    gone += [name for name in names if re.fullmatch(rf"{re.escape(PROBE)}[0-9a-f]+", name)]
    gone += [name for name in store.sizes(temporary=True) if _UNFINISHED.fullmatch(name)]
    for name in gone:
        store.delete(name)
    return gone


def _listed(value: Any) -> list[dict[str, Any]]:
    return value if isinstance(value, list) else [value] if value else []
