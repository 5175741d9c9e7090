"""The one way to the web: an HTTP client that cannot be led into our network, drowned, stalled, or made impolite.

Guarantees for each URL:
- http and https only; every connection, of every redirect hop, goes to an address that was checked after resolution
  and to that very address; no proxies, cookies or credentials, whatever the environment says;
- robots.txt is asked first, opt-out headers are obeyed before the body is read;
- the body is capped, as sent and as inflated; network time is capped over all attempts, hops and bytes together;
- one request at a time starts per host and interval (`per_host_interval_s`, or the host's own crawl delay), within
  this process; a host that asks us to wait longer than `max_wait_s` is left alone and the row is *deferred*.
What cannot be had leaves by `HttpLeave` with a stable reason code.
"""

import asyncio
import re
import socket
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING

from protego import Protego
from yarl import URL

from pipeline.curate.fetch import consent
from pipeline.curate.fetch.address import canonical, check_address, networks, shown
from pipeline.curate.stage import Leave, State
from pipeline.log import clean
from pipeline.ranges import check_range
from pipeline.redact import redacted_text

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
    max_redirects: int = 5  # hops before giving up
    retries: int = 2  # further attempts after 408, 429, 5xx, or a lost connection
    backoff_s: float = 0.5  # seconds of pause before the first retry; doubles with each
    max_wait_s: float = 60.0  # seconds that we wait for a host at most; it is deferred if it asks for more
    concurrency: int = 16  # requests under way at once in one worker
    per_host_interval_s: float = 0.5  # seconds between two requests to one host, in one worker
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
        if consent.AGENT not in self.user_agent.lower():
            raise ValueError(
                f"user_agent is {self.user_agent!r}; let it contain {consent.AGENT!r}, the name that robots.txt files "
                "address us by"
            )


@dataclass(frozen=True, kw_only=True)
class Response:
    """A complete answer with status 200: `url` after redirects, `body` inflated."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class HttpLeave(Leave):
    """A URL that could not be had; `http_status` if there was an answer, `wait_s` if another attempt may help."""

    def __init__(
        self,
        state: State,
        reason: str,
        url: str,
        problem: str = "",
        *,
        retryable: bool = False,
        http_status: int | None = None,
        wait_s: float | None = None,
    ) -> None:
        problem = clean(redacted_text(problem))  # it may quote a server's header, and cookies
        super().__init__(state, reason, retryable=retryable, detail=f"{shown(url)} {problem}".strip())
        self.http_status, self.wait_s = http_status, wait_s


class _Clock:
    """Network time left for one URL; waiting for our own turn does not count."""

    def __init__(self, seconds: float) -> None:
        self.left_s = seconds


# Shared by all clients of this process, since each batch of a stage opens a new client.
_next_turn: dict[str, float] = {}  # host -> monotonic time at which it may be asked again
_robots: dict[str, tuple[float, Protego | Leave | None]] = {}  # origin -> (expiry, rules or why there are none)


def forget() -> None:
    """Forget what this process remembers of hosts: turns and robots.txt."""
    _next_turn.clear()
    _robots.clear()


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
        await self._session.close()

    async def get(self, url: str, *, max_bytes: int | None = None) -> Response:
        """Fetch a URL; HttpLeave (or Leave for a bad URL, a private address, an opt-out) if it cannot be had.

        failed: bad_url, private_address, http_<status>, timeout, connection_error, tls_error, bad_response,
        bad_encoding, too_large, too_many_redirects. dropped: robots_disallowed and the codes of `consent`.
        deferred: retry_after, http_429, host_busy, robots_unreachable.
        """
        return await self._get(canonical(url), max_bytes or self.config.max_bytes, is_robots=False)

    async def _get(self, url: str, max_bytes: int, is_robots: bool) -> Response:
        clock = _Clock(self.config.timeout_s)
        for attempt in range(self.config.retries + 1):
            try:
                return await self._follow(url, clock, max_bytes, is_robots)
            except HttpLeave as leave:
                if leave.wait_s is None or attempt == self.config.retries or clock.left_s <= 0:
                    raise
                await asyncio.sleep(max(leave.wait_s, self.config.backoff_s * 2**attempt))
        raise AssertionError("the last attempt returns or raises")

    async def _follow(self, url: str, clock: _Clock, max_bytes: int, is_robots: bool) -> Response:
        start = url
        for _ in range(self.config.max_redirects + 1):
            delay_s = 0.0 if is_robots else await self._permission(url)
            await self._turn(url, delay_s)
            response = await self._request(url, clock, max_bytes, is_robots)
            if isinstance(response, Response):
                return response
            url = response
        raise HttpLeave("failed", "too_many_redirects", start, f"more than {self.config.max_redirects}")

    async def _request(self, url: str, clock: _Clock, max_bytes: int, is_robots: bool) -> Response | str:
        """One hop, in the network time left: a response, or the URL it redirects to."""
        import aiohttp

        async with self._slots:
            began = time.monotonic()
            try:
                async with asyncio.timeout(clock.left_s):
                    return await self._exchange(url, max_bytes, is_robots)
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

    async def _exchange(self, url: str, max_bytes: int, is_robots: bool) -> Response | str:
        async with self._session.get(URL(url, encoded=True), allow_redirects=False) as answer:
            if answer.status in _REDIRECTS and "Location" in answer.headers:
                return canonical(answer.headers["Location"], base=url)
            if answer.status != 200:
                raise self._status(url, answer)
            reason = None if is_robots else consent.header_reason(answer.headers.items())
            if reason is not None:
                raise HttpLeave("dropped", reason, url, "by response header", http_status=200)
            body = await _body(url, answer, max_bytes, cut=is_robots)
            return Response(url=url, status=answer.status, headers=answer.headers, body=body)

    def _status(self, url: str, answer: "aiohttp.ClientResponse") -> HttpLeave:
        status, asked_s = answer.status, retry_after_s(answer.headers.get("Retry-After"))
        again = status in (408, 429) or status >= 500
        if status in (429, 503) and asked_s is not None:
            host = _host(url)
            _next_turn[host] = max(_next_turn.get(host, 0.0), time.monotonic() + asked_s)
            # The wait itself happens in `_turn`, where every other URL of this host waits as well.
            wait_s = 0.0 if asked_s <= self.config.max_wait_s else None
            problem = f"status {status}, wait {asked_s:g} s"
            return HttpLeave(
                "deferred", "retry_after", url, problem, wait_s=wait_s, retryable=again, http_status=status
            )
        state: State = "deferred" if status == 429 else "failed"
        wait_s = 0.0 if again else None
        return HttpLeave(state, f"http_{status}", url, wait_s=wait_s, retryable=again, http_status=status)

    async def _turn(self, url: str, delay_s: float) -> None:
        host, now_s = _host(url), time.monotonic()
        turn_s = max(now_s, _next_turn.get(host, 0.0))
        if turn_s - now_s > self.config.max_wait_s:
            raise HttpLeave("deferred", "host_busy", url, f"next turn in {turn_s - now_s:.0f} s", retryable=True)
        if len(_next_turn) > _MAX_HOSTS:
            for past in [name for name, when in _next_turn.items() if when < now_s]:
                del _next_turn[past]
        _next_turn[host] = turn_s + max(delay_s, self.config.per_host_interval_s)
        await asyncio.sleep(turn_s - now_s)

    async def _permission(self, url: str) -> float:
        """Ask the host's robots.txt; its crawl delay in seconds, or 0."""
        origin = str(URL(url, encoded=True).origin())
        async with self._asking.setdefault(origin, asyncio.Lock()):
            expiry, rules = _robots.get(origin, (0.0, None))
            if time.monotonic() >= expiry:
                rules = await self._read_robots(origin)
                ttl_s = self.config.robots_ttl_s
                ttl_s = min(_ROBOTS_RETRY_S, ttl_s) if isinstance(rules, Leave) else ttl_s
                if len(_robots) >= _MAX_HOSTS:
                    del _robots[min(_robots, key=lambda name: _robots[name][0])]
                _robots[origin] = (time.monotonic() + ttl_s, rules)
        if isinstance(rules, Leave):
            raise rules.with_traceback(None)  # remembered and raised again: let no frames pile up on it
        reason = consent.robots_reason(rules, url)
        if reason is not None:
            raise HttpLeave("dropped", reason, url)
        return float(rules.crawl_delay(consent.AGENT) or 0.0) if rules is not None else 0.0

    async def _read_robots(self, origin: str) -> Protego | Leave | None:
        """RFC 9309, 2.3.1: rules; None where there are none (4xx); a Leave where they cannot be had (5xx, network)."""
        url = f"{origin}/robots.txt"
        try:
            return consent.robots_rules((await self._get(url, consent.ROBOTS_MAX_BYTES, is_robots=True)).body)
        except HttpLeave as leave:
            status = leave.http_status or 0
            if leave.reason in ("connection_error", "tls_error", "bad_url"):
                return leave  # the host itself cannot be reached; that says more than its robots.txt
            if leave.reason == "too_many_redirects" or (400 <= status < 500 and status != 429):
                return None
            return HttpLeave("deferred", "robots_unreachable", url, leave.reason, retryable=True)
        except Leave as leave:
            if leave.reason == "private_address":
                raise  # not remembered: the next worker config may allow it
            return HttpLeave("deferred", "robots_unreachable", url, leave.reason, retryable=True)

    def _socket(self, info: "AddrInfoType") -> socket.socket:
        check_address(str(info[4][0]), self._allowed)
        return socket.socket(family=info[0], type=info[1], proto=info[2])


def fetch_one(url: str, config: FetchConfig, *, max_bytes: int | None = None) -> Response:
    """`Client.get` for callers without an event loop."""

    async def one() -> Response:
        async with Client(config) as client:
            return await client.get(url, max_bytes=max_bytes)

    return asyncio.run(one())


def retry_after_s(value: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for (RFC 9110, 10.2.3: seconds or a date); None if it says nothing."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _host(url: str) -> str:
    return URL(url, encoded=True).authority


async def _body(url: str, answer: "aiohttp.ClientResponse", max_bytes: int, cut: bool) -> bytes:
    """The body, inflated; one longer than `max_bytes` is `cut` there or leaves as too_large."""
    status = answer.status
    too_large = HttpLeave("failed", "too_large", url, f"more than {max_bytes} bytes", http_status=status)
    if (answer.content_length or 0) > max_bytes and not cut:
        raise too_large
    encoding = answer.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "", "gzip", "x-gzip", "deflate"):
        raise HttpLeave("failed", "bad_encoding", url, f"Content-Encoding {encoding!r}", http_status=status)
    inflate = None if encoding in ("identity", "") else _Inflate()
    sent = 0
    body = bytearray()
    async for chunk in answer.content.iter_chunked(65536):
        sent += len(chunk)
        try:
            body += chunk if inflate is None else inflate.some(chunk, max_bytes + 1 - len(body))
        except zlib.error as error:
            raise HttpLeave("failed", "bad_encoding", url, str(error), http_status=status) from error
        if max(sent, len(body)) > max_bytes:
            if cut:
                return bytes(body[:max_bytes])
            raise too_large
    if inflate is not None and sent and not inflate.complete:
        raise HttpLeave("failed", "bad_encoding", url, f"{encoding} stream breaks off", http_status=status)
    return bytes(body)


class _Inflate:
    """gzip (of any number of members) or zlib, told by the header, never inflated beyond what is asked for."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(47)

    def some(self, data: bytes, limit: int) -> bytes:
        """At most `limit` bytes; where there are more, exactly `limit`, and the rest is lost."""
        inflated = self._zlib.decompress(data, limit)
        while self._zlib.eof and self._zlib.unused_data and len(inflated) < limit:
            rest = self._zlib.unused_data
            self._zlib = zlib.decompressobj(47)
            inflated += self._zlib.decompress(rest, limit - len(inflated))
        return inflated

    @property
    def complete(self) -> bool:
        """True if the stream ended where a member ends."""
        return self._zlib.eof
