"""What the manifest of a checkpoint may say: its seal proves no more than that it was computed, by whoever made it.

Guarantees: what passes has every value that is read of it in the right type, and names no more bytes than its files
have, so that a reader allocates and reads in proportion to what is there.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline import foreign
from pipeline.storage import CorruptFileError


@dataclass(frozen=True, kw_only=True)
class NetworkSpec:
    """What a network is built from, and of what it was trained; the `config.json` of an export."""

    kind: str
    """As `dvae`, `gpt` or `denoiser`."""
    model: Mapping[str, object]
    """Its config, as JSON types."""
    facts: Mapping[str, object] = field(default_factory=dict)
    """What else gives the weights their meaning, such as the digest of a tokenizer."""


KINDS = ("master", "exp_avg", "exp_avg_sq", "ema")

_NOTES: dict[str, type] = {
    "updates": int,
    "world_size": int,
    "chain": dict,
    "model": str,
    "averaged": bool,
    "engine": dict,
    "shapes": dict,
    "aliases": dict,
    "about": dict,
    "metrics": dict,
    "health": dict,
}
"""What `state.save` notes beside the pieces."""
_LATER = ("metrics", "health")  # checkpoints of earlier versions have none
_CHAIN: dict[str, type] = {"step": int, "value": str, "anchor": str, "stream": str}
_AXES = 8
_EXACT = 1 << 53  # an integer that is a float too


def check(facts: dict[str, Any], name: str) -> None:
    """CorruptFileError if a value of the manifest `name` is of another type than it was saved with."""
    foreign.check_types(facts, {"pieces": dict, "chunks": list}, name)
    foreign.check_types(facts, {key: kind for key, kind in _NOTES.items() if key in facts}, name)
    shapes, aliases, metrics, chain = (facts.get(key, {}) for key in ("shapes", "aliases", "metrics", "chain"))
    if not all(type(shape) is list and all(type(n) is int and n >= 0 for n in shape) for shape in shapes.values()):
        raise CorruptFileError(f"{name} has a shape that is no list of sizes; name another folder")
    if not all(type(target) is str for target in aliases.values()):
        raise CorruptFileError(f"{name} has an alias of no name; name another folder")
    for key, value in metrics.items():  # names are printed
        if not key.isprintable() or not (type(value) is float or (type(value) is int and abs(value) < _EXACT)):
            raise CorruptFileError(
                f"{name} has the metric {foreign.shown(key)} {foreign.shown(value)}; name another folder"
            )
    if chain:
        foreign.check_types(chain, _CHAIN, f"{name}'s chain")
        if chain.keys() != _CHAIN.keys():
            raise CorruptFileError(f"{name}'s chain has the keys {foreign.shown(sorted(chain))}; name another folder")


def check_complete(facts: dict[str, Any], name: str) -> None:
    """CorruptFileError unless the manifest `name` has all that `state.save` notes, for those who read a run's
    checkpoints."""
    foreign.check_types(facts, {key: kind for key, kind in _NOTES.items() if key not in _LATER}, name)
    foreign.check_types(facts["about"], {"kind": str, "model": dict, "facts": dict}, f"{name}'s about")
    if not facts["about"]["kind"].isprintable():
        raise CorruptFileError(f"{name} is of the kind {foreign.shown(facts['about']['kind'])}; name another folder")
    foreign.check_types(facts["engine"], {"backend": str, "zero_stage": int}, f"{name}'s engine")


def check_pieces(facts: dict[str, Any], chunk_bytes: int, name: str) -> None:
    """CorruptFileError unless every piece lies within a file that the manifest `name` lists, beside the others in it,
    and that has a digest for each `chunk_bytes` of it."""
    sizes, used = [file.size_bytes for file in facts["files"]], [0] * len(facts["files"])
    try:
        for number, start, stop, at in (
            place for kind in KINDS for parts in facts["pieces"][kind].values() for place in parts
        ):
            if not all(type(n) is int for n in (number, start, stop, at)) or not 0 < number < len(sizes):
                raise ValueError("no place in a file")
            if not (0 <= start < stop and at % 4 == 0 and 0 <= at <= sizes[number] - 4 * (stop - start)):
                raise ValueError("a place beyond its file")
            used[number] += 4 * (stop - start)
        # A file of n bytes has just so many digests: more than a manifest can hold cannot be claimed.
        counts = [-(-size_bytes // chunk_bytes) for size_bytes in sizes[1:]]
        sound = (
            sizes and [len(chunks) for chunks in facts["chunks"]][1:] == counts and len(facts["chunks"]) == len(sizes)
        )
    except (KeyError, TypeError, AttributeError, ValueError):
        sound = False
    if not sound or any(bytes_used > size_bytes for bytes_used, size_bytes in zip(used, sizes, strict=True)):
        raise CorruptFileError(f"{name} names pieces that lie in none of its files; name another folder")


def check_weights(facts: dict[str, Any], kind: str, statics: set[str], name: str) -> None:
    """CorruptFileError unless the pieces of `kind` are just the shapes that the manifest `name` gives, and every
    further name is one of a tensor that is there."""
    shapes, found = facts["shapes"], {}
    for key, parts in facts["pieces"][kind].items():
        found[key] = sum(stop - start for _, start, stop, _ in parts)
    for key, shape in shapes.items():
        if len(shape) > _AXES or math.prod(shape) != found.get(key, 0) or key in statics:
            raise CorruptFileError(
                f"{name} gives {foreign.shown(key)} the shape {foreign.shown(shape)}, which is not that of "
                "its pieces; name another checkpoint with --which"
            )
    targets = list(facts["aliases"].values())
    if strange := set(targets) - shapes.keys() - statics:
        raise CorruptFileError(
            f"{name} has an alias of {foreign.shown(min(strange))}, which is not there; name another "
            "checkpoint with --which"
        )
    if len(targets) > len(shapes) + len(statics) or sum(found.get(key, 0) for key in targets) > sum(found.values()):
        raise CorruptFileError(
            f"{name} has {len(targets)} aliases, of more than all that is there; name another checkpoint with --which"
        )
