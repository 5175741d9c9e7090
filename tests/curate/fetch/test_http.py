"""The client against servers that lie, stall, flood and redirect."""

import asyncio
import gzip
import threading
import time
import zlib
from contextlib import ExitStack
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from aiohttp import web

from pipeline.curate.fetch.http import FetchConfig, fetch_one
from pipeline.curate.stage import Leave


def outcome(url: str, config: FetchConfig) -> tuple[str, str]:
    with pytest.raises(Leave) as leave:
        fetch_one(url, config)
    return leave.value.state, leave.value.reason


def redirect(to: str, status: int = 302) -> dict:
    return {"status": status, "headers": {"Location": to}}


def test_an_answer_with_its_body_and_final_address(site, config):
    site.pages |= {"/a": redirect("/b?x=1#top"), "/b": b"hello"}
    response = fetch_one(f"{site.url}/a#part", config)
    assert (response.body, response.url, response.status) == (b"hello", f"{site.url}/b?x=1", 200)
    sent = site.requests[-1].headers
    assert "triptych" in sent["User-Agent"] and "Cookie" not in sent and "Authorization" not in sent


def test_loopback_is_refused_unless_allowed(site, config):
    site.pages["/a"] = b"secret"
    port = site.url.rpartition(":")[2]
    for host in (
        "127.0.0.1",
        "localhost",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "127.1",
        "017700000001",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
    ):
        assert outcome(f"http://{host}:{port}/a", replace(config, allow_private=())) == ("failed", "private_address"), (
            host
        )
    assert not site.hits


@pytest.mark.parametrize(
    "target",
    [
        "http://10.0.0.1/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]:1/",
        "http://192.168.0.1:8080/x",
        "http://0xA9FEA9FE/",
        "http://[::ffff:10.0.0.1]/",
        "http://[fd00::1]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
    ],
)
def test_every_hop_is_checked_though_loopback_is_allowed(site, config, target):
    site.pages["/a"] = redirect(target)
    assert outcome(f"{site.url}/a", config) == ("failed", "private_address")
    assert outcome(target, config) == ("failed", "private_address")


def test_a_redirect_to_another_scheme_or_with_a_password_goes_nowhere(site, config):
    for target in ("file:///etc/hostname", "ftp://127.0.0.1/x", "http://user:secret@127.0.0.1/", "javascript:alert(1)"):
        site.pages["/a"] = redirect(target)
        with pytest.raises(Leave) as leave:
            fetch_one(f"{site.url}/a", config)
        assert leave.value.reason == "bad_url" and "secret" not in leave.value.detail, target


def test_redirects_are_counted(site, config):
    for n in range(11):
        site.pages[f"/{n}"] = redirect(f"/{n + 1}", (301, 302, 303, 307, 308)[n % 5])
    site.pages["/11"] = b"end"
    assert fetch_one(f"{site.url}/1", config).body == b"end"  # ten hops
    assert outcome(f"{site.url}/0", config) == ("failed", "too_many_redirects")
    site.pages["/loop"] = redirect("/loop")
    assert outcome(f"{site.url}/loop", config) == ("failed", "too_many_redirects")


def test_a_proxy_in_the_environment_is_ignored(site, config, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    site.pages["/a"] = b"direct"
    assert fetch_one(f"{site.url}/a", config).body == b"direct"


def test_cookies_are_neither_kept_nor_sent(site, config):
    site.pages |= {"/a": {"status": 302, "headers": {"Location": "/b", "Set-Cookie": "id=1"}}, "/b": b"x"}
    fetch_one(f"{site.url}/a", config)
    assert all("Cookie" not in request.headers for request in site.requests)


def test_a_trickling_server_hits_the_deadline(site, config):
    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        for _ in range(1000):
            await response.write(b"x")
            await asyncio.sleep(0.05)
        return response

    site.pages["/a"] = trickle
    # Of the whole, which would come in 50 s: between two bytes there is no wait that a timeout could be of.
    assert outcome(f"{site.url}/a", replace(config, timeout_s=1.0)) == ("failed", "timeout")


def test_the_deadline_covers_all_attempts_and_hops(site, config):
    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.3)
        return web.Response(status=302, headers={"Location": str(request.url)})

    async def silent(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    for page in (slow, silent):
        site.pages["/a"] = page
        began = time.monotonic()
        with pytest.raises(Leave) as leave:
            fetch_one(f"{site.url}/a", replace(config, timeout_s=0.9, max_redirects=20))
        assert (leave.value.reason, leave.value.retryable) == ("timeout", True)
        assert time.monotonic() - began > 0.8
        assert 1 <= site.hits["/a"] <= 3, "each redirect takes a third of the time"
        site.hits.clear()


def test_the_deadline_covers_the_rules_of_every_fresh_origin(config):
    """Each hop leads to an origin that takes its time over robots.txt; the input's time is one all the same."""
    urls: list[str] = []
    asked: list[str] = []

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path != "/a":
                asked.append(self.path)
                time.sleep(0.4)
                self.send_error(404)
                return
            number = urls.index(f"http://127.0.0.1:{self.server.server_port}/a")
            self.send_response(302)
            self.send_header("Location", urls[number + 1] if number + 1 < len(urls) else "/end")
            self.end_headers()

        def log_message(self, *_):
            return

    with ExitStack() as servers:
        for _ in range(8):
            server = servers.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), Slow))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            servers.callback(server.shutdown)
            urls.append(f"http://127.0.0.1:{server.server_port}/a")
        assert outcome(urls[0], replace(config, timeout_s=1.5, retries=2))[1] in ("timeout", "robots_unreachable")
    assert 1 <= len(asked) <= 5  # of 24 documents, 0.4 s each


def test_caps_on_bytes_as_sent_and_as_inflated(site, config):
    config = replace(config, max_bytes=10_000)

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(1000))

    bomb = gzip.compress(bytes(50_000_000))
    many = gzip.compress(bytes(9_000)) * 3
    encoded = {"headers": {"Content-Encoding": "gzip"}}
    site.pages |= {
        "/exact": bytes(10_000),
        "/over": bytes(10_001),
        "/endless": endless,
        "/bomb": {"body": bomb[:9_000]} | encoded,
        "/many": {"body": many} | encoded,
    }
    assert len(fetch_one(f"{site.url}/exact", config).body) == 10_000
    for name in ("over", "endless", "bomb", "many"):
        assert outcome(f"{site.url}/{name}", config) == ("failed", "too_large"), name


def test_encodings(site, config):
    text = b"caption " * 1000
    cases = {
        "gzip": gzip.compress(text),
        "deflate": zlib.compress(text),
        "identity": text,
        "x-gzip": gzip.compress(text[:4000]) + gzip.compress(text[4000:]),
    }
    for encoding, body in cases.items():
        site.pages["/a"] = {"body": body, "headers": {"Content-Encoding": encoding}}
        assert fetch_one(f"{site.url}/a", config).body == text, encoding
    for encoding, body in (("gzip", cases["gzip"][:-9]), ("gzip", b"not gzip at all"), ("br", b"xx")):
        site.pages["/a"] = {"body": body, "headers": {"Content-Encoding": encoding}}
        assert outcome(f"{site.url}/a", config) == ("failed", "bad_encoding"), encoding


def test_statuses_become_reasons_and_only_some_are_tried_again(site, config):
    for status, tries in ((404, 1), (403, 1), (410, 1), (204, 1), (408, 3), (500, 3), (503, 3)):
        site.pages[f"/{status}"] = {"status": status}
        with pytest.raises(Leave) as leave:
            fetch_one(f"{site.url}/{status}?token=secret", config)
        found = leave.value
        assert (found.state, found.reason, found.http_status) == ("failed", f"http_{status}", status)
        assert found.retryable == (tries > 1) and "secret" not in found.detail
        assert site.hits[f"/{status}"] == tries, status


def test_a_second_attempt_may_succeed(site, config):
    async def flaky(request: web.Request) -> web.StreamResponse:
        if site.hits["/a"] == 1:
            return web.Response(status=500)
        if site.hits["/a"] == 2:
            request.transport.abort()  # a reset connection
            return web.Response()
        return web.Response(body=b"third time lucky")

    site.pages["/a"] = flaky
    assert fetch_one(f"{site.url}/a", config).body == b"third time lucky"


def test_a_body_shorter_than_promised_is_not_a_success(site, config):
    async def short(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(bytes(500))
        request.transport.close()
        return response

    site.pages["/a"] = short
    assert outcome(f"{site.url}/a", config) == ("failed", "connection_error")


def test_dead_hosts_and_bad_addresses(config):
    assert outcome("http://127.0.0.1:1/a", config) == ("failed", "connection_error")
    assert outcome("http://does-not-exist.invalid/a", replace(config, retries=0)) == ("failed", "connection_error")
    for url in (
        "ftp://x/y",
        "file:///etc/passwd",
        "http://",
        "nonsense",
        "http://[::1",
        "http://x:99999/",
        f"http://{'a' * 70}.example/",
        "http://user@example.com/",
        "gopher://127.0.0.1",
        "",
    ):
        assert outcome(url, config) == ("failed", "bad_url"), url


def test_what_is_not_http_is_a_bad_response(site, config):
    async def wild(request: web.Request) -> web.StreamResponse:
        request.transport.write(b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n")
        request.transport.close()
        return web.Response()

    site.pages["/a"] = wild
    assert outcome(f"{site.url}/a", replace(config, retries=0))[1] == "bad_response"


def test_one_name_with_many_addresses_cannot_smuggle_a_private_one(site, config, monkeypatch):
    import aiohttp

    async def both(self, host, port=0, family=0):
        return [
            {"hostname": host, "host": ip, "port": port, "family": 2, "proto": 6, "flags": 0}
            for ip in ("169.254.169.254", "127.0.0.1")
        ]

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", both)
    site.pages["/a"] = b"x"
    assert outcome(f"http://rebind.example:{site.url.rpartition(':')[2]}/a", config) == ("failed", "private_address")


def test_bad_settings_are_named():
    for bad, word in (
        ({"timeout_s": 0}, "timeout_s"),
        ({"retries": -1}, "retries"),
        ({"user_agent": "Mozilla"}, "user_agent"),
        ({"allow_private": ("10.0.0.0/33",)}, "10.0.0.0/33"),
    ):
        with pytest.raises(ValueError, match=word):
            FetchConfig(**bad)


def test_memory_stays_bounded_by_the_cap(site, config):
    import tracemalloc

    site.pages["/a"] = {"body": gzip.compress(bytes(200_000_000), 9), "headers": {"Content-Encoding": "gzip"}}
    tracemalloc.start()
    try:
        assert outcome(f"{site.url}/a", replace(config, max_bytes=1_000_000))[1] == "too_large"
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20_000_000


def test_the_request_line_is_what_was_written(site, config):
    """Byte by byte: what a list, a feed and a `Location` wrote."""
    targets = [
        "/tag%3Asoundcloud%2C2010%3Atracks%2F1?Credential=AKIA%2F2026&X=a%27%27b",
        "/a%28b%29%7e?",
        "/sig?Policy=ey%3D%3D&Key-Pair-Id=K%7E1",
        "/x%2fy/%C3%A9?q=%2c,",
    ]
    lines = []

    async def any_target(request: web.Request) -> web.StreamResponse:
        lines.append(request.raw_path if hasattr(request, "raw_path") else request.path)
        return web.Response(body=b"x")

    site.any = any_target
    for target in targets:
        fetch_one(site.url + target, config)
        site.pages["/go"] = redirect(target)
        fetch_one(f"{site.url}/go", config)
    asked = [line for line in lines if not line.startswith(("/robots", "/ai.txt", "/.well-known"))]
    assert asked == [target for target in targets for _ in range(2)]
