"""Checkpoints that any number of ranks and any ZeRO stage can read, and that are whole or not there at all.

A checkpoint is a folder `<step>-<attempt>`: one safetensors file per rank with the pieces of parameters that it owns
(fp32 master, both moments, EMA), one with buffers, and `manifest.json`, created last. The manifest lists every file
(size, sha256, digest of each CHUNK) and where each piece lies, so a reader fetches only the byte ranges it needs and
verifies each of them.

Guarantees: what has no manifest does not exist; a torn, altered, swapped or missing file, or manifest, is found before
any state is touched, named in one warning, and the newest checkpoint that is whole is used; nothing is unpickled. Each
attempt to train writes folders of its own, so a process thought dead can spoil nothing. Training waits for the copy to
host memory only; writing goes on in the background until `wait`, and holds up no thread of Python for more than
milliseconds. Cost: host memory for this rank's share, kept from save to save; on an object store, twice while it
writes.
"""

import contextlib
import hashlib
import json
import math
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from safetensors.torch import save

from pipeline import foreign, storage, weights
from pipeline.log import logger
from pipeline.manifest import commit
from pipeline.storage import CorruptFileError, File, Store
from pipeline.train import manifest, ranks
from pipeline.train.engine import Slice
from pipeline.train.manifest import KINDS

CHUNK = 1 << 20
"""Bytes verified at once."""

_RUN_BYTES = 64 << 20  # ranges closer than a chunk are read together, up to this size
_FORMAT = 1
_COMMITTED = re.compile(r"([0-9]+-[^/]+)/manifest\.json")


@dataclass(frozen=True, kw_only=True)
class Want:
    """Elements [start, start + n) of a flattened parameter, of one kind, to be read into `into` (1-D fp32, CPU)."""

    kind: str
    name: str
    start: int
    into: torch.Tensor


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A checkpoint whose manifest was read and is sound; its files are verified as they are read."""

    store: Store
    name: str
    facts: dict[str, Any]
    bytes_read: list[int] = field(default_factory=lambda: [0])

    def statics(self) -> dict[str, torch.Tensor]:
        """Buffers and frozen parameters, by name; CorruptFileError if their file is damaged or hostile."""
        file = self.facts["files"][0]
        tensors = weights.tensors(self.store, file)
        self.bytes_read[0] += file.size_bytes
        return tensors

    def damage(self) -> list[str]:
        """One line for each file that is not what was saved; reads everything, and holds 64 MB of it at once."""
        return [line for number in range(len(self.facts["files"])) for line in self._damage(number)]

    def _damage(self, number: int) -> Iterator[str]:
        file = self.facts["files"][number]
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
        jobs = [job for want in wants for job in self._locate(want)]
        jobs.sort(key=lambda job: job[:3])
        while jobs:
            file, lo, hi, _ = jobs[0]
            n = 1
            while n < len(jobs) and jobs[n][0] == file and jobs[n][1] <= hi + CHUNK and jobs[n][2] - lo <= _RUN_BYTES:
                hi = max(hi, jobs[n][2])
                n += 1
            data, at = self._verified(file, lo, hi)
            for _, start, stop, into in jobs[:n]:
                into.copy_(torch.frombuffer(data, dtype=torch.float32, count=(stop - start) // 4, offset=start - at))
            del jobs[:n]

    def _locate(self, want: Want) -> Iterator[tuple[int, int, int, torch.Tensor]]:
        """(file, first byte, last byte, destination) of the pieces that hold what is wanted."""
        stop, found = want.start + want.into.numel(), 0
        for file, start, end, at in self.facts["pieces"][want.kind].get(want.name, ()):
            lo, hi = max(start, want.start), min(end, stop)
            if lo < hi:
                found += hi - lo
                yield file, at + 4 * (lo - start), at + 4 * (hi - start), want.into[lo - want.start : hi - want.start]
        if found != want.into.numel():
            raise CorruptFileError(f"{self.store.url}/manifest.json lacks parts of {want.name}")

    def _verified(self, number: int, lo: int, hi: int) -> tuple[bytearray, int]:
        """Bytes of a file that include [lo, hi), and where they begin."""
        file, chunks = self.facts["files"][number], self.facts["chunks"][number]
        lo = lo // CHUNK * CHUNK
        hi = min(-(-hi // CHUNK) * CHUNK, file.size_bytes)
        data = bytearray(storage.read_part(self.store, file, lo, hi))
        self.bytes_read[0] += len(data)
        if len(data) != hi - lo or _chunks(data) != chunks[lo // CHUNK : lo // CHUNK + -(-(hi - lo) // CHUNK)]:
            raise CorruptFileError(f"{self.store.url}/{file.path} is torn or altered between bytes {lo} and {hi}")
        return data, lo


def _chunks(data: bytes | bytearray | memoryview) -> list[str]:
    view = memoryview(data)
    return [hashlib.sha256(view[i : i + CHUNK]).hexdigest() for i in range(0, len(view), CHUNK)]


class Checkpoints:
    """The checkpoints in a folder. Every rank makes one, and calls `save`, `wait` and `names` together.

    Kept are the newest `keep` and, given `best` (a metric, and "min" or "max"), the best by that metric in its
    `metrics`.
    """

    def __init__(
        self,
        store: Store,
        device: torch.device,
        *,
        keep: int,
        best: tuple[str, str] | None = None,
        timeout_s: float = 1800.0,
    ) -> None:
        self._store, self._device, self._keep, self._timeout_s = store, device, keep, timeout_s
        self._best = best
        self._passed_over: set[str] = set()
        self._attempt = ranks.from_first(secrets.token_hex(4), device)
        self._thread: threading.Thread | None = None
        self._name, self._error = "", None
        self._buffer = torch.empty(0, dtype=torch.uint8)

    def names(self) -> list[str]:
        """Checkpoints that were committed, the newest first."""
        found = []
        if ranks.rank() == 0:
            found = committed(self._store)
        return ranks.from_first(found, self._device)

    def pass_over(self, name: str) -> None:
        """A checkpoint is damaged: it counts as none of those kept."""
        self._passed_over.add(name)

    def open(self, name: str) -> Saved:
        """Read a checkpoint's manifest; CorruptFileError if it is not sound."""
        return open_saved(self._store, name)

    def save(
        self,
        step: int,
        slices: list[Slice],
        ema: list[torch.Tensor] | None,
        statics: dict[str, torch.Tensor],
        before: Callable[[], None] | None = None,
        **facts: Any,
    ) -> None:
        """Copy this rank's share to host memory and begin to write it; waits for an earlier save to end first.

        `before` is called beside the training too, on rank 0, before the commit.
        """
        self.wait()
        tensors = {}
        for i, s in enumerate(slices):
            for kind, values in zip(KINDS, (s.master, s.exp_avg, s.exp_avg_sq, ema and ema[i]), strict=True):
                if values is not None:
                    tensors[f"{kind}:{s.name}:{s.start}"] = values.detach()
        fixed = {name: t.detach().to("cpu", copy=True).contiguous() for name, t in statics.items()}
        self._name = f"{step:08d}-{self._attempt}"
        facts |= {"format": _FORMAT, "step": step, "world_size": ranks.world_size()}
        work = (
            self._store.sub(self._name),
            ranks.rank(),
            ranks.world_size(),
            self._copied(tensors),
            fixed,
            before,
            facts,
        )
        self._thread = threading.Thread(target=self._run, args=work, name="checkpoint", daemon=True)
        self._thread.start()

    def _copied(self, tensors: dict[str, torch.Tensor]) -> memoryview:
        """1-D fp32 tensors as a safetensors file in host memory; the next call writes over it."""
        entries, at = {}, 0
        for key, tensor in tensors.items():
            entries[key] = {"dtype": "F32", "shape": [tensor.numel()], "data_offsets": [at, at + 4 * tensor.numel()]}
            at += 4 * tensor.numel()
        text = json.dumps(entries).encode()
        text += b" " * (-len(text) % 8)
        start = 8 + len(text)
        if self._buffer.numel() != start + at:
            self._buffer = torch.empty(start + at, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        self._buffer[:start] = torch.frombuffer(bytearray(len(text).to_bytes(8, "little") + text), dtype=torch.uint8)
        for key, tensor in tensors.items():
            lo, hi = (start + offset for offset in entries[key]["data_offsets"])
            self._buffer[lo:hi].view(torch.float32).copy_(tensor, non_blocking=True)
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return memoryview(self._buffer.numpy())

    def wait(self) -> str | None:
        """Wait for the save in progress; its name once committed, None if there was none; OSError if it failed."""
        if self._thread is None:
            return None
        self._thread.join()
        self._thread = None
        if not ranks.all_true(self._error is None, self._device):
            reason = self._error or "another rank failed"
            raise OSError(f"checkpoint {self._name} was not written: {reason}") from self._error
        return self._name

    def _run(self, *work: Any) -> None:
        try:
            self._write(*work)
        except Exception as error:  # noqa: BLE001 - raised again by `wait`, on the thread that trains
            self._error = error
            with contextlib.suppress(OSError):  # rank 0 waits for this rank's part
                work[0].write(f"{_data_name(work[1])}.failed", f"{type(error).__name__}: {error}".encode())

    def _write(
        self,
        store: Store,
        rank: int,
        world: int,
        data: memoryview,
        statics: dict[str, torch.Tensor],
        before: Callable[[], None] | None,
        facts: dict[str, Any],
    ) -> None:
        file = _retried(lambda: store.write(_data_name(rank), data))
        part = {"file": asdict(file), "chunks": _chunks(data), "pieces": _pieces_in(data)}
        # Ranks meet in the store, not in a collective: this thread runs beside the training's own collectives.
        _retried(lambda: store.write(f"{_data_name(rank)}.json", json.dumps(part).encode()))
        if rank == 0:
            fixed = _retried(lambda: store.write("statics.safetensors", save(statics)))
            if before:
                _retried(before)
            self._commit(store, fixed, [self._part(store, r) for r in range(world)], facts)
            try:
                self._prune()
            except OSError as error:
                logger.warning("warning: old checkpoints in %s cannot be deleted: %s", self._store.url, error)

    def _part(self, store: Store, rank: int) -> dict[str, Any]:
        name, failed = f"{_data_name(rank)}.json", f"{_data_name(rank)}.failed"
        end, pause_s = time.monotonic() + self._timeout_s, 0.02
        while not _retried(lambda: store.exists(name)):
            if _retried(lambda: store.exists(failed)):
                raise OSError(f"rank {rank} failed: {store.read(failed).decode(errors='replace')}")
            if time.monotonic() > end:
                raise TimeoutError(f"rank {rank} did not finish {store.url} within {self._timeout_s:g} s")
            time.sleep(pause_s)
            pause_s = min(1.0, 2 * pause_s)
        return storage.read_json(store, name)

    @staticmethod
    def _commit(store: Store, statics: File, parts: list[dict[str, Any]], facts: dict[str, Any]) -> None:
        pieces: dict[str, dict[str, list[list[int]]]] = {kind: {} for kind in KINDS}
        for number, part in enumerate(parts, start=1):  # file 0 holds the statics
            for kind, name, start, stop, at in part["pieces"]:
                pieces[kind].setdefault(name, []).append([number, start, stop, at])
        files = [statics, *(File(**part["file"]) for part in parts)]
        facts |= {"pieces": pieces, "chunks": [[], *(part["chunks"] for part in parts)]}
        _retried(lambda: commit(store, "manifest.json", files, **facts))
        folder, _, name = store.url.rpartition("/")
        open_saved(Store(folder), name)  # read back: a store that answers well and keeps badly is found now

    def _prune(self) -> None:
        """Delete all but the newest `keep` checkpoints and the best, and what dead attempts left behind before them.

        Of those that were passed over none counts as kept; they go once their step is reached again.
        """
        objects = set(self._store.list())
        names = sorted({name.split("/")[0] for name in objects}, reverse=True)
        names = [self._name, *(name for name in names if name != self._name and name[:8] <= self._name[:8])]
        done = [name for name in names if name not in self._passed_over and f"{name}/manifest.json" in objects]
        best = best_saved(self._store, done, *self._best) if self._best and len(done) > self._keep else None
        for name in done[self._keep :]:
            if name == best:
                continue
            self._store.delete(f"{name}/manifest.json")  # first: half a checkpoint must not look like one
            self._store.delete(name)
        for name in names:
            if name not in done and not name.endswith(self._attempt):
                self._store.delete(f"{name}/manifest.json")
                self._store.delete(name)


def committed(store: Store) -> list[str]:
    """Names of the committed checkpoints of a folder of them, the newest first; what else lies there is none of
    ours."""
    return sorted((found[1] for name in store.list() if (found := _COMMITTED.fullmatch(name))), reverse=True)


def open_saved(store: Store, name: str) -> Saved:
    """A committed checkpoint of a folder of them; CorruptFileError if its manifest is missing or altered."""
    inner = store.sub(name)
    facts = foreign.manifest(inner, "manifest.json")
    if facts is None:
        raise CorruptFileError(f"{inner.url}/manifest.json is missing")
    foreign.check_types(facts, {"step": int, "format": int}, f"{inner.url}/manifest.json")
    if facts["step"] != int(name.split("-")[0]):
        raise CorruptFileError(f"{inner.url} holds the checkpoint of step {facts['step']}")
    if facts["format"] != _FORMAT:
        raise ValueError(f"{inner.url} has format {facts['format']}, this version reads {_FORMAT}; use a new run_dir")
    manifest.check(facts, f"{inner.url}/manifest.json")
    manifest.check_pieces(facts, CHUNK, f"{inner.url}/manifest.json")
    return Saved(store=inner, name=name, facts=facts)


def best_saved(store: Store, names: Iterable[str], metric: str, mode: str) -> str | None:
    """Which of these checkpoints has the smallest (`mode` "min") or largest ("max") `metric`, the oldest of equal
    ones."""
    values = {}
    for name in sorted(names):
        try:
            value = open_saved(store, name).facts.get("metrics", {}).get(metric, math.nan)
        except CorruptFileError:
            continue  # it is found, and named, by who wants to load it
        if math.isfinite(value):
            values[name] = value
    return (min if mode == "min" else max)(values, key=values.__getitem__, default=None)


def bad(error: CorruptFileError) -> None:
    """Warn that a checkpoint is passed over."""
    logger.warning("warning: %s; trying the checkpoint before it", error)


def _data_name(rank: int) -> str:
    return f"rank-{rank:05d}.safetensors"


def _pieces_in(data: memoryview) -> list[tuple[str, str, int, int, int]]:
    """(kind, parameter, start, stop, first byte) of each tensor of a file of ours."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(bytes(data[8 : 8 + length]))
    out = []
    for key, entry in header.items():
        kind, name, start = key.split(":")
        lo, hi = entry["data_offsets"]
        out.append((kind, name, int(start), int(start) + (hi - lo) // 4, 8 + length + lo))
    return sorted(out)


def _retried(write: Callable[[], Any], tries: int = 4) -> Any:
    for left in reversed(range(tries)):
        try:
            return write()
        except OSError:
            if left == 0:
                raise
            time.sleep(0.5 * 2 ** (tries - left))
