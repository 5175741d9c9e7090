"""Feeds and items of many kinds, each with its right value: what is fetched, with which transcripts, and why not.

`report` names the public issue in which a kind was met (https://github.com/REPO/issues/N).
"""

import gzip
from dataclasses import dataclass

import pytest

from pipeline.curate.fetch.feeds import read_feed
from pipeline.curate.stage import Leave

URL = "http://pod.example/show/feed.xml"
NAMES = (
    'xmlns:podcast="https://podcastindex.org/namespace/1.0" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd" '
    'xmlns:media="http://search.yahoo.com/mrss/" xmlns:atom="http://www.w3.org/2005/Atom"'
)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A feed, and what each of its rows is: the URL's end, or the reason; then types and ends of the transcripts."""

    body: bytes
    rows: list[str]
    transcripts: list[str] | None = None
    report: str = ""


def rss(item: str, channel: str = "") -> bytes:
    head = f'<?xml version="1.0" encoding="UTF-8"?><rss version="2.0" {NAMES}><channel><title>T</title>'
    return f"{head}{channel}<item><title>One</title>{item}</item></channel></rss>".encode()


def enclosure(url: str, kind: str = "audio/mpeg", more: str = "") -> str:
    return f'<enclosure url="{url}" type="{kind}" {more}/>'


def transcript(url: str, kind: str | None, more: str = "") -> str:
    declared = "" if kind is None else f'type="{kind}"'
    return f'<podcast:transcript url="{url}" {declared} {more}/>'


MP3 = enclosure("a.mp3")
JPEG = enclosure("a.jpg", "image/jpeg")
VTT = transcript("a.vtt", "text/vtt")


def offered(*transcripts: str, language: str = "<language>en</language>") -> bytes:
    return rss(MP3 + "".join(transcripts), language)


FILES = {
    "picture before sound": Kind(body=rss(JPEG + MP3), rows=["a.mp3"], report="z-------------/CPod#159"),
    "picture after sound": Kind(body=rss(MP3 + JPEG), rows=["a.mp3"], report="music-assistant/server#5078"),
    "pictures alone": Kind(body=rss(JPEG), rows=["enclosure_not_audio"], report="AntennaPod/AntennaPod#193"),
    "a PDF alone": Kind(body=rss(enclosure("a.pdf", "application/pdf")), rows=["enclosure_not_audio"]),
    "a picture without a type": Kind(body=rss(enclosure("a.jpg?w=1", "")), rows=["enclosure_not_audio"]),
    "video before sound": Kind(body=rss(enclosure("a.mp4", "video/mp4") + MP3), rows=["a.mp3"]),
    "video alone": Kind(body=rss(enclosure("a.mp4", "video/mp4")), rows=["a.mp4"]),
    "video and a picture": Kind(body=rss(JPEG + enclosure("a.mov", "video/quicktime")), rows=["a.mov"]),
    "no type": Kind(body=rss('<enclosure url="a.mp3"/>'), rows=["a.mp3"], report="akhilrex/podgrab#121"),
    "no type, no ending": Kind(body=rss('<enclosure url="play/7"/>'), rows=["play/7"]),
    "octet stream": Kind(body=rss(JPEG + enclosure("a.m4a", "application/octet-stream")), rows=["a.m4a"]),
    "type says page": Kind(body=rss(enclosure("a.mp3", "text/html")), rows=["a.mp3"]),
    "a torrent beside sound": Kind(body=rss(enclosure("a.torrent", "application/x-bittorrent") + MP3), rows=["a.mp3"]),
    "first of equals": Kind(body=rss(MP3 + enclosure("b.ogg", "audio/ogg")), rows=["a.mp3"]),
    "Ogg as application": Kind(body=rss(JPEG + enclosure("a.ogg", "application/ogg")), rows=["a.ogg"]),
    "type in capitals": Kind(body=rss(JPEG + enclosure("x", "Audio/MPEG; q=1")), rows=["x"]),
    "media:content": Kind(
        body=rss('<media:content url="a.mp3" type="audio/mpeg"/>'), rows=["a.mp3"], report="gpodder/podcastparser#26"
    ),
    "media:group": Kind(
        body=rss(
            '<media:group><media:content url="a.jpg" medium="image"/><media:content url="b.mp3" medium="audio"/>'
            "</media:group>"
        ),
        rows=["b.mp3"],
        report="Ranchero-Software/NetNewsWire#4331",
    ),
    "default of a group": Kind(
        body=rss(
            '<media:group><media:content url="a.mp3" type="audio/mpeg"/>'
            '<media:content url="b.mp3" type="audio/mpeg" isDefault="true"/></media:group>'
        ),
        rows=["b.mp3"],
    ),
    "picture of media:content, sound of an enclosure": Kind(
        body=rss('<media:content url="a.png" medium="image"/>' + MP3), rows=["a.mp3"]
    ),
    "thumbnail alone": Kind(body=rss('<media:thumbnail url="a.png"/>') + b"", rows=["listing_empty"]),
    "alternate alone": Kind(
        body=rss(
            '<podcast:alternateEnclosure type="audio/opus" length="9"><podcast:source uri="a.opus"/>'
            "</podcast:alternateEnclosure>"
        ),
        rows=["a.opus"],
        report="Podcastindex-org/podcast-namespace#6",
    ),
    "alternate beside HLS": Kind(
        body=rss(
            enclosure("a.m3u8", "application/x-mpegURL")
            + '<podcast:alternateEnclosure type="audio/mpeg"><podcast:source uri="ipfs://x"/>'
            '<podcast:source uri="b.mp3"/></podcast:alternateEnclosure>'
        ),
        rows=["b.mp3"],
        report="Podcastindex-org/podcast-namespace#260",
    ),
    "alternate of another type": Kind(
        body=rss(
            '<podcast:alternateEnclosure type="video/mp4"><podcast:source uri="a.mp4"/></podcast:alternateEnclosure>'
            '<podcast:alternateEnclosure type="audio/x-m4a"><podcast:source uri="a.m4a" contentType="audio/mp4"/>'
            "</podcast:alternateEnclosure>"
        ),
        rows=["a.m4a"],
    ),
    "HLS alone": Kind(body=rss(enclosure("a.m3u8", "application/vnd.apple.mpegurl")), rows=["enclosure_not_audio"]),
    "an episode and a picture item": Kind(
        body=rss(MP3 + "</item><item>" + JPEG), rows=["a.mp3", "enclosure_not_audio"], report="Automattic/jetpack#15023"
    ),
    "an item of text": Kind(body=rss(MP3 + "</item><item><title>x</title>"), rows=["a.mp3"], report="xgi/castero#53"),
    "one guid for all": Kind(
        body=rss("<guid>x</guid>" + MP3 + "</item><item><guid>x</guid>" + enclosure("b.mp3")), rows=["a.mp3", "b.mp3"]
    ),
    "blanks around the URL": Kind(
        body=rss(enclosure("\n  a.mp3  ")), rows=["a.mp3"], report="amugofjava/anytime_podcast_player#77"
    ),
    "blanks and letters within": Kind(
        body=rss(enclosure("a b é.mp3")), rows=["a%20b%20%C3%A9.mp3"], report="gpodder/gpodder#1445"
    ),
    "host without a scheme": Kind(body=rss(enclosure("//cdn.example/a.mp3")), rows=["http://cdn.example/a.mp3"]),
    "xml:base": Kind(
        body=rss(MP3).replace(b"<item>", b'<item xml:base="http://cdn.example/x/">'),
        rows=["http://cdn.example/x/a.mp3"],
        report="feed-rs/feed-rs#107",
    ),
    "xml:base of the root, relative": Kind(
        body=rss(MP3).replace(b"<rss ", b'<rss xml:base="/media/" '),
        rows=["http://pod.example/media/a.mp3"],
        report="danmactough/node-feedparser#247",
    ),
    "xml:base that leads nowhere": Kind(
        body=rss(MP3).replace(b"<item>", b'<item xml:base="javascript:1">'), rows=["http://pod.example/show/a.mp3"]
    ),
    "URL as text": Kind(
        body=rss("<enclosure><![CDATA[http://pod.example/a.mp3]]></enclosure>"), rows=["http://pod.example/a.mp3"]
    ),
    "FTP": Kind(body=rss(enclosure("ftp://pod.example/a.mp3")), rows=["bad_url"]),
}

TRANSCRIPTS = {
    "four types": Kind(
        body=offered(
            transcript("a.html", "text/html"),
            transcript("a.json", "application/json"),
            VTT,
            transcript("a.srt", "application/srt"),
        ),
        rows=["a.mp3"],
        transcripts=["vtt a.vtt", "srt a.srt", "json a.json"],
        report="Podcastindex-org/podcast-namespace#20",
    ),
    "two of a type": Kind(
        body=offered(VTT, transcript("b.vtt", "text/vtt")),
        rows=["a.mp3"],
        transcripts=["vtt a.vtt", "vtt b.vtt"],
        report="podverse/podverse-web#1168",
    ),
    "own language first": Kind(
        body=offered(
            transcript("de.vtt", "text/vtt", 'language="de"'), transcript("en.srt", "text/srt", 'language="en-US"')
        ),
        rows=["a.mp3"],
        transcripts=["srt en.srt", "vtt de.vtt"],
    ),
    "language by name": Kind(
        body=offered(
            transcript("fr.vtt", "text/vtt", 'language="French"'),
            transcript("en.srt", "text/srt", 'language="eng"'),
            language="<language>English</language>",
        ),
        rows=["a.mp3"],
        transcripts=["srt en.srt", "vtt fr.vtt"],
    ),
    "only pages": Kind(body=offered(transcript("a.html", "text/html")), rows=["a.mp3"], transcripts=["html a.html"]),
    **{
        f"{kind} {url}": Kind(
            body=offered(transcript(url, kind)), rows=["a.mp3"], transcripts=[f"{short} {url}"], report=report
        )
        for url, kind, short, report in [
            ("a.srt", "application/x-subrip", "srt", "Automattic/pocket-casts-ios#2185"),
            ("a.srt", "text/plain", "srt", "Podcastindex-org/podcast-namespace#222"),
            ("a.vtt", "application/octet-stream", "vtt", ""),
            ("a.vtt", "text/plain", "vtt", ""),
            ("a.vtt?x=1", "text/html", "vtt", ""),
            ("a.vtt", None, "vtt", ""),
            ("t/1", "text/webvtt", "vtt", ""),
            ("t/1", "application/vtt", "vtt", ""),
            ("t/1", "TEXT/VTT; charset=utf-8", "vtt", "music-assistant/server#5895"),
            ("t/1", "application/ttml+xml", "ttml", ""),
            ("a.json", None, "json", ""),
            ("t/1", "text/plain", "txt", ""),
        ]
    },
}


def changed(body: bytes, old: str, new: str) -> bytes:
    assert old.encode() in body
    return body.replace(old.encode(), new.encode())


WHOLE = rss(MP3 + VTT)
BLOCK = "<itunes:block> Yes </itunes:block>"
SHAPES = {
    "RSS 0.91 with its doctype": Kind(
        body=changed(
            WHOLE,
            "<rss ",
            '<!DOCTYPE rss PUBLIC "-//Netscape Communications//DTD RSS 0.91//EN" "http://x.example/rss.dtd"><rss ',
        ),
        rows=["a.mp3"],
    ),
    "the same with an entity": Kind(
        body=changed(
            changed(WHOLE, "<title>T", "<title>T&nbsp;"), "<rss ", '<!DOCTYPE rss PUBLIC "x" "http://x/"><rss '
        ),
        rows=["a.mp3"],
    ),
    "doctype of HTML": Kind(body=changed(WHOLE, "<rss ", "<!DOCTYPE html><rss "), rows=["a.mp3"]),
    "RSS 1.0": Kind(
        body=b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/" '
        b'xmlns:enc="http://purl.oclc.org/net/rss_2.0/enc#"><channel rdf:about="x"/><item rdf:about="y"><enc:enclosure '
        b'rdf:resource="a.mp3" enc:type="audio/mpeg" enc:length="5"/></item></rdf:RDF>',
        rows=["a.mp3"],
    ),
    "Atom": Kind(
        body=b'<feed xmlns="http://www.w3.org/2005/Atom"><entry><link rel="enclosure" type="image/png" href="a.png"/>'
        b'<link rel="enclosure" type="audio/mpeg" href="a.mp3"/></entry></feed>',
        rows=["a.mp3"],
    ),
    "Atom, content elsewhere": Kind(
        body=b'<feed><entry><content type="audio/mpeg" src="a.mp3"/></entry></feed>',
        rows=["a.mp3"],
    ),
    "names in capitals": Kind(
        body=b'<RSS><Channel><Item><Enclosure URL="a.mp3" Type="audio/mpeg"/></Item></Channel></RSS>', rows=["a.mp3"]
    ),
    "gzip": Kind(body=gzip.compress(WHOLE), rows=["a.mp3"]),
    "UTF-16": Kind(
        body=WHOLE.decode().replace("UTF-8", "UTF-16").encode("utf-16"), rows=["a.mp3"], transcripts=["vtt a.vtt"]
    ),
    "windows-1252 called UTF-8": Kind(body=WHOLE.replace(b"<title>T", b"<title>\x93caf\xe9\x94"), rows=["a.mp3"]),
    "UTF-8 called Latin-1": Kind(
        body=changed(changed(WHOLE, "UTF-8", "ISO-8859-1"), "a.mp3", "é.mp3"), rows=["%C3%A9.mp3"]
    ),
    "junk before": Kind(body=b"\n\n " + WHOLE, rows=["a.mp3"]),
    "a warning of PHP before": Kind(body=b"<br />\n<b>Warning</b>: x on line <b>1</b><br />\n" + WHOLE, rows=["a.mp3"]),
    "bare &": Kind(body=changed(WHOLE, "<title>T", "<title>T & U"), rows=["a.mp3"], transcripts=["vtt a.vtt"]),
    "a tag left open": Kind(body=changed(WHOLE, "<title>T", "<title>T <b>"), rows=["a.mp3"], transcripts=["vtt a.vtt"]),
    "a bare <": Kind(body=changed(WHOLE, "<title>T", "<title>a < b"), rows=["a.mp3"], transcripts=["vtt a.vtt"]),
    "an item left open": Kind(
        body=changed(changed(WHOLE, "</item>", f"<item>{enclosure('b.mp3')}</item>"), "<title>T", "<title>T <b>"),
        rows=["a.mp3", "b.mp3"],
    ),
    "no quotes": Kind(body=changed(WHOLE, 'url="a.mp3"', "url=a.mp3"), rows=["a.mp3"], transcripts=["vtt a.vtt"]),
    "an attribute twice": Kind(body=changed(WHOLE, 'url="a.mp3"', 'url="a.mp3" url="b.mp3"'), rows=["b.mp3"]),
    "cut end": Kind(body=WHOLE[: WHOLE.rindex(b"</item>")], rows=["a.mp3"], transcripts=["vtt a.vtt"]),
    "cut within an item": Kind(
        body=WHOLE.replace(b"</item>", b"</item><item><enclosure url='b.m")[: WHOLE.rindex(b"</item>") + 30],
        rows=["a.mp3"],
    ),
    "blocked": Kind(body=rss(MP3, BLOCK), rows=["podcast_block"]),
    "blocked, in an item": Kind(body=rss(MP3 + "<podcast:block>yes</podcast:block>"), rows=["podcast_block"]),
    "blocked, bare &": Kind(body=rss(MP3, f"<title>a & b</title>{BLOCK}"), rows=["podcast_block"]),
    "blocked, a tag left open": Kind(body=rss(MP3, f"<title>a <b></title>{BLOCK}"), rows=["podcast_block"]),
    "blocked for us, a tag left open": Kind(
        body=rss(MP3, '<title>a <b></title><podcast:block id="triptych">yes</podcast:block>'), rows=["podcast_block"]
    ),
    "blocked for another, a tag left open": Kind(
        body=rss(MP3, '<title>a <b></title><podcast:block id="google">yes</podcast:block>'), rows=["a.mp3"]
    ),
    "a block in words": Kind(body=rss(MP3, "<description>&lt;itunes:block>yes</description>"), rows=["a.mp3"]),
    "an HTML page": Kind(body=b"<!doctype html><html><p>hello", rows=["feed_unreadable"]),
    "JSON": Kind(body=b'{"version": "https://jsonfeed.org/version/1.1", "items": []}', rows=["feed_unreadable"]),
    "nothing": Kind(body=b"", rows=["feed_unreadable"]),
    "an entity": Kind(body=changed(WHOLE, "<rss ", '<!DOCTYPE rss [<!ENTITY a "b">]><rss '), rows=["feed_unsafe"]),
}
KINDS = FILES | TRANSCRIPTS | SHAPES


def outcome(kind: Kind) -> tuple[list[str], list[str] | None]:
    """What comes of a feed: URLs or reasons, and the transcripts of its first row."""
    try:
        rows = read_feed(kind.body, URL)
    except Leave as leave:
        return [leave.reason], None
    more = (rows[0].get("more_transcripts") or "").split("\n")
    best = f"{rows[0]['transcript_type']} {rows[0]['transcript_url']}"
    return [row["reason"] or row["url"] for row in rows], [best, *filter(None, more)]


def is_right(kind: Kind) -> bool:
    """True if what comes of a feed is what should."""
    rows, transcripts = outcome(kind)
    ends = [want if want.startswith("http") or "_" in want else f"http://pod.example/show/{want}" for want in kind.rows]
    wanted = [want.replace(" ", " http://pod.example/show/", 1) for want in kind.transcripts or []]
    return rows == ends and (kind.transcripts is None or transcripts == wanted)


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_feed(name):
    kind = KINDS[name]
    assert is_right(kind), (kind.rows, kind.transcripts, outcome(kind))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "empty"),
        (b"{}", "JSON"),
        (b'{"version": "https://jsonfeed.org/version/1.1", "items": []}', "JSON Feed"),
        (b"<html><head><link rel=alternate type=application/rss+xml href=/rss></head>", "feed http://pod.example/rss"),
        (b"\x89PNG\r\n\x1a\n" + bytes(9), "PNG"),
        (b"#EXTM3U\n#EXT-X-VERSION:3\n", "HLS playlist"),
        (b"<opml></opml>", "<opml> is no feed"),
    ],
)
def test_what_is_no_feed_is_named(body, told):
    with pytest.raises(Leave, match="feed_unreadable") as leave:
        read_feed(body, URL)
    assert told in leave.value.detail


@pytest.mark.parametrize(
    "body",
    [
        b"<rss>" + b"<a>" * 400_000,
        b"<rss>" + b"<a x='" * 200_000,
        b"<rss>" + b"<![CDATA[" * 200_000,
        b"<rss>" + b"<!--" * 300_000,
        b"<rss>" + b"a<b/>" * 200_000 + b"<",
        b"<rss " + b"".join(b"x%d:a='' " % n for n in range(60_000)) + b"><b>",
        b"<rss>" + b"&" * 1_000_000 + b"<b>",
        b"<rss><item><enclosure " + b"url='a' " * 100_000,
    ],
    ids=range(8),
)
def test_hostile_feeds_cost_little(body):
    with pytest.raises(Leave):
        read_feed(body, URL)
