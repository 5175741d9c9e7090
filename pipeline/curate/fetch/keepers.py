"""The way to the keeper of a host, from any process: in this one, through the worker of a child, or an actor of Ray.

In a cluster a small pool of named actors keeps all hosts; a host belongs to the actor that the hash of its domain
names, whichever run, node or process asks. An actor that dies starts again with the waits that it had saved in the
folder `hosts` of each run that asked it, so a long `Retry-After` or `Crawl-delay` survives the kill of everything.
Cost: one message of some 200 bytes a request, and one more where the turn is later than at once; those of one moment
travel together.
"""

import asyncio
import hashlib
import sys
import threading
import time
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from pipeline.curate import upcall
from pipeline.curate.fetch import keeper
from pipeline.curate.fetch.keeper import Answer, Keeper, Question
from pipeline.log import logger
from pipeline.storage import Store, read_json, write_json

FOLDER = "hosts"
"""Where a run keeps the waits that its hosts asked for: one file for each actor."""
_NAMESPACE = "triptych"
_ACTORS = 8
"""Each answers some 3,000 messages a second: 1,000 nodes that fetch 20 files a second each send about as many."""
_SAVE_EVERY_S = 1.0
_LONGEST_S = 7 * 24 * 3600.0  # of a wait that is taken over: the clock of whoever saved it may be wrong
_PATIENCE_S = (0.1, 1.0, 5.0, 15.0, 30.0)  # between tries to reach an actor whose node died
_IDLE_S = 600.0
"""An actor that nobody asked for so long ends: it belongs to no job, so nothing else ends it on a shared cluster."""

_here = Keeper()


def forget() -> None:
    """Forget what this process itself knows of hosts."""
    global _here
    _here = Keeper()


class Line:
    """Questions of one event loop: those that are asked while one message is under way are the next message."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Question, asyncio.Future[Answer]]] = []
        self._sender: asyncio.Task[None] | None = None

    async def ask(self, question: Question) -> Answer:
        """What the keeper of its host answers."""
        if upcall.ask is None and not _in_ray():
            return _here.answer(question)
        return await self._queue(question)

    def tell(self, question: Question) -> None:
        """Ask, and not wait for the answer."""
        if upcall.ask is None and not _in_ray():
            _here.answer(question)
        else:
            self._queue(question)

    def _queue(self, question: Question) -> "asyncio.Future[Answer]":
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send())
        return future

    async def close(self) -> None:
        """Wait until all that was told has arrived."""
        if self._sender is not None:
            await self._sender

    async def _send(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                data = await asyncio.to_thread(_elsewhere, keeper.dump([question for question, _ in batch]))
                answers = keeper.answers(data)
            except Exception as error:  # noqa: BLE001 - each who waits is told
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)


def _in_ray() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def _elsewhere(data: bytes) -> bytes:
    return upcall.ask(data) if upcall.ask is not None else answer(data, run_dir=None)


def answer(data: bytes, run_dir: str | None) -> bytes:
    """Answers to dumped questions, from the keepers that they belong to; `run_dir` is the run on whose behalf."""
    asked = keeper.questions(data)
    if not _in_ray():
        return keeper.dump([_here.answer(question) for question in asked])
    parts: dict[int, list[int]] = {}
    for place, question in enumerate(asked):
        parts.setdefault(_number(question), []).append(place)
    answers: list[Answer] = [None] * len(asked)
    for number, places in parts.items():
        reply = _answer_of(number, keeper.dump([asked[place] for place in places]), run_dir)
        for place, one in zip(places, keeper.answers(reply), strict=True):
            answers[place] = one
    return keeper.dump(answers)


def _answer_of(number: int, data: bytes, run_dir: str | None) -> bytes:
    """The actor's answer; an actor that died, with its node perhaps, is started again meanwhile."""
    import ray

    for pause_s in (*_PATIENCE_S, None):
        try:
            if number not in _handles:
                _find(number)
            reply: bytes = ray.get(_handles[number].answer.remote(data, run_dir))
            return reply
        except ray.exceptions.RayActorError:
            if pause_s is None:
                raise
            _handles.pop(number, None)
            time.sleep(pause_s)
    raise AssertionError("the last try returns or raises")


def _number(question: Question) -> int:
    if isinstance(question, keeper.Confirm):
        return _number(question.turn)
    if isinstance(question, keeper.Document | keeper.Publish):
        host = urlsplit(question.url).netloc
    else:
        host = question.host
    # The last two labels are about the registered domain: hosts that belong together are kept together, no more.
    domain = ".".join(host.rpartition("@")[2].split(".")[-2:])
    return hashlib.sha256(domain.encode()).digest()[0] % _ACTORS


_handles: dict[int, Any] = {}  # number -> the actor, as Ray's handle has no types


def _find(number: int) -> None:
    """The actor of this number, started if nobody has yet."""
    import ray

    _handles[number] = (
        ray.remote(HostKeeper)
        .options(
            name=f"host-keeper-{number}",
            namespace=_NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=-1,
        )
        .remote(number)
    )


class HostKeeper:
    """A keeper as an actor: it saves its waits in the runs on whose behalf it is asked, and ends when nobody asks."""

    def __init__(self, number: int) -> None:
        self._file = f"{FOLDER}/{number:03}.json"
        self._keeper = Keeper()
        self._runs: set[str] = set()
        self._asked_s = time.monotonic()
        threading.Thread(target=self._attend, daemon=True).start()

    def answer(self, data: bytes, run_dir: str | None) -> bytes:
        """Dumped answers to dumped questions; the waits of a run that asks for the first time are taken over."""
        self._asked_s = time.monotonic()
        if run_dir is not None and run_dir not in self._runs:
            self._keeper.restore(_saved(Store(run_dir), self._file))
            self._runs.add(run_dir)
        return keeper.dump([self._keeper.answer(question) for question in keeper.questions(data)])

    def _attend(self) -> None:
        while time.monotonic() - self._asked_s < _IDLE_S:
            time.sleep(_SAVE_EVERY_S)
            if self._keeper.changed:
                self._keeper.changed = False
                self._save()
        import ray

        ray.kill(ray.get_runtime_context().current_actor)

    def _save(self) -> None:
        now = time.time()
        until = {host: round(now + wait_s, 3) for host, wait_s in sorted(self._keeper.waits().items())}
        for run_dir in self._runs:
            try:
                write_json(Store(run_dir), self._file, until)
            except OSError as error:  # the waits hold all the same while this process lives
                logger.warning("cannot save what hosts asked for in %s: %s", run_dir, error)


def _saved(store: Store, name: str) -> dict[str, float]:
    """Seconds from now until each host may be asked; none where nothing, or nothing of ours, was saved."""
    with suppress(FileNotFoundError, ValueError):
        until = read_json(store, name)
        now = time.time()
        return {
            host: min(at - now, _LONGEST_S)
            for host, at in (until.items() if isinstance(until, dict) else ())
            if isinstance(at, int | float) and at > now
        }
    return {}
