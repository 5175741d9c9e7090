"""Where the workers of a run leave word for its driver, and the driver for them: an actor that answers at once.

Guarantees: a checkpoint that is asked for is asked for until one of that step or a later one is committed, by this
group of workers or the next.
"""

import time
from typing import Any, Protocol, TypeVar, cast

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

A = TypeVar("A")

POLL_S = 1.0
"""How often, at most, workers tell their progress and the driver reads it."""


class Mailbox:
    """The actor, as it is within its own process."""

    def __init__(self) -> None:
        self._step = 0
        self._loss: float | None = None
        self._warnings: list[str] = []
        self._final: tuple[str, str] | None = None
        self._failed: set[int] = set()
        self._saved = -1
        self._asked: int | None = None
        self._alive_s = time.monotonic()
        self._stepped = False

    # ---- from the workers ----

    def started(self) -> None:
        """A new group of workers begins, at a checkpoint: what was asked of the one before is asked of it."""
        self._alive_s = time.monotonic()
        self._stepped = False
        self._step = max(self._saved, 0)
        if self._asked is not None:
            self._asked = self._step

    def progress(self, step: int, loss: float) -> bool:
        """A step was done; whether a checkpoint is wanted after the next."""
        self._step = step
        self._loss = loss
        self._alive_s = time.monotonic()
        self._stepped = True
        return self._asked is not None

    def checkpointed(self, step: int) -> None:
        """The checkpoint of a step was committed."""
        self._saved = step
        if self._asked is not None and step >= self._asked:  # an earlier one was begun before it was asked for
            self._asked = None
        self._alive_s = time.monotonic()

    def warn(self, text: str) -> None:
        """A warning to show."""
        self._warnings.append(text)

    def fail(self, rank: int, kind: str, text: str) -> int:
        """An error that trying again cannot mend; how many ranks have met one."""
        self._final = self._final or (kind, text)
        self._failed.add(rank)
        return len(self._failed)

    # ---- from the driver ----

    def ask(self) -> None:
        """Ask for a checkpoint of this step or a later one, unless there is one."""
        if self._saved < self._step:
            self._asked = self._step

    def saved(self) -> int | None:
        """The last step whose checkpoint was committed in this run, -1 before the first; None while one is asked
        for."""
        return self._saved if self._asked is None else None

    def silent(self) -> tuple[float, bool]:
        """Seconds since the last start, step or checkpoint, and whether this group has made a step."""
        return time.monotonic() - self._alive_s, self._stepped

    def final(self) -> tuple[str, str] | None:
        """The first error that trying again cannot mend: its class and its text."""
        return self._final

    def read(self, warnings: int) -> tuple[int, float | None, list[str]]:
        """Step, loss (None before this group's first step), and the warnings after the first `warnings`."""
        return self._step, self._loss if self._stepped else None, self._warnings[warnings:]


class Method(Protocol[A]):
    """One of its methods, from another process."""

    def remote(self, *args: object) -> "ray.ObjectRef[A]":
        """Ask, and go on; `ray.get` waits for the answer."""
        ...


class MailboxHandle(Protocol):
    """The actor, as it is from another process."""

    started: Method[None]
    progress: Method[bool]
    checkpointed: Method[None]
    warn: Method[None]
    fail: Method[int]
    ask: Method[None]
    saved: Method[int | None]
    silent: Method[tuple[float, bool]]
    final: Method[tuple[str, str] | None]
    read: Method[tuple[int, float | None, list[str]]]


def start() -> MailboxHandle:
    """A mailbox on this process's node: it must not go with a node of the workers."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    actor = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here)
    return cast(MailboxHandle, actor.remote())


def stop(mailbox: MailboxHandle) -> None:
    """End the actor."""
    ray.kill(cast(Any, mailbox))


def save_now(mailbox: MailboxHandle, timeout_s: float) -> int | None:
    """Ask for a checkpoint and wait until it is committed; its step, or None if that took too long."""
    end = time.monotonic() + timeout_s
    ray.get(mailbox.ask.remote())
    while (step := ray.get(mailbox.saved.remote())) is None:
        if time.monotonic() > end:
            return None
        time.sleep(0.1)
    return step
