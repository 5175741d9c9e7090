"""The client as a guest: consent, politeness, and waiting."""

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web

from pipeline.curate.fetch import http
from pipeline.curate.fetch.http import Client, FetchConfig, fetch_one
from pipeline.curate.fetch.response import retry_after_s
from pipeline.curate.stage import Leave

pytestmark = pytest.mark.usefixtures("alone")


def outcome(url: str, config: FetchConfig) -> tuple[str, str]:
    with pytest.raises(Leave) as leave:
        fetch_one(url, config)
    return leave.value.state, leave.value.reason


def redirect(to: str) -> dict:
    return {"status": 302, "headers": {"Location": to}}


def test_opt_outs_are_obeyed_before_the_body_is_read(site, config):
    sent = []

    async def opted_out(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"X-Robots-Tag": "max-snippet: 0, noai"})
        await response.prepare(request)
        try:
            for _ in range(100):
                await response.write(bytes(1_000_000))
                sent.append(1)
                await asyncio.sleep(0.01)
        except ConnectionError:
            pass
        return response

    site.pages["/a"] = opted_out
    assert outcome(f"{site.url}/a", config) == ("dropped", "noai")
    assert len(sent) < 50
    site.pages["/b"] = {"body": b"x", "headers": {"TDM-Reservation": "1"}}
    assert outcome(f"{site.url}/b", config) == ("dropped", "tdm_reserved")


def test_robots_txt_is_asked_once_and_obeyed(site, config):
    site.pages |= {
        "/robots.txt": "User-agent: *\nDisallow: /*.mp3$\nDisallow: /private\nAllow: /private/ok\n",
        "/a.mp3": b"1",
        "/a.mp3x": b"2",
        "/private/no": b"3",
        "/private/ok": b"4",
    }
    assert outcome(f"{site.url}/a.mp3", config) == ("dropped", "robots_disallowed")
    assert outcome(f"{site.url}/private/no", config) == ("dropped", "robots_disallowed")
    assert fetch_one(f"{site.url}/a.mp3x", config).body == b"2"
    assert fetch_one(f"{site.url}/private/ok", config).body == b"4"
    assert site.hits["/robots.txt"] == 1 and not site.hits["/a.mp3"] + site.hits["/private/no"]


def test_robots_rules_for_us_come_before_those_for_all(site, config):
    site.pages |= {"/robots.txt": "User-agent: *\nDisallow:\n\nUser-agent: Triptych\nDisallow: /\n", "/a": b"x"}
    assert outcome(f"{site.url}/a", config) == ("dropped", "robots_disallowed")


def test_robots_that_cannot_be_had(site, config):
    site.pages["/a"] = b"x"
    for page, expected in (
        ({"status": 404}, None),
        ({"status": 403}, None),
        ({"status": 500}, "robots_unreachable"),
        ({"status": 429}, "robots_unreachable"),
        (redirect("/robots.txt"), None),
        ({"body": b"\xff\xfe\x00junk", "headers": {"X-Robots-Tag": "noai"}}, None),
        (b"User-agent: *\nDisallow: /a\n" + b"# long\n" * 200_000, "robots_disallowed"),
    ):
        http.forget()
        site.pages["/robots.txt"] = page
        if expected is None:
            assert fetch_one(f"{site.url}/a", config).body == b"x"
        else:
            state = "dropped" if expected == "robots_disallowed" else "deferred"
            assert outcome(f"{site.url}/a", config) == (state, expected)


def test_robots_hold_for_the_target_of_a_redirect(site, config):
    site.pages |= {"/robots.txt": "User-agent: *\nDisallow: /hidden\n", "/a": redirect("/hidden"), "/hidden": b"x"}
    assert outcome(f"{site.url}/a", config) == ("dropped", "robots_disallowed")
    assert not site.hits["/hidden"]


def test_requests_to_one_host_keep_their_distance(site, config):
    times = []

    async def clock(request: web.Request) -> web.StreamResponse:
        times.append(time.monotonic())
        return web.Response()

    async def burst(config: FetchConfig) -> float:
        times.clear()
        async with Client(config) as client:
            await asyncio.gather(*(client.get(f"{site.url}/a") for _ in range(4)))
        return times[-1] - times[0]

    site.pages["/a"] = clock
    assert asyncio.run(burst(config)) < 0.3
    assert asyncio.run(burst(replace(config, per_host_interval_s=0.2))) > 0.5  # three intervals, less some jitter
    http.forget()
    site.pages["/robots.txt"] = "User-agent: *\nCrawl-delay: 0.2\n"
    assert asyncio.run(burst(config)) > 0.5  # the host's own wish


def test_a_host_that_wants_longer_waits_than_we_have_is_deferred(site, config):
    site.pages |= {"/a": b"x", "/robots.txt": "User-agent: *\nCrawl-delay: 10\n"}
    assert fetch_one(f"{site.url}/a", config).body == b"x"
    assert outcome(f"{site.url}/a", config) == ("deferred", "host_busy")
    assert site.hits["/robots.txt"] == 1 and site.hits["/a"] == 1


def test_our_own_queue_is_waited_for_however_long(site, config):
    site.pages["/a"] = b"x"
    slow = replace(config, per_host_interval_s=0.3, max_wait_s=0.1)

    async def burst() -> None:
        async with Client(slow) as client:
            await asyncio.gather(*(client.get(f"{site.url}/a") for _ in range(3)))

    began = time.monotonic()
    asyncio.run(burst())
    assert time.monotonic() - began > 0.8  # robots.txt and three pictures


def test_documents_come_in_the_turn_of_robots_txt_and_where_they_lead_in_one_of_its_own(site, config):
    times: dict[str, float] = {}

    def noted(status: int, to: str = "") -> object:
        async def answer(request: web.Request) -> web.StreamResponse:
            times[request.path] = time.monotonic()
            return web.Response(status=status, headers={"Location": to} if to else {})

        return answer

    site.pages |= {"/robots.txt": noted(404), "/ai.txt": noted(302, "/moved.txt"), "/moved.txt": noted(404)}
    site.pages |= {"/.well-known/tdmrep.json": noted(404), "/a": noted(200)}
    fetch_one(f"{site.url}/a", replace(config, per_host_interval_s=0.5))
    assert times["/moved.txt"] - times["/robots.txt"] > 0.45, "a second turn"
    assert times["/a"] - times["/moved.txt"] > 0.45, "a third one"


def test_retry_after_is_obeyed_when_short_and_deferred_when_long(site, config):
    async def busy(request: web.Request) -> web.StreamResponse:
        if site.hits["/a"] == 1:
            return web.Response(status=429, headers={"Retry-After": "1"})
        return web.Response(body=b"ready")

    site.pages["/a"] = busy
    began = time.monotonic()
    assert fetch_one(f"{site.url}/a", config).body == b"ready"
    assert time.monotonic() - began >= 0.99
    site.pages["/b"] = {"status": 503, "headers": {"Retry-After": "3600"}}
    assert outcome(f"{site.url}/b", config) == ("deferred", "retry_after")
    assert site.hits["/b"] == 1
    # and the whole host is left alone from then on
    assert outcome(f"{site.url}/a", config) == ("deferred", "host_busy")


def test_too_many_requests_without_a_date_is_deferred_not_failed(site, config):
    site.pages["/a"] = {"status": 429}
    assert outcome(f"{site.url}/a", config) == ("deferred", "http_429")


def test_retry_after_dates():
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert retry_after_s("120") == 120 and 85 < retry_after_s(later) <= 90
    assert retry_after_s("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after_s(None) is retry_after_s("soon") is retry_after_s("-5") is None
