"""Podcast feeds."""

import pytest

from pipeline.curate.fetch.feeds import read_feed
from pipeline.curate.fetch.tracks import ranked
from pipeline.curate.stage import Leave
from pipeline.records import INPUT, key_of

URL = "http://pod.example/feed.xml"


def feed(items: str, channel: str = "<language>en-GB</language>") -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<rss version="2.0" xmlns:podcast="https://podcastindex.org/namespace/1.0" '
        'xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"><channel><title>T</title>'
        f"{channel}{items}</channel></rss>"
    ).encode()


ITEM = (
    "<item><title>One</title><link>http://pod.example/1</link>"
    '<enclosure url="1.mp3?a=1&amp;b=2" type="audio/mpeg" length="5"/>'
    '<podcast:transcript url="1.json" type="application/json"/>'
    '<podcast:transcript url="1.srt" type="application/x-subrip"/>'
    '<podcast:transcript url="1.vtt" type="text/vtt" language="en"/>'
    '<podcast:transcript url="1.html" type="text/html"/></item>'
)


def test_an_episode_with_its_best_transcript():
    (row,) = read_feed(feed(ITEM, "<language>en-GB</language><podcast:license>cc-by-4.0</podcast:license>"), URL)
    url = "http://pod.example/1.mp3?a=1&b=2"
    assert row == dict.fromkeys(INPUT.names) | {
        "key": key_of(url),
        "url": url,
        "page_url": "http://pod.example/1",
        "source": URL,
        "language": "en-GB",
        "license": "cc-by-4.0",
        "transcript_url": "http://pod.example/1.vtt",
        "transcript_type": "vtt",
        "transcript_kind": "unknown",
        "more_transcripts": "srt http://pod.example/1.srt\njson http://pod.example/1.json",
        "expected_bytes": 5,
    }


def test_secrets_of_feeds_and_links_are_not_kept():
    link = "<link>http://me:pw@pod.example/1?id=7&amp;auth=a</link>"
    whole = feed(ITEM.replace("<link>http://pod.example/1</link>", link))
    for text in (whole, whole.replace(b"<title>T</title>", b"<title>T & <b></title>")):
        (row,) = read_feed(text, f"{URL}?auth=hunter")
        assert row["page_url"] == "http://pod.example/1?id=7&auth=REDACTED" and row["source"] == URL
        (row,) = read_feed(text.replace(b"<link>", b"<lonk>").replace(b"</link>", b"</lonk>"), f"{URL}?auth=hunter")
        assert row["page_url"] == URL


def test_details_of_feeds_are_short_and_printable():
    for body in (
        b"<r" + b"x" * 10_000 + b"/>",
        b"<a\x1b http://me:hunter@h/?sig=s",
        b"<!DOCTYPE x SYSTEM 'http://me:hunter@h'><x>",
    ):
        with pytest.raises(Leave) as leave:
            read_feed(body, URL)
        detail = leave.value.detail
        assert detail.isprintable() and len(detail) <= 300 and "hunter" not in detail


def test_items_without_a_file_are_no_episodes_and_an_own_licence_wins():
    items = "<item><title>text</title></item>" + ITEM.replace(
        "</item>", "<podcast:license>cc0</podcast:license></item>"
    )
    rows = read_feed(feed(items, "<podcast:license>all rights reserved</podcast:license>"), URL)
    assert [row["license"] for row in rows] == ["cc0"] and rows[0]["language"] is None


@pytest.mark.parametrize(
    ("found", "language", "expected"),
    [
        ([], "en", []),
        ([("a.srt", "application/srt", ""), ("a.vtt", "text/vtt", "")], "en", ["vtt a.vtt", "srt a.srt"]),
        (
            [("de.vtt", "text/vtt", "de"), ("en.srt", "application/x-subrip", "en-US")],
            "en-GB",
            ["srt en.srt", "vtt de.vtt"],
        ),
        ([("fr.vtt", "text/vtt", "fr"), ("en.srt", "text/srt", "English")], "eng", ["srt en.srt", "vtt fr.vtt"]),
        ([("a.vtt", "text/vtt", "und"), ("a.srt", "text/srt", "en")], "en", ["vtt a.vtt", "srt a.srt"]),
        ([("a.html", "text/html", ""), ("a.txt", "text/plain", "")], "en", ["txt a.txt", "html a.html"]),
        ([("a.vtt?x=1", "", "")], None, ["vtt a.vtt?x=1"]),
        ([("a.json", "application/json; charset=utf-8", "")], None, ["json a.json"]),
        ([("", "text/vtt", ""), ("b.srt", "text/srt", "")], None, ["srt b.srt"]),
        ([("a", "text/html", ""), ("a", "text/vtt", "")], None, ["vtt a"]),
        ([(f"{n}.srt", "text/srt", "") for n in range(100)], None, [f"srt {n}.srt" for n in range(8)]),
    ],
)
def test_transcripts_in_the_order_in_which_they_are_tried(found, language, expected):
    assert [f"{track.type} {track.url}" for track in ranked(found, language)] == expected


@pytest.mark.parametrize(
    ("block", "blocked"),
    [
        ("<itunes:block>Yes</itunes:block>", True),
        ("<podcast:block>yes</podcast:block>", True),
        ('<podcast:block id="triptych">yes</podcast:block>', True),
        ('<podcast:block id="google">yes</podcast:block>', False),
        ("<podcast:block>no</podcast:block>", False),
        ("", False),
    ],
)
def test_blocks(block, blocked):
    expected = ("dropped", "podcast_block") if blocked else (None, None)
    for body in (feed(ITEM, block), feed(ITEM.replace("</item>", f"{block}</item>"))):
        (row,) = read_feed(body, URL)
        assert (row["state"], row["reason"]) == expected


def test_atom():
    atom = (
        b'<feed xmlns="http://www.w3.org/2005/Atom" xml:lang="fr"><entry><link href="http://pod.example/p"/>'
        b'<link rel="enclosure" href="/a.mp3"/></entry></feed>'
    )
    (row,) = read_feed(atom, URL)
    assert (row["url"], row["page_url"], row["language"]) == ("http://pod.example/a.mp3", "http://pod.example/p", "fr")


def test_a_broken_feed_is_forgiven():
    broken = feed(ITEM + ITEM.replace("1.mp3", "2.mp3")).replace(b"<title>T</title>", b"<title>T & nbsp; <b></title>")
    rows = read_feed(broken, URL)
    assert [row["url"] for row in rows] == [f"http://pod.example/{n}.mp3?a=1&b=2" for n in (1, 2)]
    assert rows[0]["language"] == "en-GB" and rows[0]["state"] is None


def test_an_unusable_enclosure_costs_one_episode():
    rows = read_feed(feed(ITEM + ITEM.replace("1.mp3?a=1&amp;b=2", "ftp://pod.example/2.mp3")), URL)
    assert [row["reason"] for row in rows] == [None, "bad_url"]


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;">'
    b'<!ENTITY c "&b;&b;&b;&b;&b;&b;">]>'
    b"<rss><channel><title>&c;</title></channel></rss>"
)
OUTSIDE = (
    b'<?xml version="1.0"?><!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
    b"<rss><channel><title>&x;</title></channel></rss>"
)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (BOMB, "feed_unsafe"),
        (OUTSIDE, "feed_unsafe"),
        (b"<html><body>hello</body></html>", "feed_unreadable"),
        (b"<html><p>404<br></html>", "feed_unreadable"),
        (b"", "feed_unreadable"),
        (b"\x00\x01\x02", "feed_unreadable"),
        (feed(""), "listing_empty"),
    ],
)
def test_what_is_no_feed_leaves(body, reason):
    with pytest.raises(Leave) as leave:
        read_feed(body, URL)
    assert (leave.value.state, leave.value.reason) == ("failed", reason)
