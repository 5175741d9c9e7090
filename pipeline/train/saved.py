"""Reading checkpoints: which there are, whether they are whole, and any range of a parameter out of one.

Guarantees: what has no manifest does not exist; a torn, altered, swapped or missing file, or manifest, is a
CorruptFileError that names it; every byte that is handed out was verified. Cost: a reader fetches the chunks that its
ranges lie in, neighbours in one request.
"""

import hashlib
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from pipeline import foreign, storage, weights
from pipeline.config import from_json
from pipeline.log import logger
from pipeline.manifest import unsealed
from pipeline.storage import CorruptFileError, Store
from pipeline.train import manifest as manifests
from pipeline.train.manifest import DIGEST, FORMAT, CheckpointManifest, Kind

MANIFEST = "manifest.json"

_RUN_BYTES = 64 << 20  # ranges closer than a chunk are read together, up to this size
_COMMITTED = re.compile(r"([0-9]+-[^/]+)/manifest\.json")


@dataclass(frozen=True, kw_only=True)
class Want:
    """Elements [start, start + n) of a flattened parameter, of one kind, to be read into `into` (1-D fp32, CPU)."""

    kind: Kind
    name: str
    start: int
    into: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class _Range:
    """Bytes [lo, hi) of a file, and where they go."""

    file: int
    lo: int
    hi: int
    into: torch.Tensor


@dataclass(kw_only=True)
class Saved:
    """A checkpoint whose manifest was read and is sound; its files are verified as they are read."""

    store: Store
    name: str
    manifest: CheckpointManifest
    bytes_read: int = 0

    def statics(self) -> dict[str, torch.Tensor]:
        """Buffers and frozen parameters, by name; CorruptFileError if their file is damaged or hostile."""
        file = self.manifest.files[0]
        tensors = weights.tensors(self.store, file)
        self.bytes_read += file.size_bytes
        return tensors

    def damage(self) -> list[str]:
        """One line for each file that is not what was saved; reads everything, and holds 64 MB of it at once."""
        return [line for number in range(len(self.manifest.files)) for line in self._damage(number)]

    def _damage(self, number: int) -> Iterator[str]:
        file = self.manifest.files[number]
        try:
            if number == 0:
                self.statics()
            else:
                for lo in range(0, file.size_bytes, _RUN_BYTES):
                    self._verified(number, lo, min(lo + _RUN_BYTES, file.size_bytes))
            if (size := self.store.size_bytes(file.path)) != file.size_bytes:
                yield f"{self.store.url}/{file.path} has {size} bytes, and {file.size_bytes} were saved"
        except CorruptFileError as error:
            yield str(error)

    def read(self, wants: Iterable[Want]) -> None:
        """Fill each `into`; CorruptFileError names a bad file."""
        ranges = [part for want in wants for part in self._ranges(want)]
        # In the order of the files' bytes, whatever the order of the wants: neighbours are then read in one request.
        for run in _runs(sorted(ranges, key=lambda part: (part.file, part.lo))):
            data, first = self._verified(run[0].file, run[0].lo, max(part.hi for part in run))
            for part in run:
                count = (part.hi - part.lo) // 4
                part.into.copy_(torch.frombuffer(data, dtype=torch.float32, count=count, offset=part.lo - first))

    def _ranges(self, want: Want) -> Iterator[_Range]:
        """Where the pieces lie that hold what is wanted."""
        end = want.start + want.into.numel()
        missing = want.into.numel()  # pieces do not overlap: their sizes must add up
        for piece in self.manifest.pieces_of(want.kind, want.name):
            start, stop = max(piece.start, want.start), min(piece.stop, end)
            if start < stop:
                missing -= stop - start
                yield _Range(
                    file=piece.file,
                    lo=piece.offset + 4 * (start - piece.start),
                    hi=piece.offset + 4 * (stop - piece.start),
                    into=want.into[start - want.start : stop - want.start],
                )
        if missing:
            raise CorruptFileError(f"{self.store.url}/{MANIFEST} lacks parts of {want.name}")

    def _verified(self, number: int, lo: int, hi: int) -> tuple[bytearray, int]:
        """Bytes of a file that include [lo, hi), and where they begin: whole chunks, as a digest is of a whole one."""
        file, digests = self.manifest.files[number], self.manifest.chunks[number]
        chunk = manifests.CHUNK
        first, stop = lo // chunk, -(-hi // chunk)  # chunks
        lo, hi = first * chunk, min(stop * chunk, file.size_bytes)
        data = bytearray(storage.read_part(self.store, file, lo, hi))
        self.bytes_read += len(data)
        if len(data) != hi - lo or chunk_digests(data) != digests[first * DIGEST : stop * DIGEST]:
            raise CorruptFileError(f"{self.store.url}/{file.path} is torn or altered between bytes {lo} and {hi}")
        return data, lo


def _runs(ranges: Iterable[_Range]) -> Iterator[list[_Range]]:
    """Ranges of one file that lie less than a chunk apart, together: to ask again costs more than to read on."""
    run: list[_Range] = []
    hi = 0
    for part in ranges:
        if run and (part.file != run[0].file or part.lo > hi + manifests.CHUNK or part.hi - run[0].lo > _RUN_BYTES):
            yield run
            run, hi = [], 0
        run.append(part)
        hi = max(hi, part.hi)  # ranges may lie within each other
    if run:
        yield run


def chunk_digests(data: bytes | bytearray | memoryview) -> str:
    """The sha256 of each chunk, in hex, one after the other."""
    view, chunk = memoryview(data), manifests.CHUNK
    return "".join(hashlib.sha256(view[i : i + chunk]).hexdigest() for i in range(0, len(view), chunk))


def committed(store: Store) -> list[str]:
    """Names of the committed checkpoints of a folder of them, the newest first; what else lies there is none of
    ours."""
    matches = (_COMMITTED.fullmatch(name) for name in store.list())
    return sorted((match[1] for match in matches if match), reverse=True)


def open_saved(store: Store, name: str) -> Saved:
    """A committed checkpoint of a folder of them; CorruptFileError if its manifest is missing, altered or hostile,
    ValueError if it is of another format."""
    folder = store.sub(name)
    where = f"{folder.url}/{MANIFEST}"
    try:
        foreign.check_limit(folder, MANIFEST, foreign.MANIFEST_BYTES)
        entries = unsealed(folder, MANIFEST, folder.read(MANIFEST))
    except FileNotFoundError as error:
        raise CorruptFileError(f"{where} is missing") from error
    # The format first: a checkpoint of another version is no damage, and must stop a run instead of being passed over.
    foreign.check_types(entries, {"step": int, "format": int}, where)
    if entries["step"] != int(name.split("-")[0]):
        raise CorruptFileError(f"{folder.url} holds the checkpoint of step {entries['step']}")
    if entries["format"] != FORMAT:
        raise ValueError(f"{folder.url} has format {entries['format']}, this version reads {FORMAT}; use a new run_dir")
    try:
        manifest = from_json(CheckpointManifest, entries)
    except ValueError as error:
        raise CorruptFileError(f"{where} is no manifest of a checkpoint: {error}; name another folder") from error
    for file in manifest.files:  # no path may lead out of the folder
        foreign.check_file(file, where)
    manifests.check_pieces(manifest, where)
    return Saved(store=folder, name=name, manifest=manifest)


def best_saved(store: Store, names: Iterable[str], metric: str, mode: str) -> str | None:
    """Which of these checkpoints has the smallest (`mode` "min") or largest ("max") `metric`, the oldest of equal
    ones."""
    values = {}
    for name in sorted(names):
        try:
            # Read from the manifests each time: they are few, and a resumed run has nothing else to know it from.
            value = open_saved(store, name).manifest.contents.metrics.get(metric, math.nan)
        except CorruptFileError:
            continue  # it is found, and named, by who wants to load it
        if math.isfinite(value):
            values[name] = value
    return (min if mode == "min" else max)(values, key=values.__getitem__, default=None)


def warn_damaged(error: CorruptFileError) -> None:
    """Say that a checkpoint is passed over."""
    logger.warning("warning: %s; trying the checkpoint before it", error)
