"""One driver a run: a lease on the run's folder, on local disks and on S3.

Guarantees: of any number of drivers one holds the run; each other is refused with the holder named. A holder that is
dead is succeeded: at once if it ran on this machine, otherwise once its last heartbeat is `EXPIRY_S` away, whether
before or after our time: a clock that is a year ahead holds nothing for a year. Each holder has an epoch of its own,
taken by an exclusive create; one that was succeeded while it slept finds out before it commits. Nothing's correctness
hangs on clocks: a commit is exclusive whoever makes it, the lease only keeps drivers from working against each other.
Cost: one small write every `BEAT_S` seconds, one listing a commit.
"""

import contextlib
import functools
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from pipeline import signals
from pipeline.config import from_json, json_bytes
from pipeline.log import clean, logger
from pipeline.storage import TEMPORARY, Store

BEAT_S = 10.0
EXPIRY_S = 60.0
_FOLDER = "lease"
_NAME = re.compile(_FOLDER + r"/(\d{6,})\.json")  # file servers and people leave files of other names there
_ATTEMPTS = 20


class HeldError(ValueError):
    """Another driver holds the run."""


class FencedError(RuntimeError):
    """Another driver took the run over while this one was out of reach."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a run: `machine` is this boot of this host, `started_s` tells a process from a later one of its
    number."""

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
        return abs(time.time() - self.beat_s) < EXPIRY_S

    def __str__(self) -> str:
        age_s = time.time() - self.beat_s
        heard = (
            f"last heard of {max(age_s, 0.0):.0f} s ago"
            if age_s > -EXPIRY_S
            else f"its clock {-age_s:.0f} s ahead of ours"
        )
        return f"process {self.pid} on {clean(self.host)} ({heard})"


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
            raise FencedError(
                f"{self.store.url} was taken over by another driver (epoch {latest}, ours is {self.epoch}); "
                "what this one has not committed is void"
            )

    def beat(self, *, released: bool = False) -> None:
        """Say that we are alive, or that we are done."""
        self.store.write(self.name, json_bytes(replace(self.holder, beat_s=time.time(), released=released)))


@contextlib.contextmanager
def hold(store: Store) -> Iterator[Lease]:
    """Hold the run for as long as the block lasts; HeldError names who holds it already."""
    lease = _take(store)
    stop = threading.Event()
    thread = threading.Thread(target=_beat, args=(lease, stop), daemon=True, name="lease")
    thread.start()
    try:
        with signals.releasing(functools.partial(lease.beat, released=True)):
            yield lease
    finally:
        stop.set()
        thread.join(BEAT_S)
        with contextlib.suppress(OSError):  # then it expires
            lease.beat(released=True)


def holder(store: Store) -> Holder | None:
    """Who holds the run now; None if nobody does."""
    epoch = _latest(store)
    try:
        latest = _read(store, epoch) if epoch else None
    except FileNotFoundError:  # succeeded since it was listed
        return holder(store)
    return latest if latest is not None and latest.is_alive() else None


def _take(store: Store) -> Lease:
    for _ in range(_ATTEMPTS):
        epoch = _latest(store)
        try:
            holder = _read(store, epoch) if epoch else None
        except FileNotFoundError:  # removed since it was listed: there is a later one
            continue
        if holder is not None and holder.is_alive():
            raise HeldError(f"{store.url} is held by {holder}; wait for it, or end it and run this again")
        lease = Lease(store=store, epoch=epoch + 1, holder=_me())
        if not store.create(lease.name, json_bytes(lease.holder)):  # another driver was a moment faster: which one?
            continue
        if holder is not None and not holder.released:
            logger.warning("taking over from %s, which is dead", holder)
        _tidy(store, epoch)
        return lease
    raise HeldError(f"{store.url} changed hands {_ATTEMPTS} times while this driver tried to hold it; run it again")


def _tidy(store: Store, before: int) -> None:
    """Delete the leases older than the one before ours, which stays so that whoever held it can see that it is over;
    and what was never written of any but ours: whoever still writes it has been succeeded."""
    for name in store.sizes(_FOLDER, temporary=None):
        whole, is_unfinished, _ = name.partition(TEMPORARY)
        match = _NAME.fullmatch(whole)
        oldest_kept = before + 1 if is_unfinished else before
        if match and int(match[1]) < oldest_kept:
            store.delete(name)


def _read(store: Store, epoch: int) -> Holder:
    """A holder as it wrote itself down; ValueError, with what mends it, if that is none of ours."""
    try:
        return parsed(store.read(_name(epoch)))
    except ValueError as error:
        raise ValueError(
            f"{store.url}/{_name(epoch)} is not a lease that this version wrote; if no other driver works "
            "on the run, delete it and run this again"
        ) from error


def parsed(data: bytes) -> Holder:
    """A holder as it wrote itself down; ValueError if that is none of ours."""
    try:
        return from_json(Holder, json.loads(data))
    except RecursionError as error:
        raise ValueError(str(error)) from error


def _beat(lease: Lease, stop: threading.Event) -> None:
    while not stop.wait(BEAT_S):
        try:
            lease.beat()
        except OSError as error:  # storage that is away for a while; commits are checked in any case
            logger.warning("the lease on %s could not be renewed: %s", lease.store.url, error)


def _epochs(store: Store) -> list[int]:
    return [int(match[1]) for name in store.list(_FOLDER) if (match := _NAME.fullmatch(name))]


def _latest(store: Store) -> int:
    return max(_epochs(store), default=0)


def _me() -> Holder:
    return Holder(
        host=socket.gethostname(),
        machine=_machine(),
        pid=os.getpid(),
        started_s=psutil.Process().create_time(),
        driver=secrets.token_hex(8),
        beat_s=time.time(),
    )


def _machine() -> str:
    """This boot of this host, and within it this namespace of process numbers."""
    with contextlib.suppress(OSError):
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot_id}:{os.stat('/proc/self/ns/pid').st_ino}"
    return f"{socket.gethostname()}:{psutil.boot_time()}"


def _name(epoch: int) -> str:
    return f"{_FOLDER}/{epoch:06d}.json"
