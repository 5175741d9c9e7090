"""The plan of a run: which inputs commit together, in which order; and the fingerprint of all that its rows depend on.

Guarantees: the cut depends on the inputs and their estimated costs alone; it is listed in `plan.json`, each wave by the
digest of its keys, and pinned there: a changed option never moves an input to another wave. A run is bound to its
fingerprint (all that its rows depend on: see `Curation.fingerprint`); going on under another one is refused with the
difference.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.config import difference
from pipeline.log import logger
from pipeline.manifest import commit, read_manifest, read_sealed, sealed
from pipeline.storage import File, Store, read_table, write_parquet

NAMES = r"\d{3,}\.json"
"""What plans of rounds and fingerprints are called, within their folders."""


@dataclass(frozen=True, kw_only=True)
class Wave:
    """Inputs that commit together: how many, what they are estimated to cost (1 = a usual input), whose keys they
    are."""

    rows: int
    cost: float
    keys_sha256: str


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


def pin(store: Store, keys: pa.ChunkedArray, costs: np.ndarray, wave_rows: int) -> list[Wave]:
    """Cut inputs into waves and pin the plan; if one is pinned already, that one. `keys` and `costs` are longest
    first."""
    if (pinned := waves(store, 0)) is None:
        commit(store, _name(0), [], inputs_sha256=keys_digest(keys), waves=_listing(keys, costs, wave_rows))
        pinned = waves(store, 0)
    assert pinned is not None
    if sum(wave.rows for wave in pinned) != len(keys):
        raise ValueError(
            f"{store.url}/{_name(0)} plans {sum(w.rows for w in pinned)} inputs, but there are {len(keys)}; "
            "use a new run_dir"
        )
    return pinned


def add_round(store: Store, rows: pa.Table, costs: np.ndarray, wave_rows: int) -> int:
    """Plan to work on some inputs again; their new rows will stand for the old ones. Returns the round's number."""
    number = len(rounds(store))
    file = write_parquet(store, "inputs/{sha256}.parquet", rows)
    commit(store, _name(number), [file], waves=_listing(rows["key"], costs, wave_rows))
    return number


def rounds(store: Store) -> list[int]:
    """Numbers of the planned rounds, in order; round 0 is the run itself."""
    further = [int(name.removeprefix("plans/").removesuffix(".json")) for name in store.list("plans", NAMES)]
    return [0, *further] if store.exists(_name(0)) else further


def waves(store: Store, number: int) -> list[Wave] | None:
    """The pinned waves of a round; None if there is no such round."""
    found = read_manifest(store, _name(number))
    return None if found is None else [Wave(**wave) for wave in found["waves"]]


def round_rows(store: Store, number: int) -> pa.Table:
    """The rows that a later round works on again."""
    found = read_manifest(store, _name(number))
    assert found is not None
    file: File = found["files"][0]
    return read_table(store, file)


def keys_digest(keys: pa.Array | pa.ChunkedArray) -> str:
    """Sha256 (hex) of keys in their order."""
    sha256 = hashlib.sha256()
    for at in range(0, len(keys), 1 << 14):  # in pieces: a million Python strings at once are 100 MB
        sha256.update("".join(f"{key}\n" for key in keys.slice(at, 1 << 14).to_pylist()).encode())
    return sha256.hexdigest()


def bind(store: Store, fingerprint: dict[str, Any], *, accept: bool = False) -> None:
    """Bind a run to its fingerprint, or refuse to go on under another one.

    Raises ValueError that shows each difference; `accept` records the new fingerprint beside the old one instead.
    """
    ours = json.loads(json.dumps(fingerprint))
    data = sealed(ours)
    if store.create("fingerprints/000.json", data) or ours in (accepted := fingerprints(store)):
        return
    changes = "; ".join(difference(accepted[-1], ours))
    if not accept:
        raise ValueError(
            f"{store.url} was made under another plan ({changes}); use a new run_dir, or pass --accept-plan to "
            "go on and record it"
        )
    store.create(f"fingerprints/{len(accepted):03d}.json", data)
    logger.warning("going on under a changed plan: %s", changes)


def is_bound(store: Store, fingerprint: dict[str, Any]) -> bool:
    """True if the run was made under this very fingerprint."""
    return json.loads(json.dumps(fingerprint)) in fingerprints(store)


def fingerprints(store: Store) -> list[dict[str, Any]]:
    """Every fingerprint that the run went on under, oldest first."""
    return [read_sealed(store, name) for name in store.list("fingerprints", NAMES)]


def _listing(keys: pa.ChunkedArray, costs: np.ndarray, wave_rows: int) -> list[dict[str, Any]]:
    ends = cut(costs, wave_rows)
    return [
        {
            "rows": end - start,
            "cost": round(float(costs[start:end].sum()), 3),
            "keys_sha256": keys_digest(keys.slice(start, end - start)),
        }
        for start, end in zip([0, *ends], ends, strict=False)
    ]


def _name(number: int) -> str:
    return f"plans/{number:03d}.json" if number else "plan.json"
