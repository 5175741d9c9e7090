"""A real HTTP server on loopback whose answers a test writes down as functions."""

import asyncio
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator

import pytest
from aiohttp import web

from pipeline.curate.fetch import http, keepers

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Web:
    """`web.pages[path]` is a handler, a response's keyword arguments, or a body; `web.hits` counts requests."""

    def __init__(self) -> None:
        self.pages: dict[str, Handler | dict | str | bytes] = {}
        self.any: Handler | dict = {"status": 404}  # for every other path
        self.hits: Counter[str] = Counter()
        self.requests: list[web.BaseRequest] = []
        self.url = ""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.hits[request.path] += 1
        self.requests.append(request)
        page = self.pages.get(request.path, self.any)
        if callable(page):
            return await page(request)
        if isinstance(page, dict):
            return web.Response(**page)
        return web.Response(body=page.encode() if isinstance(page, str) else page)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hosts are kept in this process, whether a Ray of the session runs or not, so that a test may forget them."""
    monkeypatch.setattr(keepers, "_in_ray", lambda: False)
    http.forget()


@pytest.fixture
def site() -> Iterator[Web]:
    """A server with nothing on it; every path is 404 until the test says otherwise."""
    http.forget()
    pages = Web()
    loop = asyncio.new_event_loop()

    async def start() -> tuple[web.ServerRunner, int]:
        runner = web.ServerRunner(web.Server(pages.answer), shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner, runner.addresses[0][1]

    runner, port = loop.run_until_complete(start())
    pages.url = f"http://127.0.0.1:{port}"
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield pages
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.close()


@pytest.fixture
def config() -> http.FetchConfig:
    """A hasty guest that may visit loopback."""
    return http.FetchConfig(
        timeout_s=5, backoff_s=0.01, per_host_interval_s=0, max_wait_s=1, allow_private=("127.0.0.0/8",)
    )
