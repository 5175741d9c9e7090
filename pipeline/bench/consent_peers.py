"""What other readers do with URLs, run by a Python of its own: `PYTHON consent_peers.py`, URLs as JSON in, answers out.

Needs nothing of this project. A peer that this Python does not have is left out. Each is run as its documents advise:
`urllib.robotparser` for the name `triptych`, Scrapy with ROBOTSTXT_OBEY, img2dataset with a `user_agent_token` and its
default `disallowed_header_directives`.
"""

import importlib
import importlib.util
import inspect
import json
import platform
import socket
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Protocol
from urllib.parse import urljoin
from urllib.robotparser import RobotFileParser

AGENT = "triptych"
_TIMEOUT_S = 10


def robotparser(urls: list[str]) -> dict[str, bool]:
    """Whether the standard library's reader of robots.txt lets us have each URL."""

    def one(url: str) -> bool:
        parser = RobotFileParser(urljoin(url, "/robots.txt"))
        try:
            parser.read()
        except (OSError, ValueError):
            return False
        return parser.can_fetch(AGENT, url)

    socket.setdefaulttimeout(_TIMEOUT_S)
    with ThreadPoolExecutor(16) as pool:
        return dict(zip(urls, pool.map(one, urls), strict=True))


def img2dataset(urls: list[str]) -> dict[str, bool]:
    """Whether img2dataset's downloader has the bytes of each URL."""
    downloader = importlib.import_module("img2dataset.downloader")
    main = importlib.import_module("img2dataset.main")
    # The list that `download` takes where none is given; it is written within that function.
    source = inspect.getsource(main.download)
    words = json.loads(source.partition("disallowed_header_directives = ")[2].partition("\n")[0])

    def one(url: str) -> bool:
        _, stream, _ = downloader.download_image((0, url), _TIMEOUT_S, AGENT, set(words))
        return stream is not None

    with ThreadPoolExecutor(16) as pool:
        return dict(zip(urls, pool.map(one, urls), strict=True))


class _Response(Protocol):
    """What of Scrapy's answer is looked at."""

    meta: dict[str, str]


def scrapy(urls: list[str]) -> dict[str, bool]:
    """Whether a spider's callback is given each URL."""
    library, crawler = importlib.import_module("scrapy"), importlib.import_module("scrapy.crawler")
    had = dict.fromkeys(urls, False)

    class Spider(library.Spider):  # type: ignore[name-defined]
        name = "consent"

        async def start(self) -> AsyncIterator[object]:
            for url in urls:
                yield library.Request(url, self.parse, errback=self.lost, dont_filter=True, meta={"asked": url})

        def parse(self, response: _Response) -> None:
            had[response.meta["asked"]] = True

        def lost(self, failure: object) -> None:
            return None

    settings = {
        "ROBOTSTXT_OBEY": True,
        "USER_AGENT": f"{AGENT}/1.0",
        "RETRY_ENABLED": False,
        "DOWNLOAD_TIMEOUT": _TIMEOUT_S,
        "LOG_ENABLED": False,
        "TELNETCONSOLE_ENABLED": False,
        "DOWNLOAD_DELAY": 0,
        "CONCURRENT_REQUESTS_PER_DOMAIN": 16,
    }
    process = crawler.CrawlerProcess(settings)
    process.crawl(Spider)
    process.start()
    return had


PEERS: dict[str, Callable[[list[str]], dict[str, bool]]] = {
    "urllib.robotparser": robotparser,
    "img2dataset": img2dataset,
    "scrapy": scrapy,
}


def main() -> None:
    """Print {peer and version: {url: whether it was had}}, of the peers that are here."""
    urls = json.load(sys.stdin)
    here = [name for name in PEERS if name == "urllib.robotparser" or importlib.util.find_spec(name)]
    print(json.dumps({f"{name} {_version(name)}": PEERS[name](urls) for name in here}))


def _version(name: str) -> str:
    return platform.python_version() if name == "urllib.robotparser" else metadata.version(name)


if __name__ == "__main__":
    main()
