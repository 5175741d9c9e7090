"""One driver a run: a lease on the run's folder, on local disks and on S3.

Guarantees: of any number of drivers one holds the run; each other is refused with the holder named. A holder that is
dead is succeeded: at once if it ran on this machine, after `EXPIRY_S` without a heartbeat otherwise. Each holder has an
epoch of its own, taken by an exclusive create; one that was succeeded while it slept finds out before it commits.
Nothing's correctness hangs on clocks: a commit is exclusive whoever makes it, the lease only keeps drivers from working
against each other. Cost: one small write every `BEAT_S` seconds, one listing a commit.
"""
import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from pipeline.log import logger
from pipeline.storage import Store, read_json

BEAT_S = 10.0
EXPIRY_S = 60.0
_FOLDER = "lease"


class HeldError(ValueError):
    """Another driver holds the run."""


class FencedError(RuntimeError):
    """Another driver took the run over while this one was out of reach."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a run: `machine` is this boot of this host, `started_s` tells a process from a later one of its number."""

    host: str
    machine: str
    pid: int
    started_s: float
    driver: str
    beat_s: float
    released: bool = False

    def is_alive(self) -> bool:
        """False only if it is known, or by its silence to be taken, for dead."""
        if self.released:
            return False
        if self.machine == _machine():
            try:
                return abs(psutil.Process(self.pid).create_time() - self.started_s) < 1.0
            except psutil.NoSuchProcess:
                return False
        return time.time() - self.beat_s < EXPIRY_S

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} (last heard of {max(0.0, time.time() - self.beat_s):.0f} s ago)"


@dataclass(frozen=True, kw_only=True)
class Lease:
    """A held lease."""

    store: Store
    epoch: int
    holder: Holder

    @property
    def name(self) -> str:
        """The object in the store that says so: who does not find it there sees another store."""
        return _name(self.epoch)

    def check(self) -> None:
        """FencedError if another driver has taken over; call it before each commit."""
        if (latest := _latest(self.store)) != self.epoch:
            raise FencedError(f"{self.store.url} was taken over by another driver (epoch {latest}, ours is {self.epoch}); "
                              "what this one has not committed is void")

    def beat(self, *, released: bool = False) -> None:
        """Say that we are alive, or that we are done."""
        self.store.write(self.name, _bytes(replace(self.holder, beat_s=time.time(), released=released)))


@contextlib.contextmanager
def hold(store: Store) -> Iterator[Lease]:
    """Hold the run for as long as the block lasts; HeldError names who holds it already."""
    lease = _take(store)
    stop = threading.Event()
    thread = threading.Thread(target=_beat, args=(lease, stop), daemon=True, name="lease")
    thread.start()
    try:
        yield lease
    finally:
        stop.set()
        thread.join(BEAT_S)
        with contextlib.suppress(OSError):  # then it expires
            lease.beat(released=True)


def _take(store: Store) -> Lease:
    epoch = _latest(store)
    if epoch:
        holder = Holder(**read_json(store, _name(epoch)))
        if holder.is_alive():
            raise HeldError(f"{store.url} is held by {holder}; wait for it, or end it and run this again")
        if not holder.released:
            logger.warning("taking over from %s, which is dead", holder)
    lease = Lease(store=store, epoch=epoch + 1, holder=_me())
    if not store.create(_name(lease.epoch), _bytes(lease.holder)):
        raise HeldError(f"{store.url} is held by {Holder(**read_json(store, _name(lease.epoch)))}, which was a moment faster")
    for old in store.list(_FOLDER):
        if old < _name(epoch):  # the one before us stays, so that whoever held it can see that it is over
            store.delete(old)
    return lease


def _beat(lease: Lease, stop: threading.Event) -> None:
    while not stop.wait(BEAT_S):
        try:
            lease.beat()
        except OSError as error:  # storage that is away for a while; commits are checked in any case
            logger.warning("the lease on %s could not be renewed: %s", lease.store.url, error)


def _latest(store: Store) -> int:
    return max((int(name[-11:-5]) for name in store.list(_FOLDER)), default=0)


def _me() -> Holder:
    return Holder(host=socket.gethostname(), machine=_machine(), pid=os.getpid(),
                  started_s=psutil.Process().create_time(), driver=secrets.token_hex(8), beat_s=time.time())


def _machine() -> str:
    """This boot of this host, and within it this namespace of process numbers."""
    with contextlib.suppress(OSError):
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()}:{os.stat('/proc/self/ns/pid').st_ino}"
    return f"{socket.gethostname()}:{psutil.boot_time()}"


def _bytes(holder: Holder) -> bytes:
    return (json.dumps(asdict(holder), indent=1) + "\n").encode()


def _name(epoch: int) -> str:
    return f"{_FOLDER}/{epoch:06d}.json"
