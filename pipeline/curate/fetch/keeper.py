"""The keeper of hosts: who may ask one next, and what it said about robots. Politeness belongs to the host.

One keeper answers for a host, whoever asks: the processes of one machine, or of a thousand nodes (`keepers`).

Guarantees:
- two turns of one host are at least its interval apart: ours, or its own `Crawl-delay` where that is longer; in the
  turn of a robots.txt its reader may ask for the origin's two other documents too;
- what a host demands (`Retry-After`) holds from the moment it is told, also for turns that were already dealt: whoever
  waited for one asks again (`Confirm`) before it goes;
- a document that speaks for a whole origin (robots.txt, tdmrep.json) is read by one process, and by the next if that
  one dies; all others get what it read;
- a host that failed many times in a row is left alone for a while, then tried again, in turn.
Cost: some 200 bytes a host, and its documents while they are valid. It does no I/O and starts no thread.
"""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pipeline.config import from_json, to_json

T = TypeVar("T")

_SOON_S = 0.25
"""A turn so near needs no second question: no `Retry-After` of the last answer is likely to come in between."""
_MAX_HOSTS = 100_000
_MAX_DOCUMENTS = 10_000
_FAILURES = 10
"""Failures in a row after which a host is thought to be down: with 20 % lost requests one in 10 million rows."""
_DOWN_S = (30.0, 600.0)
"""How long a host that is down is left alone at first, and at most; the time doubles with each failed trial."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """May I ask this host? `crawl_delay_s` is the host's own wish, and `max_wait_s` as long as we wait for a wish."""

    host: str
    interval_s: float
    crawl_delay_s: float = 0.0
    max_wait_s: float


@dataclass(frozen=True, kw_only=True)
class Confirm:
    """May I still, now that my turn has come? `dealt` is what the `Grant` said; the rest as in `Turn`."""

    turn: Turn
    dealt: int


@dataclass(frozen=True, kw_only=True)
class Pause:
    """The host said so: nobody asks it for this long."""

    host: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a request: whether the host answered at all."""

    host: str
    is_answered: bool


@dataclass(frozen=True, kw_only=True)
class Document:
    """What does this URL, which speaks for its origin, say? Who is told to read it has `patience_s` for that."""

    url: str
    patience_s: float


@dataclass(frozen=True, kw_only=True)
class Publish:
    """What this URL says, as the text of whoever read it, good for `ttl_s`."""

    url: str
    text: str
    ttl_s: float


@dataclass(frozen=True, kw_only=True)
class Grant:
    """Go in `wait_s`; ask `Confirm` with `dealt` first, unless it is None. With `busy`, do not wait: it is too long."""

    wait_s: float
    dealt: int | None = None
    busy: str | None = None


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The `text` of a document and how long it is good; without one, read it yourself, or ask again in `wait_s`."""

    text: str | None = None
    ttl_s: float = 0.0
    wait_s: float = 0.0


Question = Turn | Confirm | Pause | Outcome | Document | Publish
Answer = Grant | Reading | None
_QUESTIONS: dict[str, type[Question]] = {
    kind.__name__: kind for kind in (Turn, Confirm, Pause, Outcome, Document, Publish)
}
_ANSWERS: dict[str, type[Grant | Reading]] = {kind.__name__: kind for kind in (Grant, Reading)}


@dataclass
class _Host:
    next_s: float = 0.0  # when the next turn may begin
    paused_s: float = 0.0  # until when the host wants nobody
    dealt: int = 0  # grows whenever turns that were dealt become void
    failures: int = 0
    down: int = 0  # how often in a row it was found down
    is_down: bool = False


@dataclass(frozen=True)
class _Text:
    text: str | None  # None while somebody reads it
    until_s: float


class Keeper:
    """What is known of each host. Thread-safe; `clock` gives seconds that never go back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._hosts: dict[str, _Host] = {}
        self._documents: dict[str, _Text] = {}
        self.changed = False
        """True since a wait changed that must outlive this process; whoever saves it sets it back."""

    def answer(self, question: Question) -> Answer:
        """What to do; None where nothing was asked."""
        with self._lock:
            if isinstance(question, Turn):
                return self._turn(question)
            if isinstance(question, Confirm):
                return self._confirm(question)
            if isinstance(question, Document):
                return self._document(question)
            if isinstance(question, Pause):
                self._pause(question.host, question.seconds)
            elif isinstance(question, Outcome):
                self._outcome(question)
            else:
                self._publish(question)
            return None

    def waits(self, longer_than_s: float = 1.0) -> dict[str, float]:
        """Seconds that each host is not to be asked, where there are more: what a successor must know."""
        with self._lock:
            now = self._clock()
            waits = {name: max(host.next_s, host.paused_s) - now for name, host in self._hosts.items()}
        return {name: wait_s for name, wait_s in waits.items() if wait_s > longer_than_s}

    def restore(self, waits: Mapping[str, float]) -> None:
        """Take over what a predecessor knew; a longer wait that is known here stays."""
        with self._lock:
            for name, wait_s in waits.items():
                host = self._host(name)
                host.paused_s = max(host.paused_s, self._clock() + wait_s)

    # ---- turns --------------------------------------------------------------------------------------------------

    def _turn(self, turn: Turn) -> Grant:
        now, host = self._clock(), self._host(turn.host)
        start_s = max(now, host.next_s, host.paused_s)
        wait_s = start_s - now
        # Our own interval makes a queue, which is only waited for; what the host wants longer than that is a no.
        wished_s = wait_s if turn.crawl_delay_s > turn.interval_s else host.paused_s - now
        if wished_s > turn.max_wait_s:
            return Grant(wait_s=wait_s, busy="host_unreachable" if host.is_down else "host_busy")
        interval_s = max(turn.interval_s, turn.crawl_delay_s)
        host.next_s = start_s + interval_s
        self.changed = self.changed or interval_s > 1
        return Grant(wait_s=wait_s, dealt=None if wait_s <= _SOON_S else host.dealt)

    def _confirm(self, question: Confirm) -> Grant:
        host = self._host(question.turn.host)
        return Grant(wait_s=0.0) if host.dealt == question.dealt else self._turn(question.turn)

    def _pause(self, name: str, seconds: float) -> None:
        host = self._host(name)
        host.paused_s = max(host.paused_s, self._clock() + seconds)
        host.next_s = host.paused_s
        host.dealt += 1
        self.changed = True

    def _outcome(self, outcome: Outcome) -> None:
        host = self._host(outcome.host)
        if outcome.is_answered:
            if host.is_down:
                host.paused_s = min(host.paused_s, self._clock())
            host.failures, host.down, host.is_down = 0, 0, False
            return
        host.failures += 1
        if host.failures >= _FAILURES:
            first_s, longest_s = _DOWN_S
            self._pause(outcome.host, min(first_s * 2**host.down, longest_s))
            host.failures = _FAILURES - 1  # the next trial decides
            host.down, host.is_down = min(host.down + 1, 16), True

    def _host(self, name: str) -> _Host:
        if name not in self._hosts and len(self._hosts) >= _MAX_HOSTS:
            now = self._clock()
            self._hosts = {key: host for key, host in self._hosts.items() if max(host.next_s, host.paused_s) > now}
        return self._hosts.setdefault(name, _Host())

    # ---- documents ----------------------------------------------------------------------------------------------

    def _document(self, question: Document) -> Reading:
        now = self._clock()
        known = self._documents.get(question.url)
        if known is not None and now < known.until_s:
            # Somebody is at it: look again at short intervals, since hosts answer within fractions of a second.
            return Reading(wait_s=0.1) if known.text is None else Reading(text=known.text, ttl_s=known.until_s - now)
        if len(self._documents) >= _MAX_DOCUMENTS:
            del self._documents[min(self._documents, key=lambda url: self._documents[url].until_s)]
        self._documents[question.url] = _Text(text=None, until_s=now + question.patience_s)
        return Reading()

    def _publish(self, question: Publish) -> None:
        self._documents[question.url] = _Text(text=question.text, until_s=self._clock() + question.ttl_s)


def dump(messages: list[Question] | list[Answer]) -> bytes:
    """Questions or answers as JSON, to be sent to another process."""
    return json.dumps([message and {type(message).__name__: to_json(message)} for message in messages]).encode()


def questions(data: bytes) -> list[Question]:
    """What `dump` made of questions; ValueError if it is something else."""
    return [_of(_QUESTIONS, entry) for entry in json.loads(data)]


def answers(data: bytes) -> list[Answer]:
    """What `dump` made of answers; ValueError if it is something else."""
    return [None if entry is None else _of(_ANSWERS, entry) for entry in json.loads(data)]


def _of(kinds: Mapping[str, type[T]], entry: object) -> T:
    if not isinstance(entry, dict) or len(entry) != 1 or next(iter(entry)) not in kinds:
        raise ValueError("no message that a keeper knows")
    name, fields = next(iter(entry.items()))
    return from_json(kinds[name], fields)
