"""The plan of a run: which inputs commit together, in which order; and the fingerprint of all that its rows depend on.

Guarantees: the cut depends on the inputs and their estimated costs alone; it is listed in `plan.json`, each wave by the
digest of its keys, and pinned there: a changed option never moves an input to another wave. A run is bound to its
fingerprint (all that its rows depend on: see `Curation.fingerprint`); going on under another one is refused with the
difference.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipeline.config import difference, digest
from pipeline.curate.journal import FINGERPRINTS, PLANS, Journal
from pipeline.curate.manifests import Fingerprint, PlanManifest, PlannedWave
from pipeline.log import logger
from pipeline.records import fingerprint_name, plan_name
from pipeline.storage import read_table, write_parquet


def cut(costs: Sequence[float] | np.ndarray, limit: int) -> list[int]:
    """Where to cut inputs into parts of at most `limit` rows and, but for a single row, at most `limit` of cost."""
    costs = np.asarray(costs, dtype=float)
    if (costs == 1).all():
        return [min(i + limit, len(costs)) for i in range(0, len(costs), limit)]
    ends, total, start = [], 0.0, 0
    for i, cost in enumerate(costs.tolist()):
        if i > start and (total + cost > limit or i - start == limit):
            ends.append(i)
            total, start = 0.0, i
        total += cost
    return [*ends, len(costs)]


def estimate(expected: pa.ChunkedArray) -> np.ndarray:
    """Relative costs from what a source says of size or length: 1 is the median, and what an input of unknown cost has.

    Sources may be wrong, or lie: no input counts for less than 1/32 or more than 32 usual ones.
    """
    values = np.asarray(expected.cast(pa.float64()).fill_null(np.nan).to_numpy(), dtype=float)
    known = np.isfinite(values) & (values > 0)
    if not known.any():
        return np.ones(len(values))
    return np.where(known, np.clip(np.where(known, values, 1.0) / np.median(values[known]), 1 / 32, 32), 1.0)


def longest_first(costs: np.ndarray) -> np.ndarray | None:
    """The order in which inputs are worked on; None if it is the order in which they were listed."""
    return None if (costs == costs[:1]).all() else np.argsort(-costs, kind="stable")


def pin(journal: Journal, keys: pa.ChunkedArray, costs: np.ndarray, wave_rows: int) -> tuple[PlannedWave, ...]:
    """Cut inputs into waves and pin the plan; if one is pinned already, that one. `keys` and `costs` are longest
    first."""
    if (pinned := of_round(journal, 0)) is None:
        plan = PlanManifest(files=(), inputs_sha256=keys_digest(keys), waves=_planned(keys, costs, wave_rows))
        journal.create(plan_name(0), plan)
        pinned = of_round(journal, 0)
    assert pinned is not None
    rows = sum(wave.rows for wave in pinned.waves)
    if rows != len(keys):
        raise ValueError(
            f"{journal.store.url}/{plan_name(0)} plans {rows} inputs, but there are {len(keys)}; use a new run_dir"
        )
    return pinned.waves


def add_round(
    journal: Journal, rows: pa.Table, costs: np.ndarray, wave_rows: int, replaces: Sequence[str] | None = None
) -> int:
    """Plan to work on some inputs again; their new rows will stand for the old ones. Returns the round's number.

    A round of new inputs says which it `replaces`, be it none: rows of listings that could not be read before.
    """
    number = len(rounds(journal))
    file = write_parquet(journal.store, "inputs/{sha256}.parquet", rows)
    plan = PlanManifest(
        files=(file,),
        waves=_planned(rows["key"], costs, wave_rows),
        replaces=None if replaces is None else tuple(replaces),
    )
    journal.create(plan_name(number), plan)
    return number


def rounds(journal: Journal) -> list[int]:
    """Numbers of the planned rounds, in order; round 0 is the run itself."""
    return sorted(number_of(name) for name in journal.names(PLANS))


def number_of(name: str) -> int:
    """The round that a plan's manifest is of."""
    return int(name.removeprefix("plans/").removesuffix(".json")) if "/" in name else 0


def of_round(journal: Journal, number: int) -> PlanManifest | None:
    """The pinned plan of a round; None if there is no such round."""
    return journal.find(plan_name(number), PlanManifest)


def waves(journal: Journal, number: int) -> tuple[PlannedWave, ...]:
    """The pinned waves of a round; none if there is no such round."""
    plan = of_round(journal, number)
    return () if plan is None else plan.waves


def replaced(journal: Journal, number: int) -> tuple[str, ...] | None:
    """Keys for which the new inputs of a round stand; None for a round that has none."""
    plan = of_round(journal, number)
    return None if plan is None else plan.replaces


def of_new_inputs(journal: Journal) -> list[int]:
    """Numbers of the rounds that work on inputs which the run had not before."""
    return [number for number in rounds(journal)[1:] if replaced(journal, number) is not None]


def round_rows(journal: Journal, number: int) -> pa.Table:
    """The rows that a later round works on again."""
    plan = of_round(journal, number)
    assert plan is not None
    return read_table(journal.store, plan.files[0])


def keys_digest(keys: pa.Array | pa.ChunkedArray) -> str:
    """Sha256 (hex) of keys in their order."""
    sha256 = hashlib.sha256()
    for start in range(0, len(keys), 1 << 14):  # in pieces: a million Python strings at once are 100 MB
        sha256.update("".join(f"{key}\n" for key in keys.slice(start, 1 << 14).to_pylist()).encode())
    return sha256.hexdigest()


def bind(journal: Journal, fingerprint: Fingerprint, *, accept: bool = False) -> None:
    """Bind a run to its fingerprint, or refuse to go on under another one.

    Raises ValueError that shows each difference; `accept` records the new fingerprint beside the old one instead.
    """
    if fingerprint_name(0) not in journal.sizes and journal.create(fingerprint_name(0), fingerprint):
        return
    accepted = fingerprints(journal)
    if _is_among(fingerprint, accepted):
        return
    changes = "; ".join(difference(accepted[-1], fingerprint))
    if not accept:
        raise ValueError(
            f"{journal.store.url} was made under another plan ({changes}); use a new run_dir, or pass --accept-plan "
            "to go on and record it"
        )
    journal.create(fingerprint_name(len(accepted)), fingerprint)
    logger.warning("going on under a changed plan: %s", changes)


def is_bound(journal: Journal, fingerprint: Fingerprint) -> bool:
    """True if the run was made under this very fingerprint."""
    return _is_among(fingerprint, fingerprints(journal))


def fingerprints(journal: Journal) -> list[dict[str, object]]:
    """Every fingerprint that the run went on under, oldest first, as JSON: another version may have recorded it."""
    return journal.all(FINGERPRINTS, dict)


def _is_among(fingerprint: Fingerprint, accepted: list[dict[str, object]]) -> bool:
    return digest(fingerprint) in map(digest, accepted)


def _planned(keys: pa.ChunkedArray, costs: np.ndarray, wave_rows: int) -> tuple[PlannedWave, ...]:
    # Of no rows one wave: its manifest says what the round replaces.
    ends = cut(costs, wave_rows) or [0]
    return tuple(
        PlannedWave(
            rows=end - start,
            cost=round(float(costs[start:end].sum()), 3),
            keys_sha256=keys_digest(keys.slice(start, end - start)),
        )
        for start, end in zip([0, *ends], ends, strict=False)
    )
