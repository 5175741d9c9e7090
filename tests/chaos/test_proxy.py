"""The proxy does the harm it is told to, at the request it is told, and is invisible otherwise."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import pytest
import requests

from pipeline.chaos.proxy import FaultProxy, Rule


class Echo(BaseHTTPRequestHandler):
    got: ClassVar[list[tuple[str, str, bytes]]] = []

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.got.append((self.command, self.path, body))
        self.send_response(207)
        self.send_header("X-Host", self.headers["Host"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[FaultProxy]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Echo.got.clear()
    with FaultProxy(f"http://127.0.0.1:{server.server_port}") as made:
        yield made
    server.shutdown()
    server.server_close()


def put(proxy: FaultProxy, path: str = "/a%20b/c?x=1%2F2", body: bytes = b"data") -> requests.Response:
    return requests.put(proxy.url + path, data=body, timeout=10)


def test_without_a_rule_it_is_not_there(proxy: FaultProxy) -> None:
    answer = put(proxy)
    assert (answer.status_code, answer.content) == (207, b"data")
    assert answer.headers["X-Host"] == f"127.0.0.1:{proxy.port}", "a signature over Host stays valid"
    assert Echo.got == [("PUT", "/a%20b/c?x=1%2F2", b"data")]
    assert requests.head(f"{proxy.url}/h", timeout=10).status_code == 207
    assert [(seen.method, seen.size_bytes) for seen in proxy.seen] == [("PUT", 4), ("HEAD", 0)]


@pytest.mark.parametrize(
    ("harm", "executed", "called"),
    [("kill", 0, 1), ("kill_after", 1, 1), ("drop", 1, 0), ("reset", 0, 0), ("503", 0, 0), ("call", 1, 1)],
)
def test_harm_is_done_at_its_request_alone(proxy: FaultProxy, harm: Any, executed: int, called: int) -> None:
    calls: list[int] = []
    proxy.arm(Rule(harm=harm, at=2, callback=lambda: calls.append(1)))
    assert put(proxy).status_code == 207
    if harm in ("503", "call"):
        assert put(proxy).status_code == (503 if harm == "503" else 207)
    else:
        with pytest.raises(requests.ConnectionError):
            put(proxy)
    assert put(proxy).status_code == 207
    assert len(Echo.got) == 2 + executed and len(calls) == called and proxy.harmed == 1


def test_a_share_of_requests_fails_and_the_seed_says_which(proxy: FaultProxy) -> None:
    def outcome() -> list[bool]:
        proxy.arm(Rule(rate=0.5, seed=3))
        good = []
        for _ in range(40):
            try:
                good.append(put(proxy).status_code == 207)
            except requests.ConnectionError:
                good.append(False)
        return good

    first = outcome()
    assert first == outcome() and 10 <= sum(first) <= 30
