"""Feeds in pages, from a server on loopback."""

from dataclasses import replace

import pytest

from pipeline.curate.fetch.discover import DiscoverConfig, discover
from pipeline.curate.work import to_table
from pipeline.records import INPUT, key_of

ATOM = 'xmlns:atom="http://www.w3.org/2005/Atom" xmlns:itunes="x"'


def page(*names: str, after: str | None = None, rel: str = "next", more: str = "") -> dict[str, str]:
    items = "".join(f'<item><enclosure url="/{name}.mp3" type="audio/mpeg"/></item>' for name in names)
    link = "" if after is None else f'<atom:link rel="self" href="/x"/><atom:link rel="{rel}" href="{after}"/>'
    text = f'<rss version="2.0" {ATOM}><channel>{link}{more}{items}</channel></rss>'
    return {"text": text, "content_type": "application/rss+xml"}


def read(site, config, max_pages: int = 50) -> list[dict]:
    rows = discover(f"{site.url}/feed", "feed", DiscoverConfig(fetch=replace(config, retries=0), max_pages=max_pages))
    to_table(rows, INPUT)
    return rows


def told(site, rows: list[dict]) -> list[str]:
    return [row["reason"] or row["url"].removeprefix(site.url) for row in rows]


@pytest.mark.parametrize("rel", ["next", "NEXT", "prev-archive"])
def test_every_page_is_read_in_order(site, config, rel):
    site.pages |= {
        "/feed": page("a", "b", after="/feed?page=2", rel=rel),
        "/feed?page=2": page("c"),
    }
    site.pages["/feed"] = page("a", "b", after="/two", rel=rel)
    site.pages["/two"] = page("c", after="three?x=1", rel=rel)
    site.pages["/three"] = page("d")
    assert told(site, read(site, config)) == ["/a.mp3", "/b.mp3", "/c.mp3", "/d.mp3"]


def test_atom(site, config):
    entry = '<entry><link rel="enclosure" type="audio/mpeg" href="{}"/></entry>'
    feed = '<feed xmlns="http://www.w3.org/2005/Atom">{}{}</feed>'
    site.pages["/feed"] = {"text": feed.format('<link rel="next" href="/two"/>', entry.format("/a.mp3"))}
    site.pages["/two"] = {"text": feed.format("", entry.format("/b.mp3"))}
    assert told(site, read(site, config)) == ["/a.mp3", "/b.mp3"]


def test_a_limit_is_told(site, config):
    site.pages |= {f"/p{n}": page(f"e{n}", after=f"/p{n + 1}") for n in range(9)}
    site.pages["/feed"] = page("e", after="/p0")
    rows = read(site, config, max_pages=3)
    assert told(site, rows) == ["/e.mp3", "/e0.mp3", "/e1.mp3", "listing_cut"]
    last = rows[-1]
    assert (last["state"], last["key"]) == ("failed", key_of(f"{site.url}/feed", "cut"))
    assert "3 pages" in last["detail"] and f"{site.url}/p2" in last["detail"] and not site.hits["/p2"]


@pytest.mark.parametrize("to", ["/feed", "/two", "/feed#x"])
def test_a_circle_ends(site, config, to):
    site.pages["/feed"] = page("a", after="/two")
    site.pages["/two"] = page("b", after=to)
    assert told(site, read(site, config)) == ["/a.mp3", "/b.mp3"]
    assert site.hits["/feed"] == site.hits["/two"] == 1


def test_a_host_that_gives_the_same_for_every_page(site, config):
    site.pages |= {f"/p{n}": page("a", after=f"/p{n + 1}") for n in range(9)}
    site.pages["/feed"] = page("a", after="/p0")
    assert told(site, read(site, config)) == ["/a.mp3"] and not site.hits["/p1"]


@pytest.mark.parametrize(
    ("second", "state", "reason"),
    [
        ({"status": 404}, "failed", "http_404"),
        ({"status": 503}, "failed", "http_503"),
        ({"text": "<p>no", "content_type": "text/html"}, "failed", "feed_unreadable"),
        ({"text": "x", "headers": {"X-Robots-Tag": "noai"}}, "dropped", "noai"),
    ],
)
def test_a_page_that_cannot_be_had_is_told(site, config, second, state, reason):
    site.pages |= {"/feed": page("a", after="/two"), "/two": second}
    rows = read(site, config)
    assert told(site, rows) == ["/a.mp3", "listing_cut"]
    assert (rows[-1]["state"], rows[-1]["retryable"]) == (state, False)
    assert "page 2" in rows[-1]["detail"] and reason in rows[-1]["detail"]


def test_a_page_that_robots_may_not_read_is_not_asked_for(site, config):
    site.pages |= {"/feed": page("a", after="/no/two"), "/robots.txt": "User-agent: *\nDisallow: /no/\n"}
    rows = read(site, config)
    assert told(site, rows) == ["/a.mp3", "listing_cut"] and "robots_disallowed" in rows[-1]["detail"]
    assert not site.hits["/no/two"]


@pytest.mark.parametrize("place", ["/feed", "/two"])
def test_a_block_on_any_page_is_for_all(site, config, place):
    site.pages |= {"/feed": page("a", after="/two"), "/two": page("b", after="/three"), "/three": page("c")}
    site.pages[place]["text"] = site.pages[place]["text"].replace(
        "<channel>", "<channel><itunes:block>yes</itunes:block>"
    )
    assert set(told(site, read(site, config))) == {"podcast_block"} and not site.hits["/three"]


def test_a_page_without_episodes_may_lead_to_some(site, config):
    site.pages |= {"/feed": page(after="/two"), "/two": page("a")}
    assert told(site, read(site, config)) == ["/a.mp3"]
    site.pages["/two"] = page()
    assert told(site, read(site, config)) == ["listing_empty"]


def test_a_page_of_another_world_is_not_followed(site, config):
    site.pages["/feed"] = page("a", after="ftp://pod.example/two")
    assert told(site, read(site, config)) == ["/a.mp3"]
    site.pages["/feed"] = page("a", after="http://10.0.0.1/two")
    rows = read(site, config)
    assert told(site, rows) == ["/a.mp3", "listing_cut"] and "private_address" in rows[-1]["detail"]
