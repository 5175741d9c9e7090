"""Lines of robots.txt; what they mean is in the cases of consent."""

import time

import pytest

from pipeline.curate.fetch.robots import DOCUMENT_MAX_BYTES, our_lines, rules


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", []),
        (b"User-agent: *\nDisallow: /a", [("disallow", "/a")]),
        (b"User-agent: Triptych/2\nAllow: /a\nUser-agent: *\nDisallow: /", [("allow", "/a")]),
        (b"User-agent: a\nSitemap: x\nUser-agent: triptych\nDisallow: /", [("disallow", "/")]),
        (b"User-agent: *\nCrawl-delay: 2\nUser-agent: b\nDisallow: /c", [("crawl-delay", "2"), ("disallow", "/c")]),
        (b"Content-Signal: ai-train=no", [("content-signal", "ai-train=no")]),
        (b"Disallow: /", []),
        (b"User-agent: *\nDisallow: /caf\xe9\x00", [("disallow", "/caf%E9%00")]),
        (b"User-agent: *\nDisallow /a:b", [("disallow", "/a:b")]),
        (b"User-agent: *\nDisallow is what we want: no", [("disallow", "is what we want: no")]),
    ],
)
def test_lines_that_are_ours(body, expected):
    assert our_lines(body) == expected


def test_delays_and_rates():
    assert rules([("crawl-delay", "1.5")]).crawl_delay("triptych") == 1.5
    assert rules([("request-rate", "1/10s")]).request_rate("triptych").seconds == 10


@pytest.mark.parametrize(
    "body",
    [
        b"a" + b" " * DOCUMENT_MAX_BYTES + b"x",
        b"User-agent: *\nDisallow: " + b"*a" * 250_000,
        b"Content-Usage: /a " + b'"\\' * 250_000,
        b"\xff" * DOCUMENT_MAX_BYTES,
        b"User-agent: a\n" * 35_000,
    ],
)
def test_time_is_linear(body):
    began_s = time.process_time()
    rules(our_lines(body)).can_fetch("http://a.example/" + "a" * 4000, "triptych")
    assert time.process_time() - began_s < 5
