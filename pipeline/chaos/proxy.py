"""A proxy on loopback before an S3 endpoint that numbers the requests and does harm at the one it is told to.

It forwards requests as they are, `Host` included, so signatures stay valid. What it can do at request `at`: call back
before or after the request is carried out and never answer (`kill`, `kill_after`), carry it out and drop the answer
(`drop`), answer 503 (`503`), close the connection (`reset`), or call back and go on (`call`); or, with `rate`, answer a
share of all requests with 503 or a reset, chosen by a seed.
"""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import aiohttp
from aiohttp import web
from yarl import URL

Harm = Literal["none", "kill", "kill_after", "drop", "503", "reset", "call"]
_HOP = {"transfer-encoding", "content-length", "connection", "keep-alive", "content-encoding"}
_SLOW_DOWN = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


@dataclass
class Rule:
    """What to do, and at which request (counted from 1)."""

    harm: Harm = "none"
    at: int = 0
    rate: float = 0.0
    seed: int = 0
    callback: Callable[[], None] = lambda: None


@dataclass
class Seen:
    """One request: when it came, what it was, how many bytes it carried."""

    at_s: float
    method: str
    path: str
    size_bytes: int


@dataclass
class FaultProxy:
    """Serves on 127.0.0.1 while its `with` block lasts; `arm` starts a new count."""

    upstream: str
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    harmed: int = 0

    def __enter__(self) -> "FaultProxy":
        self._rule, self._random = Rule(), random.Random(0)
        ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(ready,), daemon=True, name="fault-proxy")
        self._thread.start()
        if not ready.wait(20):
            raise RuntimeError("the fault proxy did not start")
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def arm(self, rule: Rule | None = None) -> None:
        """Count anew, under another rule."""
        self._rule, self.seen, self.harmed = rule or Rule(), [], 0
        self._random = random.Random(self._rule.seed)

    def _serve(self, ready: threading.Event) -> None:
        async def main() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            # aiohttp's own limit is 1 MiB, and a shard has more.
            app = web.Application(client_max_size=1 << 30)
            app.router.add_route("*", "/{tail:.*}", self._handle)
            # What a client asked for is carried out even if it died since: `kill_after` is just that.
            runner = web.AppRunner(app, access_log=None, handler_cancellation=False)
            await runner.setup()
            timeout = aiohttp.ClientTimeout(total=120)
            async with aiohttp.ClientSession(auto_decompress=False, timeout=timeout) as self._session:
                site = web.TCPSite(runner, "127.0.0.1", self.port)
                await site.start()
                self.port = runner.addresses[0][1]
                ready.set()
                await self._stop.wait()
                await runner.cleanup()

        asyncio.run(main())

    def _harm(self) -> Harm:
        # The request is in the list already, so the first has number 1.
        rule, number = self._rule, len(self.seen)
        if rule.harm != "none" and number == rule.at:
            return rule.harm
        if rule.rate and self._random.random() < rule.rate:
            return self._random.choice(("503", "reset"))
        return "none"

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.seen.append(Seen(at_s=time.monotonic(), method=request.method, path=request.path_qs, size_bytes=len(body)))
        harm = self._harm()
        self.harmed += harm != "none"
        if harm == "503":
            return web.Response(status=503, text=_SLOW_DOWN, content_type="application/xml")
        # In a thread: it kills, or waits for processes, while other requests go on.
        if harm in ("kill", "call"):
            await asyncio.to_thread(self._rule.callback)
        if harm in ("kill", "reset"):
            return self._hang_up(request)
        answer = await self._forward(request, body)
        if harm == "kill_after":
            await asyncio.to_thread(self._rule.callback)
        return self._hang_up(request) if harm in ("kill_after", "drop") else answer

    def _hang_up(self, request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    async def _forward(self, request: web.Request, body: bytes) -> web.Response:
        headers = {k: v for k, v in request.headers.items() if k.lower() != "transfer-encoding"}
        # Encoded as it came: it was signed so.
        url = URL(self.upstream + request.raw_path, encoded=True)
        async with self._session.request(
            request.method, url, headers=headers, data=body, allow_redirects=False
        ) as answer:
            data = await answer.read()
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP}
            if request.method == "HEAD":
                # The object's, since a HEAD has no body to count.
                kept["Content-Length"] = answer.headers.get("Content-Length", "0")
                return web.Response(status=answer.status, headers=kept)
            return web.Response(status=answer.status, headers=kept, body=data)
