"""Checkpoints that any number of ranks and any ZeRO stage can read, and that are whole or not there at all.

A checkpoint is a folder `<step>-<attempt>`: one safetensors file per rank with the pieces of parameters that it owns
(fp32 master, both moments, EMA), one with buffers, and `manifest.json`, created last. The manifest lists every file
(size, sha256, digest of each chunk) and where each piece lies, so a reader fetches only the byte ranges it needs and
verifies each of them (`saved`).

Guarantees: what has no manifest does not exist; nothing is unpickled. Each attempt to train writes folders of its own,
so a process thought dead can spoil nothing. Training waits for the copy to host memory only; writing goes on in the
background until `wait`, and holds up no thread of Python for more than milliseconds. Cost: host memory for this rank's
share, kept from save to save; on an object store, twice while it writes.
"""

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from safetensors.torch import save

from pipeline import storage
from pipeline.config import from_json, to_json
from pipeline.log import logger
from pipeline.manifest import commit
from pipeline.storage import File, Store
from pipeline.train import ranks
from pipeline.train.manifest import FORMAT, KINDS, CheckpointManifest, Contents, Part, joined
from pipeline.train.saved import MANIFEST, Saved, best_saved, chunk_digests, committed, open_saved
from pipeline.train.slices import Slice

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class _Save:
    """One rank's share of one checkpoint, copied from the training that goes on meanwhile."""

    store: Store
    step: int
    rank: int
    world_size: int
    data: memoryview
    """A safetensors file; it is written over by the next save, which waits for this one."""
    statics: dict[str, torch.Tensor]
    contents: Contents
    before: Callable[[], None] | None

    @property
    def file_name(self) -> str:
        """Of this rank's data."""
        return data_name(self.rank)


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
        self._store = store
        self._device = device
        self._keep = keep
        self._best = best
        self._timeout_s = timeout_s
        self._passed_over: set[str] = set()
        # In the name of each folder: two drivers that both think they are alone write beside each other, never into.
        self._attempt = ranks.from_first(secrets.token_hex(4), device)
        self._thread: threading.Thread | None = None
        self._name = ""
        self._error: Exception | None = None
        self._buffer = torch.empty(0, dtype=torch.uint8)  # as large as the file of a rank, from the first save on

    def names(self) -> list[str]:
        """Checkpoints that were committed, the newest first, as rank 0 sees them."""
        # A store may list late: ranks that saw different names would wait for each other for ever.
        return ranks.from_first(committed(self._store) if ranks.rank() == 0 else [], self._device)

    def pass_over(self, name: str) -> None:
        """A checkpoint is damaged: it counts as none of those kept."""
        self._passed_over.add(name)

    def open(self, name: str) -> Saved:
        """Read a checkpoint's manifest; CorruptFileError if it is not sound."""
        return open_saved(self._store, name)

    def best(self) -> Saved | None:
        """The best checkpoint by the metric that it was to be kept by, the same on every rank; None if none has it."""
        if self._best is None:
            return None
        names = self.names()  # a collective
        name = ranks.from_first(best_saved(self._store, names, *self._best), self._device)
        return self.open(name) if name else None

    # ---- on the thread that trains: copy, and go on ----

    def save(
        self,
        step: int,
        slices: list[Slice],
        ema: list[torch.Tensor] | None,
        statics: dict[str, torch.Tensor],
        contents: Contents,
        before: Callable[[], None] | None = None,
    ) -> None:
        """Copy this rank's share to host memory and begin to write it; waits for an earlier save to end first.

        `before` is called beside the training too, on rank 0, before the commit.
        """
        self.wait()  # it reads the buffer that is written over now
        # One key a tensor, which is all that a file says of itself: kind, parameter, and where in it the piece begins.
        tensors: dict[str, torch.Tensor] = {}
        for i, piece in enumerate(slices):
            values = dict(zip(KINDS, (piece.master, piece.exp_avg, piece.exp_avg_sq), strict=False))
            if ema is not None:
                values["ema"] = ema[i]
            tensors |= {f"{kind}:{piece.name}:{piece.start}": tensor.detach() for kind, tensor in values.items()}
        self._name = f"{step:08d}-{self._attempt}"
        work = _Save(
            store=self._store.sub(self._name),
            step=step,
            rank=ranks.rank(),
            world_size=ranks.world_size(),
            data=self._copied(tensors),
            # Small beside the rest, and the same on every rank; only rank 0 writes them.
            statics={name: t.detach().to("cpu", copy=True).contiguous() for name, t in statics.items()},
            contents=contents,
            before=before,
        )
        # A daemon: a rank that is told to end must not wait for a store that does not answer.
        self._thread = threading.Thread(target=self._run, args=(work,), name="checkpoint", daemon=True)
        self._thread.start()

    def _copied(self, tensors: dict[str, torch.Tensor]) -> memoryview:
        """1-D fp32 tensors as a safetensors file in host memory; the next call writes over it."""
        sizes = [4 * tensor.numel() for tensor in tensors.values()]
        ends = np.cumsum(sizes).tolist()
        entries = {
            key: {"dtype": "F32", "shape": [size // 4], "data_offsets": [end - size, end]}
            for key, size, end in zip(tensors, sizes, ends, strict=True)
        }
        # safetensors: 8 bytes of length, a JSON header, and the data end to end.
        header = json.dumps(entries).encode()
        header += b" " * (-len(header) % 8)  # data begins at a multiple of 8 bytes
        header = len(header).to_bytes(8, "little") + header
        size_bytes = len(header) + sum(sizes)
        if self._buffer.numel() != size_bytes:  # the first time: a GPU copies to pinned memory without a stop
            self._buffer = torch.empty(size_bytes, dtype=torch.uint8, pin_memory=self._device.type == "cuda")
        parts = self._buffer.split([len(header), *sizes])
        parts[0].copy_(torch.frombuffer(bytearray(header), dtype=torch.uint8))
        for part, tensor in zip(parts[1:], tensors.values(), strict=True):
            part.view(torch.float32).copy_(tensor, non_blocking=True)
        if self._device.type == "cuda":  # the next step changes what is being copied
            torch.cuda.synchronize(self._device)
        return self._buffer.numpy().data

    def wait(self) -> str | None:
        """Wait for the save in progress; its name once committed, None if there was none; OSError if it failed."""
        if self._thread is None:
            return None
        self._thread.join()
        self._thread = None
        # All ranks must know of one's failure: else one would report a checkpoint that the others gave up.
        if not ranks.all_true(self._error is None, self._device):
            reason = self._error or "another rank failed"
            raise OSError(f"checkpoint {self._name} was not written: {reason}") from self._error
        return self._name

    # ---- beside it: each rank writes its file, then its part of the manifest; rank 0 joins the parts and commits ----

    def _run(self, work: _Save) -> None:
        try:
            self._write(work)
        except Exception as error:  # noqa: BLE001 - raised again by `wait`, on the thread that trains
            self._error = error
            # Rank 0 waits for this rank's part; told, it need not wait until the time is up.
            with contextlib.suppress(OSError):
                work.store.write(f"{work.file_name}.failed", f"{type(error).__name__}: {error}".encode())

    def _write(self, work: _Save) -> None:
        # First the data, then who says where it is: a part that is there names a file that is there.
        file = _retried(lambda: work.store.write(work.file_name, work.data))
        part = Part(file=file, chunks=chunk_digests(work.data), pieces=_pieces_in(work.data))
        # Ranks meet in the store, not in a collective: this thread runs beside the training's own collectives.
        _retried(lambda: work.store.write(f"{work.file_name}.json", json.dumps(to_json(part)).encode()))
        if work.rank != 0:
            return
        statics = _retried(lambda: work.store.write("statics.safetensors", save(work.statics)))
        if work.before:  # metrics up to this step: a resume from it must not find fewer
            _retried(work.before)
        self._commit(work, statics, [self._part(work.store, rank) for rank in range(work.world_size)])
        # Only now: until the new one is there, the old one is what a crash goes back to.
        try:
            self._prune()
        except OSError as error:
            logger.warning("warning: old checkpoints in %s cannot be deleted: %s", self._store.url, error)

    def _part(self, store: Store, rank: int) -> Part:
        """What a rank wrote, once it has; OSError if it failed, or takes too long."""
        name, failed = f"{data_name(rank)}.json", f"{data_name(rank)}.failed"
        end_s = time.monotonic() + self._timeout_s
        pause_s = 0.02
        while not _retried(lambda: store.exists(name)):
            if _retried(lambda: store.exists(failed)):
                raise OSError(f"rank {rank} failed: {store.read(failed).decode(errors='replace')}")
            if time.monotonic() > end_s:
                raise TimeoutError(f"rank {rank} did not finish {store.url} within {self._timeout_s:g} s")
            time.sleep(pause_s)  # soon at first, as ranks end within moments of each other
            pause_s = min(1.0, 2 * pause_s)  # a store bills by the question
        return from_json(Part, storage.read_json(store, name))

    @staticmethod
    def _commit(work: _Save, statics: File, parts: list[Part]) -> None:
        """From here on the checkpoint is there, and not before."""
        # Created, not written: of two that would commit under one name one is refused.
        manifest = CheckpointManifest(
            files=(statics, *(part.file for part in parts)),
            format=FORMAT,
            step=work.step,
            world_size=work.world_size,
            chunks=("", *(part.chunks for part in parts)),
            pieces=joined(parts),
            contents=work.contents,
        )
        _retried(lambda: commit(work.store, MANIFEST, manifest))
        # Read back: a store that answers well and keeps badly is found now, and not when it is needed.
        folder, _, name = work.store.url.rpartition("/")
        open_saved(Store(folder), name)

    def _prune(self) -> None:
        """Delete all but the newest `keep` checkpoints and the best, and what dead attempts left behind before them.

        Of those that were passed over none counts as kept; they go once their step is reached again.
        """
        # One listing answers every question below: an object store bills by the request.
        objects = set(self._store.list())
        names = sorted({name.split("/")[0] for name in objects}, reverse=True)
        # Ours first, then what is of an earlier step: a later step is of an attempt that may still be writing.
        names = [self._name, *(name for name in names if name != self._name and name[:8] <= self._name[:8])]
        done = [name for name in names if name not in self._passed_over and f"{name}/{MANIFEST}" in objects]
        best = best_saved(self._store, done, *self._best) if self._best and len(done) > self._keep else None
        # An attempt that is dead left files and no manifest; ours has files without one only while it writes.
        old = [name for name in done[self._keep :] if name != best]
        dead = [name for name in names if name not in done and not name.endswith(self._attempt)]
        # Of `keep` checkpoints each is whole, so a damaged newest one costs a few steps and not the run.
        for name in old + dead:
            self._store.delete(f"{name}/{MANIFEST}")  # first: half a checkpoint must not look like one
            self._store.delete(name)


def data_name(rank: int) -> str:
    """The file of what a rank owns."""
    return f"rank-{rank:05d}.safetensors"


def _pieces_in(data: memoryview) -> dict[str, dict[str, tuple[int, ...]]]:
    """The `Part.pieces` of a file of ours, by its own header."""
    # From the bytes that were written, not from what was meant: the manifest then cannot say anything else.
    length = int.from_bytes(data[:8], "little")
    header = json.loads(bytes(data[8 : 8 + length]))
    pieces: dict[str, dict[str, tuple[int, ...]]] = {kind: {} for kind in KINDS}
    for key, entry in header.items():
        kind, name, start = key.split(":")
        lo, hi = entry["data_offsets"]
        piece = (int(start), int(start) + (hi - lo) // 4, 8 + length + lo)
        pieces[kind][name] = (*pieces[kind].get(name, ()), *piece)
    return pieces


def _retried(write: Callable[[], T], tries: int = 4) -> T:
    """A store that is out of breath for seconds costs no checkpoint."""
    for attempt in range(1, tries):  # after 1, 2 and 4 s; what lasts longer is no hiccup
        try:
            return write()
        except OSError:
            time.sleep(0.5 * 2**attempt)
    return write()
