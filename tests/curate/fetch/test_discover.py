"""Listings of every kind, and listings that fail."""

import gzip
from dataclasses import replace

import pytest

from pipeline.curate.fetch.columns import ListConfig
from pipeline.curate.fetch.discover import Discover, DiscoverConfig, check_sources, discover
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

    def broken(body: bytes, url: str, *args: object, **options: object) -> list:
        raise RecursionError("too deep")

    monkeypatch.setattr("pipeline.curate.fetch.discover.read_list", broken)
    assert [row["reason"] for row in discover(f"{site.url}/a", "list", DiscoverConfig(fetch=config))] == [
        "recursion_error"
    ]


def test_a_parser_that_quotes_what_it_read_gives_nothing_away(site, config, monkeypatch):
    site.pages["/a"] = "url\n"

    def broken(body: bytes, url: str, *args: object, **options: object) -> list:
        raise RuntimeError(f"{url} and http://me:hunter@h/?sig=hunter\x1b" + "x" * 9999)

    monkeypatch.setattr("pipeline.curate.fetch.discover.read_list", broken)
    (row,) = discover(f"{site.url}/a?token=hunter", "list", DiscoverConfig(fetch=config))
    assert row["reason"] == "runtime_error" and "hunter" not in str(row) and row["detail"].isprintable()


def test_the_header_says_how_a_list_is_written(site, config):
    site.pages["/l"] = {
        "body": f"url,caption\n{site.url}/a,日本の猫\n".encode("cp932"),
        "content_type": "text/csv",
        "charset": "Shift_JIS",
    }
    assert [row["text"] for row in discover(f"{site.url}/l", "list", DiscoverConfig(fetch=config))] == ["日本の猫"]


def test_a_list_may_be_larger_than_a_picture_and_has_a_bound_of_its_own(site, config):
    site.pages["/l"] = b"url\n" + b"http://e.example/a\n" * 99
    small = replace(config, max_bytes=100)
    assert len(discover(f"{site.url}/l", "list", DiscoverConfig(fetch=small))) == 99
    (row,) = discover(f"{site.url}/l", "list", DiscoverConfig(fetch=config, lists=ListConfig(max_bytes=100)))
    assert row["reason"] == "too_large"


def test_lists_by_a_path(tmp_path, config):
    (tmp_path / "a.csv").write_text("url,caption\nhttp://e.example/a.png,x\nb.png,y\n/etc/passwd,z\n")
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"original": "http://e.example/b.png", "id": 7}\n'))
    (tmp_path / "c.parquet").write_bytes(b"PAR1 and no more")
    reader = DiscoverConfig(fetch=config, lists=ListConfig(max_bytes=1000))
    rows = discover(str(tmp_path), "list", reader)
    assert [row["reason"] for row in rows] == [None, "bad_url", "bad_url", "list_line_unreadable", "list_unreadable"]
    reader = DiscoverConfig(lists=ListConfig(url="original"))
    (row,) = discover(f"file://{tmp_path}/b.jsonl.gz", "list", reader)
    assert (row["url"], row["extra"], row["page_url"]) == ("http://e.example/b.png", '{"id": 7}', None)
    assert [row["reason"] for row in discover(str(tmp_path / "none"), "list", reader)] == ["list_missing"]
    (row,) = discover(str(tmp_path / "a.csv"), "list", DiscoverConfig(lists=ListConfig(max_bytes=9)))
    assert row["reason"] == "too_large"
    to_table(rows, INPUT)


def test_only_lists_are_read_by_a_path(config):
    for kind in ("feed", "page", "video_page"):
        assert [row["reason"] for row in discover("/etc/passwd", kind, DiscoverConfig(fetch=config))] == ["bad_url"]


def test_sources_are_checked_before_anything_starts(tmp_path):
    (tmp_path / "a.csv").write_text("url\n")
    check_sources(
        [f"list={tmp_path}", f"list={tmp_path}/a.csv", "list=http://e.example/none", "feed=http://e.example/"]
    )
    for sources in (
        [],
        ["list=none.csv"],
        ["list=s3x://a/b"],
        [f"list={tmp_path}/a.csv", "list=/none"],
        ["feed=./feed.xml"],
    ):
        with pytest.raises(ValueError, match="list|feed"):
            check_sources(sources)


def test_a_stage_numbers_its_rows(site, config):
    site.pages["/l"] = "url\nhttp://e.example/a\nhttp://e.example/b\n"
    stage = Discover(config=DiscoverConfig(fetch=config))
    rows = list(stage.split({"source": f"list={site.url}/l", "order": 7 << 40}))
    assert [row["order"] - (7 << 40) for row in rows] == [0, 1]


def test_an_unknown_kind_is_the_users_error(config):
    with pytest.raises(ValueError, match="'rss'.*list, feed, page, video_page"):
        discover("http://e.example/", "rss", DiscoverConfig(fetch=config))
