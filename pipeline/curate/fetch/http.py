"""The one way to the web: an HTTP client that cannot be led into our network, drowned, stalled, or made impolite.

Guarantees for each URL:
- http and https only; every connection, of every redirect hop, goes to an address that was checked after resolution
  and to that very address; no proxies, cookies or credentials, whatever the environment says;
- robots.txt is asked first, opt-out headers are obeyed before the body is read;
- the body is capped, as sent and as inflated; network time is capped over all attempts, hops, bytes and robots.txt
  files together;
- one request at a time starts per host and interval (`per_host_interval_s`, or the host's own crawl delay), whoever
  asks in the whole cluster (`keepers`); a host that wants us to wait longer than `max_wait_s` is left alone, and the
  row is *deferred*.
What cannot be had leaves by `HttpLeave` with a stable reason code.
"""

import asyncio
import base64
import json
import re
import socket
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from yarl import URL

from pipeline.curate.fetch import consent, keepers
from pipeline.curate.fetch.address import as_written, check_address, networks
from pipeline.curate.fetch.consent import Origin
from pipeline.curate.fetch.keeper import Confirm, Document, Grant, Outcome, Pause, Publish, Reading, Turn
from pipeline.curate.fetch.response import HttpLeave, Response, is_whole, read_body, retry_after_s
from pipeline.curate.fetch.robots import AGENT, DOCUMENT_MAX_BYTES
from pipeline.curate.stage import Leave, State
from pipeline.ranges import check_range

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.connector import AddrInfoType

_REDIRECTS = {301, 302, 303, 307, 308}
_HOST_CONNECTIONS = 4
_ROBOTS_RETRY_S = 60.0  # how long an unreachable robots.txt is believed to be unreachable
_MAX_HOSTS = 10_000
_QUOTED = re.compile(
    r"""\s*[:\n'"]"""
)  # where aiohttp begins to quote the line that it could not read, a cookie perhaps


@dataclass(frozen=True, kw_only=True)
class FetchConfig:
    """How to fetch; the defaults are those of a polite guest."""

    timeout_s: float = 60.0  # seconds of network time for one URL: all attempts, redirects and bytes
    max_bytes: int = 64 * 2**20  # bytes of the largest body, as sent and as inflated
    max_redirects: int = 10  # hops before giving up; podcasts pass through 7 counting services (podverse-rn#2161)
    retries: int = 2  # further attempts after 408, 429, 5xx, or a lost connection
    backoff_s: float = 0.5  # seconds of pause before the first retry; doubles with each
    max_wait_s: float = 60.0  # seconds that we wait for a host at most; it is deferred if it asks for more
    concurrency: int = 16  # requests under way at once in one worker
    per_host_interval_s: float = 0.5  # seconds between two requests to one host, from the whole cluster
    robots_ttl_s: float = 3600.0  # seconds that a robots.txt is remembered
    user_agent: str = "triptych (crawler of open media; robots.txt token: triptych)"  # say whom to contact
    allow_private: tuple[str, ...] = ()  # CIDR networks allowed though not public, such as 127.0.0.0/8

    def __post_init__(self) -> None:
        try:
            networks(self.allow_private)
        except ValueError as error:
            raise ValueError(f"allow_private holds no network: {error}; use names such as 127.0.0.0/8") from error
        check_range(self, "timeout_s", "max_bytes", "concurrency", above=0)
        check_range(self, "max_redirects", "retries", "backoff_s", "max_wait_s", low=0)
        check_range(self, "per_host_interval_s", "robots_ttl_s", low=0)
        if AGENT not in self.user_agent.lower():
            raise ValueError(
                f"user_agent is {self.user_agent!r}; let it contain {AGENT!r}, the name that robots.txt files "
                "address us by"
            )


class _Clock:
    """Network time left for one URL; waiting for our own turn does not count."""

    def __init__(self, seconds: float) -> None:
        self.left_s = seconds


_Kind = Literal["file", "robots", "reservation"]
"""What is asked for: a file, with the origin's permission and in a turn; its robots.txt, in a turn; its two other
documents, in that same turn, since a host with one file would else cost four turns."""

# What origins say, parsed, and until when; the keeper of the host has their words. origin -> (expiry, rules)
_origins: dict[str, tuple[float, Origin | Leave]] = {}


def forget() -> None:
    """Forget what this process remembers of hosts: turns and robots.txt."""
    keepers.forget()
    _origins.clear()


class Client:
    """An `async with` scope that shares connections; not for use by two event loops."""

    def __init__(self, config: FetchConfig) -> None:
        self.config = config
        self._allowed = networks(config.allow_private)
        self._stall_s = config.timeout_s / (config.retries + 1)  # a dead connection leaves time for the other attempts

    async def __aenter__(self) -> "Client":
        import aiohttp  # here and below: what only reads a config or a finished run does without

        self._slots = asyncio.Semaphore(self.config.concurrency)
        self._asking: dict[str, asyncio.Lock] = {}
        self._keepers = keepers.Line()
        connector = aiohttp.TCPConnector(
            # `_socket` sees each address right before the connection to it: names, literals, redirects alike.
            resolver=aiohttp.ThreadedResolver(),
            socket_factory=self._socket,
            happy_eyeballs_delay=None,
            limit=self.config.concurrency,
            limit_per_host=_HOST_CONNECTIONS,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._stall_s, sock_read=self._stall_s),
            headers={"User-Agent": self.config.user_agent, "Accept-Encoding": "gzip"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._keepers.close()
        await self._session.close()

    async def get(self, url: str, *, max_bytes: int | None = None) -> Response:
        """Fetch a URL; HttpLeave (or Leave for a bad URL, a private address, an opt-out) if it cannot be had.

        failed: bad_url, private_address, http_<status>, timeout, connection_error, tls_error, bad_response,
        bad_encoding, too_large, too_many_redirects. dropped: robots_disallowed and the codes of `consent`.
        deferred: retry_after, http_429, host_busy, host_unreachable, robots_unreachable.
        """
        clock = _Clock(self.config.timeout_s)
        return await self._get(as_written(url), clock, max_bytes or self.config.max_bytes)

    async def _get(self, url: str, clock: _Clock, max_bytes: int, kind: _Kind = "file") -> Response:
        for attempt in range(self.config.retries + 1):
            try:
                again = "robots" if attempt and kind == "reservation" else kind  # a second try has a turn of its own
                return await self._follow(url, clock, max_bytes, again)
            except HttpLeave as leave:
                if leave.wait_s is None or attempt == self.config.retries or clock.left_s <= 0:
                    raise
                await asyncio.sleep(max(leave.wait_s, self.config.backoff_s * 2**attempt))
        raise AssertionError("the last attempt returns or raises")

    async def _follow(self, url: str, clock: _Clock, max_bytes: int, kind: _Kind) -> Response:
        start = url
        for _ in range(self.config.max_redirects + 1):
            origin = await self._permission(url, clock) if kind == "file" else None
            if kind != "reservation" or url != start:  # where a redirect leads, robots.txt had no turn
                await self._turn(url, origin.crawl_delay_s if origin else 0.0)
            response = await self._answered(url, clock, max_bytes, origin)
            if isinstance(response, Response):
                return response
            url = response
        raise HttpLeave("failed", "too_many_redirects", start, f"more than {self.config.max_redirects}")

    async def _answered(self, url: str, clock: _Clock, max_bytes: int, origin: Origin | None) -> Response | str:
        """`_request`, and the keeper of the host is told whether anybody was there."""
        is_answered = True
        try:
            return await self._request(url, clock, max_bytes, origin)
        except HttpLeave as leave:
            is_answered = leave.reason not in ("timeout", "connection_error")
            if leave.pause_s is not None:
                await self._keepers.ask(Pause(host=_host(url), seconds=leave.pause_s))
            raise
        finally:
            self._keepers.tell(Outcome(host=_host(url), is_answered=is_answered))

    async def _request(self, url: str, clock: _Clock, max_bytes: int, origin: Origin | None) -> Response | str:
        """One hop, in the network time left: a response, or the URL it redirects to. `origin` is what the origin says;
        None while it is asked for that."""
        import aiohttp

        async with self._slots:
            began = time.monotonic()
            try:
                async with asyncio.timeout(clock.left_s):
                    return await self._exchange(url, max_bytes, origin)
            except aiohttp.ServerTimeoutError as error:
                problem = f"no byte within {self._stall_s:g} s"
                raise HttpLeave("failed", "timeout", url, problem, retryable=True, wait_s=0.0) from error
            except TimeoutError as error:
                clock.left_s = 0.0
                problem = f"no complete answer within {self.config.timeout_s:g} s"
                raise HttpLeave("failed", "timeout", url, problem, retryable=True) from error
            except aiohttp.ClientSSLError as error:
                raise HttpLeave("failed", "tls_error", url, str(error)) from error
            except (aiohttp.InvalidURL, UnicodeError) as error:  # its words are the URL
                raise HttpLeave("failed", "bad_url", url, type(error).__name__) from error
            except aiohttp.ClientResponseError as error:  # not HTTP, or headers beyond all bounds
                problem = _QUOTED.split(error.message)[0]
                raise HttpLeave("failed", "bad_response", url, problem) from error
            except (aiohttp.ClientError, OSError) as error:
                raise HttpLeave("failed", "connection_error", url, str(error), retryable=True, wait_s=0.0) from error
            finally:
                clock.left_s -= time.monotonic() - began

    async def _exchange(self, url: str, max_bytes: int, origin: Origin | None) -> Response | str:
        async with self._session.get(_target(url), allow_redirects=False) as answer:
            is_redirect = answer.status in _REDIRECTS and "Location" in answer.headers
            if not is_redirect and not is_whole(answer, may_be_empty=origin is None):
                raise self._status(url, answer)
            if origin is not None:  # of a redirect too: where it leads may know nothing of who published it
                is_reserved = origin.is_reserved(url)
                reason = consent.header_reason(answer.headers.items(), is_reserved)
                if reason is not None:
                    problem = "by tdmrep.json or a response header" if is_reserved else "by response header"
                    raise HttpLeave("dropped", reason, url, problem, http_status=answer.status)
            if is_redirect:
                return as_written(answer.headers["Location"], base=url)
            body = await read_body(url, answer, max_bytes, cut=origin is None)
            return Response(url=url, status=answer.status, headers=answer.headers, body=body)

    def _status(self, url: str, answer: "aiohttp.ClientResponse") -> HttpLeave:
        status, asked_s = answer.status, retry_after_s(answer.headers.get("Retry-After"))
        again = status in (408, 429) or status >= 500
        if status in (429, 503) and asked_s is not None:
            # The wait itself happens in `_turn`, where every other URL of this host waits as well.
            wait_s = 0.0 if asked_s <= self.config.max_wait_s else None
            problem = f"status {status}, wait {asked_s:g} s"
            return HttpLeave(
                "deferred",
                "retry_after",
                url,
                problem,
                wait_s=wait_s,
                pause_s=asked_s,
                retryable=again,
                http_status=status,
            )
        state: State = "deferred" if status == 429 else "failed"
        wait_s = 0.0 if again else None
        return HttpLeave(state, f"http_{status}", url, wait_s=wait_s, retryable=again, http_status=status)

    async def _turn(self, url: str, delay_s: float) -> None:
        """Wait until we may ask this host; HttpLeave if it wants us to wait longer than `max_wait_s`."""
        turn = Turn(
            host=_host(url),
            interval_s=self.config.per_host_interval_s,
            crawl_delay_s=delay_s,
            max_wait_s=self.config.max_wait_s,
        )
        grant = await self._granted(turn)
        while grant.busy is None:
            await asyncio.sleep(grant.wait_s)
            if grant.dealt is None:
                return
            grant = await self._granted(Confirm(turn=turn, dealt=grant.dealt))
        raise HttpLeave("deferred", grant.busy, url, f"next turn in {grant.wait_s:.0f} s", retryable=True)

    async def _granted(self, question: Turn | Confirm) -> Grant:
        grant = await self._keepers.ask(question)
        assert isinstance(grant, Grant)
        return grant

    async def _permission(self, url: str, clock: _Clock) -> Origin:
        """What the origin says about all that it serves, asked once; HttpLeave if it refuses us this URL."""
        name = str(URL(url, encoded=True).origin())
        async with self._asking.setdefault(name, asyncio.Lock()):
            expiry, origin = _origins.get(name, (0.0, None))
            if origin is None or time.monotonic() >= expiry:
                origin, ttl_s = await self._origin(name, clock)
                if len(_origins) >= _MAX_HOSTS:
                    del _origins[min(_origins, key=lambda other: _origins[other][0])]
                _origins[name] = (time.monotonic() + ttl_s, origin)
        if isinstance(origin, Leave):
            raise origin.with_traceback(None)  # remembered and raised again: let no frames pile up on it
        reason = origin.reason(url)
        if reason is not None:
            raise HttpLeave("dropped", reason, url)
        return origin

    async def _origin(self, name: str, clock: _Clock) -> tuple[Origin | Leave, float]:
        """What its three documents say together, and for how long; a Leave if its robots.txt cannot be had."""
        robots, ttl_s = await self._document(f"{name}/robots.txt", clock, "robots")
        if isinstance(robots, Leave):
            return robots, ttl_s
        origin = consent.origin_of(robots)
        # The two others are rare: one that we may not ask for, or that cannot be had, reserves nothing.
        urls = (f"{name}/ai.txt", f"{name}/.well-known/tdmrep.json")
        asked = [url for url in urls if origin.reason(url) is None]
        said = dict(
            zip(asked, await asyncio.gather(*(self._document(url, clock, "reservation") for url in asked)), strict=True)
        )
        bodies = [None if isinstance(body := said.get(url, (None, 0.0))[0], Leave) else body for url in urls]
        return consent.origin_of(robots, *bodies), min([ttl_s, *(other_ttl_s for _, other_ttl_s in said.values())])

    async def _document(self, url: str, clock: _Clock, kind: _Kind) -> tuple[bytes | Leave | None, float]:
        """A document that speaks for its origin, read once in the cluster, and for how many seconds it is good; None
        if there is none, a Leave if that cannot be told."""
        patience_s = self.config.timeout_s + self.config.max_wait_s
        while True:
            reading = await self._keepers.ask(Document(url=url, patience_s=patience_s))
            assert isinstance(reading, Reading)
            if reading.text is not None:
                return _parsed(reading.text), reading.ttl_s
            if not reading.wait_s:
                break
            await asyncio.sleep(reading.wait_s)
        had_time = clock.left_s > self.config.timeout_s / 2
        try:
            text, ttl_s = await self._read(url, clock, kind)
        except BaseException:  # whoever waits for the document reads it
            self._keepers.tell(Publish(url=url, text="", ttl_s=0.0))
            raise
        if not had_time and clock.left_s <= 0:
            ttl_s = 0.0  # the time of this one input was spent elsewhere: that says nothing of the document
        await self._keepers.ask(Publish(url=url, text=text, ttl_s=ttl_s))
        return _parsed(text), ttl_s

    async def _read(self, url: str, clock: _Clock, kind: _Kind) -> tuple[str, float]:
        """RFC 9309, 2.3.1: a body; null where there is none (4xx); a reason where it cannot be had (5xx, network)."""
        kept_s = self.config.robots_ttl_s
        try:
            response = await self._get(url, clock, DOCUMENT_MAX_BYTES, kind)
            return json.dumps({"body": base64.b64encode(response.body).decode()}), kept_s
        except HttpLeave as leave:
            status = leave.http_status or 0
            if leave.reason == "too_many_redirects" or (400 <= status < 500 and status != 429):
                return json.dumps({"body": None}), kept_s
            unreachable = HttpLeave("deferred", "robots_unreachable", url, leave.reason, retryable=True)
            # The host itself cannot be reached: that says more than its robots.txt.
            is_host = leave.reason in ("connection_error", "tls_error", "bad_url", "host_unreachable")
            return _dumped(leave if is_host else unreachable), min(_ROBOTS_RETRY_S, kept_s)
        except Leave as leave:
            if leave.reason == "private_address":
                raise  # not remembered: the next worker config may allow it
            unreachable = HttpLeave("deferred", "robots_unreachable", url, leave.reason, retryable=True)
            return _dumped(unreachable), min(_ROBOTS_RETRY_S, kept_s)

    def _socket(self, info: "AddrInfoType") -> socket.socket:
        check_address(str(info[4][0]), self._allowed)
        return socket.socket(family=info[0], type=info[1], proto=info[2])


def _dumped(leave: Leave) -> str:
    entries = {"state": leave.state, "reason": leave.reason, "retryable": leave.retryable, "detail": leave.detail}
    return json.dumps({"leave": entries})


def _parsed(text: str) -> bytes | Leave | None:
    value = json.loads(text)
    if "leave" in value:
        entries = value["leave"]
        state = entries["state"]
        return Leave(state, entries["reason"], retryable=entries["retryable"], detail=entries["detail"])
    return None if value["body"] is None else base64.b64decode(value["body"])


def fetch_one(url: str, config: FetchConfig, *, max_bytes: int | None = None) -> Response:
    """`Client.get` for callers without an event loop."""

    async def one() -> Response:
        async with Client(config) as client:
            return await client.get(url, max_bytes=max_bytes)

    return asyncio.run(one())


def _target(url: str) -> URL:
    """The URL with its query as a part of its path: of an empty query yarl would drop the `?`."""
    parts = urlsplit(url)
    start = len(f"{parts.scheme}://{parts.netloc}")
    return URL.build(scheme=parts.scheme, authority=parts.netloc, path=url[start:], encoded=True)


def _host(url: str) -> str:
    return URL(url, encoded=True).authority
