"""Feeds with one fault each, as the public has them: read whole, and held to the same consent."""

import pytest

from pipeline.curate.fetch.feeds import read_feed
from pipeline.curate.fetch.mend import mended
from pipeline.curate.stage import Leave

ITEM = (
    '<item><title>One</title>{block}<enclosure url="http://h.example/a.mp3?x=1&amp;y=2" type="audio/mpeg"/>'
    '<podcast:transcript url="http://h.example/a.vtt" type="text/vtt"/>'
    '<podcast:transcript url="http://h.example/a.html" type="text/html"/></item>'
)
XMLNS = (
    'xmlns:podcast="https://podcastindex.org/namespace/1.0" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"'
)


def feed(title: str = "T", *, block: str = "", item_block: str = "", xmlns: str = XMLNS, before: str = "") -> bytes:
    item = ITEM.format(block=item_block)
    declaration = '<?xml version="1.0" encoding="UTF-8"?>'
    channel = f"<channel><title>{title}</title>{block}{item}</channel>"
    return f'{before}{declaration}<rss version="2.0" {xmlns}>{channel}</rss>'.encode()


FAULTS = {
    "bare &": feed("Tom & Jerry, AT&T &c."),
    "blank before the declaration": feed(before="\n  "),
    "entity of HTML": feed("a&nbsp;b &eacute; &hellip;"),
    "undeclared prefix": feed(xmlns='xmlns:itunes="x"'),
    "no prefix declared": feed(xmlns=""),
    "control character": feed("a\x0bb\x00c"),
    "reference to no character": feed("a&#0;b&#x1F;c&#55296;"),
    "one byte of Latin-1": feed("caf\x00").replace(b"\x00", b"\xe9"),
    "unknown entity": feed("&none-such; &nosuch;"),
    "junk before": feed(before="\ufeff\n"),
}
BLOCKS = {
    "itunes": "<itunes:block>Yes</itunes:block>",
    "podcast": "<podcast:block>yes</podcast:block>",
    "podcast, for us": '<podcast:block id="triptych">yes</podcast:block>',
    "in CDATA": "<itunes:block><![CDATA[ yes ]]></itunes:block>",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_feed_with_one_fault_is_read_whole(fault):
    (row,) = read_feed(FAULTS[fault], "http://h.example/feed.xml")
    assert (row["url"], row["state"]) == ("http://h.example/a.mp3?x=1&y=2", None)
    assert (row["transcript_url"], row["transcript_type"]) == ("http://h.example/a.vtt", "vtt")


@pytest.mark.parametrize("title", ["plain", "Tom & Jerry", "a&nbsp;b", "c\x0bd"])
@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("place", ["channel", "item"])
def test_a_block_holds_whatever_else_is_wrong(title, block, place):
    words = {"block" if place == "channel" else "item_block": BLOCKS[block]}
    (row,) = read_feed(feed(title, **words), "http://h.example/feed.xml")
    assert (row["state"], row["reason"]) == ("dropped", "podcast_block")


def test_a_block_for_somebody_else_is_none():
    other = '<podcast:block id="google">yes</podcast:block><itunes:block>no</itunes:block>'
    for title in ("plain", "Tom & Jerry"):
        (row,) = read_feed(feed(title, block=other), "http://h.example/feed.xml")
        assert row["state"] is None


def test_a_feed_that_cannot_be_mended_is_blocked_in_doubt():
    torn = feed("T", item_block=BLOCKS["podcast, for us"]).removesuffix(b"</item></channel></rss>")
    assert {row["reason"] for row in read_feed(torn, "http://h.example/feed.xml")} == {"podcast_block"}


def test_what_is_unsafe_stays_unsafe():
    bomb = b'\n<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "&b;&b;"><!ENTITY b "x & y">]><rss>&a;</rss>'
    with pytest.raises(Leave, match="feed_unsafe"):
        read_feed(bomb, "http://h.example/feed.xml")


def test_cdata_is_left_alone_and_long_input_costs_little():
    assert mended(b"<a><![CDATA[x & y &nbsp;]]> & z</a>") == "<a><![CDATA[x & y &nbsp;]]> &amp; z</a>"
    assert len(mended(b"<a>" + b"&" * 1_000_000 + b"</a>")) == 5_000_007
