"""Listings of every kind, and listings that fail."""

import pytest

from pipeline.curate.fetch.discover import DiscoverConfig, discover
from pipeline.curate.work import to_table
from pipeline.records import INPUT, key_of

FEED = '<rss><channel><item><enclosure url="a.mp3"/></item><item><enclosure url="a.mp3"/></item></channel></rss>'


@pytest.mark.parametrize(
    ("kind", "body", "names"),
    [
        ("list", '{"url": "a.png", "caption": "x"}\n{"url": "a.png", "caption": "y"}\n', ["a.png", "a.png"]),
        ("feed", FEED, ["a.mp3", "a.mp3"]),
        ("page", "<img src=a.png alt=x>", ["a.png"]),
        ("video_page", "<html><audio src=a.mp3></audio>", ["a.mp3"]),
    ],
)
def test_each_kind(site, config, kind, body, names):
    site.pages["/dir/list"] = {"text": body, "content_type": "text/html"}
    rows = discover(f"{site.url}/dir/list", kind, DiscoverConfig(fetch=config))
    assert [row["url"] for row in rows] == [f"{site.url}/dir/{name}" for name in names]
    assert all(row["state"] is None for row in rows)
    to_table(rows, INPUT)


@pytest.mark.parametrize("kind", ["list", "feed", "page", "video_page"])
def test_a_listing_that_cannot_be_had_is_one_row(site, config, kind):
    for path, expected in (("missing", ("failed", "http_404")), ("opted", ("dropped", "noai"))):
        site.pages["/opted"] = {"text": "<img src=a alt=b>", "headers": {"X-Robots-Tag": "noai"}}
        url = f"{site.url}/{path}"
        (row,) = discover(url, kind, DiscoverConfig(fetch=config))
        assert (row["state"], row["reason"], row["url"], row["key"]) == (*expected, url, key_of(url))
        to_table([row], INPUT)


def test_an_empty_listing_and_a_bad_address_are_rows(site, config):
    site.pages["/empty"] = {"text": "<p>", "content_type": "text/html"}
    assert [row["reason"] for row in discover(f"{site.url}/empty", "page", DiscoverConfig(fetch=config))] == [
        "listing_empty"
    ]
    assert [row["reason"] for row in discover("not a url", "feed", DiscoverConfig(fetch=config))] == ["bad_url"]


def test_whatever_breaks_a_parser_is_a_row(site, config, monkeypatch):
    site.pages["/a"] = "url\n"

    def broken(body: bytes, url: str) -> list:
        raise RecursionError("too deep")

    monkeypatch.setattr("pipeline.curate.fetch.discover.read_list", broken)
    assert [row["reason"] for row in discover(f"{site.url}/a", "list", DiscoverConfig(fetch=config))] == [
        "recursion_error"
    ]


def test_a_parser_that_quotes_what_it_read_gives_nothing_away(site, config, monkeypatch):
    site.pages["/a"] = "url\n"

    def broken(body: bytes, url: str) -> list:
        raise RuntimeError(f"{url} and http://me:hunter@h/?sig=hunter\x1b" + "x" * 9999)

    monkeypatch.setattr("pipeline.curate.fetch.discover.read_list", broken)
    (row,) = discover(f"{site.url}/a?token=hunter", "list", DiscoverConfig(fetch=config))
    assert row["reason"] == "runtime_error" and "hunter" not in str(row) and row["detail"].isprintable()


def test_an_unknown_kind_is_the_users_error(config):
    with pytest.raises(ValueError, match="'rss'.*list, feed, page, video_page"):
        discover("http://e.example/", "rss", DiscoverConfig(fetch=config))
