"""Cases of consent, and a web on loopback in which each has an origin of its own; some have a second one."""

import asyncio
import threading
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from aiohttp import web
from multidict import CIMultiDict

from pipeline.config import from_json

CASES = Path(__file__).with_name("consent_cases.toml")
FEED_PATHS = ("/feed.xml", "/feed-mended.xml", "/feed-forgiven.xml")
"""The feed as it is, with a bare `&`, and with a tag that is never closed: one for each parser."""

_TDM = "/.well-known/tdmrep.json"
_ASK = {"pages": "/page.html", "feeds": FEED_PATHS[0]}
_NAMESPACES = (
    'xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd" xmlns:podcast="https://podcastindex.org/namespace/1.0" '
    'xmlns:googleplay="http://www.google.com/schemas/play-podcasts/1.0" '
    'xmlns:creativeCommons="http://backend.userland.com/creativeCommonsRssModule"'
)


class Entry(TypedDict, total=False):
    """A case as it is written; the head of the table says what each name means."""

    name: str
    right: str
    source: str
    ask: str
    robots: str | dict[str, object]
    ai: str | dict[str, object]
    tdm: str | dict[str, object]
    headers: list[str]
    page: str
    channel: str
    item: str
    after: str
    atom: bool
    license: str
    more: dict[str, dict[str, object]]
    other: dict[str, dict[str, object]]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a path is answered with; the names are those of the head of the table of cases."""

    status: int = 200
    body: str = ""
    encoding: str = "utf-8"
    headers: tuple[str, ...] = ()
    to: str | None = None
    stall: bool = False
    pad: int = 0
    pad_after: int = 0
    pad_lines: int = 0
    tail: str = ""
    nest: int = 0

    def content(self) -> bytes:
        """The body as it is sent."""
        before = ("#" * 99 + "\n") * (self.pad // 100) + "Unknown: line\n" * self.pad_lines + "[" * self.nest
        after = "#" * (self.pad_after - len(self.body) - 1) + "\n" if self.pad_after else ""
        return (before + self.body + after + self.tail).encode(self.encoding)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case: what an origin says, what is asked of it, and the right answer."""

    group: str
    name: str
    ask: str
    right: str
    source: str
    own: Mapping[str, Answer] = field(default_factory=dict)
    other: Mapping[str, Answer] = field(default_factory=dict)

    @property
    def stalls(self) -> bool:
        """Whether something of it is never answered."""
        return any(answer.stall for answer in self.own.values())


def read_cases(path: Path = CASES) -> list[Case]:
    """All cases of the table, in its order."""
    groups = tomllib.loads(path.read_text("utf-8"))
    return [_case(group, entry) for group, entries in groups.items() for entry in entries]


def _case(group: str, entry: Entry) -> Case:
    ask = entry.get("ask", _ASK.get(group, "/work.png"))
    headers = tuple(entry.get("headers", ()))
    own = {ask: Answer(body="x", headers=headers)}
    if group == "pages":
        own[ask] = Answer(body=_page(entry["page"]), headers=(*headers, "Content-Type: text/html"))
    if group == "feeds":
        own |= {path: Answer(body=_feed(entry, path), headers=headers) for path in FEED_PATHS}
    about = {"/robots.txt": entry.get("robots"), "/ai.txt": entry.get("ai"), _TDM: entry.get("tdm")}
    own |= {path: _answer(said) for path, said in about.items() if said is not None}
    own |= {path: _answer(said) for path, said in entry.get("more", {}).items()}
    noted = f", {entry['license']}" if "license" in entry else ""
    return Case(
        group=group,
        name=entry["name"],
        ask=ask,
        right=entry["right"] + noted,
        source=entry["source"],
        own=own,
        other={path: _answer(said) for path, said in entry.get("other", {}).items()},
    )


def _answer(said: str | dict[str, object]) -> Answer:
    return Answer(body=said) if isinstance(said, str) else from_json(Answer, said)


def _page(says: str) -> str:
    media = '<img src="work.png" alt="A house by the sea"><audio src="work.mp3"></audio>'
    return f"<!doctype html><html><head><title>A page</title>{says}</head><body>{media}</body></html>"


def _feed(entry: Entry, path: str) -> str:
    fault = {FEED_PATHS[1]: "<title>Tom & Jerry</title>", FEED_PATHS[2]: "<title>Never <b>closed</title>"}.get(path, "")
    channel, item, after = entry.get("channel", ""), entry.get("item", ""), entry.get("after", "")
    if entry.get("atom"):
        episodes = [f'<entry><link rel="enclosure" href="/{n}.mp3"/>{says}</entry>' for n, says in ((1, item), (2, ""))]
        whole = f'<feed xmlns="http://www.w3.org/2005/Atom" {_NAMESPACES}>{fault}{channel}{"".join(episodes)}</feed>'
    else:
        episodes = [f'<item><enclosure url="/{n}.mp3"/>{says}</item>' for n, says in ((1, item), (2, ""))]
        inside = f"{fault}{channel}{''.join(episodes)}{after}"
        whole = f'<rss version="2.0" {_NAMESPACES} xmlns:atom="http://www.w3.org/2005/Atom"><channel>{inside}</channel></rss>'
    return f'<?xml version="1.0"?>{whole}'


class Sites:
    """`with Sites(cases) as sites`: `sites.url(case)` is what to ask for."""

    def __init__(self, cases: list[Case]) -> None:
        self._cases = cases
        self._ports: dict[tuple[str, str], int] = {}
        self._answers: dict[int, tuple[Case, Mapping[str, Answer]]] = {}
        self._loop = asyncio.new_event_loop()
        self._is_over = asyncio.Event()

    def url(self, case: Case, path: str | None = None) -> str:
        """The case's URL, or another one of its origin."""
        return f"{self._origin(case, 'self')}{path or case.ask}"

    def __enter__(self) -> "Sites":
        self._runner = self._loop.run_until_complete(self._start())
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._is_over.set)
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _start(self) -> web.ServerRunner:
        runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await runner.setup()
        for case in self._cases:
            for side, answers in (("self", case.own), ("other", case.other))[: 2 if case.other else 1]:
                await web.TCPSite(runner, "127.0.0.1", 0, backlog=16).start()
                port = runner.addresses[-1][1]
                self._ports[case.group + case.name, side], self._answers[port] = port, (case, answers)
        return runner

    def _origin(self, case: Case, side: str) -> str:
        return f"http://127.0.0.1:{self._ports[case.group + case.name, side]}"

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        case, answers = self._answers[request.transport.get_extra_info("sockname")[1]]
        answer = answers.get(request.path) or answers.get(request.path_qs) or Answer(status=404)
        if answer.stall:
            await self._is_over.wait()
        addresses = {f"{{{side}}}": self._origin(case, side) for side in ("self", "other")[: 2 if case.other else 1]}
        headers = CIMultiDict((line.partition(": ")[0], line.partition(": ")[2]) for line in answer.headers)
        to, body = answer.to, answer.content()
        for word, address in addresses.items():
            to = to and to.replace(word, address)
            body = body.replace(word.encode(), address.encode())
        if to is not None:
            headers["Location"] = to
        return web.Response(status=302 if to else answer.status, body=body, headers=headers)
