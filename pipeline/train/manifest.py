"""What the manifest of a checkpoint says, and what makes it one that may be believed.

Its seal proves no more than that it was computed, by whoever made it. Guarantees: what passes has every value in the
right type, and names no more bytes than its files have, so that a reader allocates and reads in proportion to what is
there. Cost: a checkpoint of 64 ranks and 1,000 parameters has some 250,000 pieces; a piece is four numbers in a flat
list, checked as columns, and the digests of a file are one string.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal, get_args

import numpy as np

from pipeline.exported import NetworkSpec
from pipeline.foreign import shown
from pipeline.manifest import Manifest
from pipeline.storage import CorruptFileError, File
from pipeline.train.data.order import Chain
from pipeline.train.divergence import Health

Kind = Literal["master", "exp_avg", "exp_avg_sq", "ema"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What is kept of a parameter: the fp32 weights, both moments of AdamW, and the average."""

FORMAT = 2
CHUNK = 1 << 20
"""Bytes that one digest is of: the least that is read and verified."""
DIGEST = 64
"""Characters of a sha256 in hex."""

_AXES = 8
_PIECE = 4  # numbers: file, start, stop, offset


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Elements [start, stop) of a flattened parameter: fp32, at byte `offset` of a file of the manifest."""

    file: int
    start: int
    stop: int
    offset: int


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What a checkpoint knows of its run besides tensors."""

    updates: int
    """Steps that changed the weights."""
    chain: Chain
    network: NetworkSpec
    digest: str
    """Of the names and shapes of all parameters and buffers."""
    averaged: bool
    """Whether there is an average of the weights."""
    engine: str
    """As `torch` or `ZeRO 1`: what saved it, which need not be what loads it."""
    shapes: Mapping[str, tuple[int, ...]]
    """Of each trainable parameter."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Further names of a tensor that has a name already."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What it is worth."""
    health: Health = Health()

    def __post_init__(self) -> None:
        for text in (self.network.kind, self.engine, *self.metrics):  # they are printed
            if not text.isprintable():
                raise ValueError(f"it names {shown(text)}")
        if any(size < 0 for shape in self.shapes.values() for size in shape):
            raise ValueError("a shape has a size below 0")


@dataclass(frozen=True, kw_only=True)
class CheckpointManifest(Manifest):
    """All files of a checkpoint: the first holds buffers and frozen parameters, each other one what a rank owned."""

    format: int
    step: int
    world_size: int
    chunks: tuple[str, ...]
    """Of each file the sha256 of every `CHUNK` of it, in hex, one after the other; of the first file none."""
    pieces: Mapping[str, Mapping[str, tuple[int, ...]]]
    """Kind -> parameter -> file, start, stop and offset of each `Piece`, one after the other."""
    contents: Contents

    def pieces_of(self, kind: Kind, name: str) -> Iterator[Piece]:
        """The pieces of one parameter."""
        numbers = self.pieces[kind].get(name, ())
        for i in range(0, len(numbers), _PIECE):
            file, start, stop, offset = numbers[i : i + _PIECE]
            yield Piece(file=file, start=start, stop=stop, offset=offset)

    def elements(self, kind: Kind) -> dict[str, int]:
        """How many elements there are of each parameter."""
        return {name: sum(numbers[2::_PIECE]) - sum(numbers[1::_PIECE]) for name, numbers in self.pieces[kind].items()}

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return sum(file.size_bytes for file in self.files)


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one rank wrote, for the rank that commits."""

    file: File
    chunks: str
    """As one entry of `CheckpointManifest.chunks`."""
    pieces: Mapping[str, Mapping[str, tuple[int, ...]]]
    """As those of the manifest, without the number of the file."""


def joined(parts: list[Part]) -> dict[str, dict[str, tuple[int, ...]]]:
    """The pieces of all ranks, with the numbers of their files; file 0 is none of theirs."""
    pieces: dict[str, dict[str, list[int]]] = {kind: {} for kind in KINDS}
    for number, part in enumerate(parts, start=1):
        for kind, by_name in part.pieces.items():
            for name, numbers in by_name.items():
                for i in range(0, len(numbers), _PIECE - 1):
                    pieces[kind].setdefault(name, []).extend((number, *numbers[i : i + _PIECE - 1]))
    return {kind: {name: tuple(numbers) for name, numbers in by_name.items()} for kind, by_name in pieces.items()}


def check_pieces(manifest: CheckpointManifest, name: str) -> None:
    """CorruptFileError unless every piece lies within a file that the manifest `name` lists, beside the others in it,
    and each file has a digest for every `CHUNK` of it."""
    if not _digests_fit(manifest) or not _pieces_fit(manifest):
        raise CorruptFileError(f"{name} names pieces that lie in none of its files; name another folder")


def _digests_fit(manifest: CheckpointManifest) -> bool:
    """A file of n bytes has just so many digests: more bytes than a manifest has room for cannot be claimed."""
    counts = [-(-file.size_bytes // CHUNK) for file in manifest.files]
    counts[:1] = [0] * min(1, len(counts))  # the first file is verified as a whole
    return bool(counts) and [len(digests) for digests in manifest.chunks] == [DIGEST * count for count in counts]


def _pieces_fit(manifest: CheckpointManifest) -> bool:
    flat = [numbers for by_name in manifest.pieces.values() for numbers in by_name.values()]
    if set(manifest.pieces) != set(KINDS) or any(len(numbers) % _PIECE for numbers in flat):
        return False
    try:
        table = np.array(list(chain.from_iterable(flat)), np.int64).reshape(-1, _PIECE)  # (P, 4)
    except OverflowError:
        return False
    sizes = np.array([file.size_bytes for file in manifest.files], np.int64)  # (F,), of bytes
    file, start, stop, offset = table.T  # (P,) each
    if not ((0 < file) & (file < len(sizes))).all():
        return False
    room = (sizes[file] - offset) // 4  # elements from there to the end of the file
    inside = (0 <= start) & (start < stop) & (0 <= offset) & (offset % 4 == 0) & (stop - start <= room)
    used = np.zeros(len(sizes), np.int64)
    np.add.at(used, file, stop - start)
    return bool(inside.all() and (4 * used <= sizes).all())


def check_weights(manifest: CheckpointManifest, kind: Kind, statics: set[str], name: str) -> None:
    """CorruptFileError unless the pieces of `kind` are just the shapes that the manifest `name` gives, and every
    further name is one of a tensor that is there."""
    shapes, elements = manifest.contents.shapes, manifest.elements(kind)
    for key, shape in shapes.items():
        if len(shape) > _AXES or math.prod(shape) != elements.get(key, 0) or key in statics:
            raise CorruptFileError(
                f"{name} gives {shown(key)} the shape {shown(list(shape))}, which is not that of "
                "its pieces; name another checkpoint with --which"
            )
    targets = list(manifest.contents.aliases.values())
    if strange := set(targets) - shapes.keys() - statics:
        raise CorruptFileError(
            f"{name} has an alias of {shown(min(strange))}, which is not there; name another checkpoint with --which"
        )
    copied = sum(elements.get(key, 0) for key in targets)
    if len(targets) > len(shapes) + len(statics) or copied > sum(elements.values()):
        raise CorruptFileError(
            f"{name} has {len(targets)} aliases, of more than all that is there; name another checkpoint with --which"
        )
