"""Podcast feeds: RSS and Atom enclosures with the timed transcripts that publishers offer beside them.

XML is read by defusedxml, which refuses entity bombs and external entities, and whose tree keeps every
`podcast:transcript` of an item; what is not well-formed is mended first (`mend`), and so held to the same tests. What
cannot be mended goes to feedparser, which forgives; it keeps only the last transcript of an item, and a block in such a
feed whose item cannot be told is for all of it. Namespace: https://podcastindex.org/namespace/1.0.
"""

import io
from collections.abc import Iterator
from xml.etree.ElementTree import Element, ParseError

import feedparser
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from pipeline.curate.fetch.address import shown
from pipeline.curate.fetch.blocks import Block, blocks_of, is_blocked
from pipeline.curate.fetch.mend import mended, text_of
from pipeline.curate.fetch.rows import declared_bytes, input_row
from pipeline.curate.stage import Leave, Row, left
from pipeline.log import clean
from pipeline.redact import redacted_text

# Types of transcript that carry times, best first: WebVTT also keeps what betrays a machine (settings, word times).
TYPES = {
    "text/vtt": "vtt",
    "application/x-subrip": "srt",
    "application/srt": "srt",
    "text/srt": "srt",
    "application/json": "json",
}
_ORDER = ("vtt", "srt", "json")


def read_feed(body: bytes, url: str) -> list[Row]:
    """`INPUT` rows of all episodes of the feed found at `url`, in its order.

    Raises Leave: failed `feed_unsafe` (entities), `feed_unreadable` (no feed at all), `listing_empty` (no enclosure).
    A publisher's block (`podcast:block`, `itunes:block`) turns its episodes into rows dropped as `podcast_block`.
    """
    try:
        rows = list(_episodes(_root(body), url))
    except DefusedXmlException as error:
        raise Leave("failed", "feed_unsafe", detail=f"{shown(url)}: {type(error).__name__}") from error
    except (ParseError, ValueError, LookupError):
        rows = list(_forgiven(body, url))
    if not rows:
        raise Leave("failed", "listing_empty", detail=f"{shown(url)} has no episode with a file")
    return rows


def _root(body: bytes) -> Element:
    try:
        return fromstring(body)
    except (ParseError, UnicodeError, LookupError):
        return fromstring(mended(body))


def _episodes(root: Element, url: str) -> Iterator[Row]:
    if _name(root) not in ("rss", "feed", "RDF"):
        raise Leave(
            "failed", "feed_unreadable", detail=f"{shown(url)} is XML, but <{clean(_name(root), 50)}> is no feed"
        )
    channel = next((node for node in root if _name(node) == "channel"), root)
    language = _text(channel, "language") or root.get("{http://www.w3.org/XML/1998/namespace}lang")
    is_all_blocked = is_blocked(_blocks(root)) or is_blocked(_blocks(channel))
    license, rights = _license(channel), _rights(channel)
    for item in (node for node in root.iter() if _name(node) in ("item", "entry")):
        media = _enclosure(item)
        if media is None:
            continue
        transcripts = [
            (node.get("url", ""), node.get("type", ""), node.get("language") or "")
            for node in item
            if _name(node) == "transcript"
        ]
        yield _row(
            *media,
            url,
            language=_text(item, "language") or language,
            transcripts=transcripts,
            license=_license(item) or license or _rights(item) or rights,
            page_url=_link(item),
            blocked=is_all_blocked or is_blocked(_blocks(item)),
        )


def _forgiven(body: bytes, url: str) -> Iterator[Row]:
    feed = feedparser.parse(io.BytesIO(body), sanitize_html=False, resolve_relative_uris=False)
    if not feed.get("version"):
        problem = redacted_text(str(feed.get("bozo_exception", "no feed")))
        raise Leave("failed", "feed_unreadable", detail=clean(f"{shown(url)}: {problem}"))
    channel = feed.feed
    # feedparser keeps neither whom a block is for nor where it stood.
    of_all, of_items = blocks_of(text_of(body))
    is_told = len(of_items) == len(feed.entries)  # which item a block is of; else it is for all of the feed
    is_all_blocked = is_blocked(of_all) or (not is_told and any(map(is_blocked, of_items)))
    for place, entry in enumerate(feed.entries):
        enclosures = [link for link in entry.get("enclosures", []) if link.get("href")]
        if not enclosures:
            continue
        last = entry.get("podcast_transcript")
        has_transcript = isinstance(last, dict)
        yield _row(
            enclosures[0]["href"],
            enclosures[0].get("length"),
            url,
            language=entry.get("language") or channel.get("language"),
            transcripts=[tuple(last.get(name, "") for name in ("url", "type", "language"))] if has_transcript else [],
            license=next(
                filter(None, (read(of) for read in (_forgiven_license, _forgiven_rights) for of in (entry, channel))),
                None,
            ),
            page_url=entry.get("link"),
            blocked=is_all_blocked or (is_told and is_blocked(of_items[place])),
        )


def _row(
    media: str,
    length: str | None,
    feed_url: str,
    *,
    language: str | None,
    transcripts: list[tuple[str, str, str]],
    license: str | None,
    page_url: str | None,
    blocked: bool,
) -> Row:
    transcript_url, transcript_type = choose_transcript(transcripts, language)
    row = input_row(
        media,
        base=feed_url,
        source=shown(feed_url),
        language=language,
        license=license,
        transcript_url=transcript_url,
        transcript_type=transcript_type,
        transcript_kind="unknown",
        expected_bytes=declared_bytes(length),
        page_url=page_url or shown(feed_url),
    )
    if blocked and row["state"] is None:
        row = left(row, Leave("dropped", "podcast_block", detail=shown(feed_url)))
    return row


def choose_transcript(transcripts: list[tuple[str, str, str]], language: str | None) -> tuple[str | None, str | None]:
    """The best of an item's transcripts (url, media type, language) as (url, vtt | srt | json), or (None, None).

    One in the episode's own language before one in another, then WebVTT, SRT, JSON; untimed ones are passed over.
    """
    own = (language or "").partition("-")[0].lower()
    ranked = []
    for position, (url, kind, spoken) in enumerate(transcripts):
        short = TYPES.get(kind.partition(";")[0].strip().lower())
        if short is None:
            ending = url.partition("?")[0].rpartition(".")[2].lower()
            short = ending if not kind and ending in _ORDER else None
        if url and short:
            foreign = bool(own and spoken) and spoken.partition("-")[0].lower() != own
            ranked.append((foreign, _ORDER.index(short), position, url, short))
    return (min(ranked)[3], min(ranked)[4]) if ranked else (None, None)


def _blocks(node: Element) -> list[Block]:
    return [Block(id=child.get("id"), value=child.text or "") for child in node if _name(child) == "block"]


def _license(node: Element) -> str | None:
    """A licence by name or address, in whatever vocabulary."""
    for child in node:
        is_link = _name(child) == "link" and child.get("rel", "").lower() == "license"
        if is_link or _name(child) == "license":
            addresses = (value for key, value in child.items() if key.rpartition("}")[2] in ("url", "href", "resource"))
            found = "" if is_link else (child.text or "").strip()
            if found := found or next(addresses, "").strip():
                return found
    return None


def _rights(node: Element) -> str | None:
    """What is said of copyright, where no licence is named."""
    return _text(node, "copyright") or _text(node, "rights")


def _forgiven_rights(entry: feedparser.FeedParserDict) -> str | None:
    return _plain(entry.get("rights"))


def _forgiven_license(entry: feedparser.FeedParserDict) -> str | None:
    links = (link.get("href") for link in entry.get("links", []) if link.get("rel") == "license")
    return _plain(entry.get("podcast_license")) or _plain(next(links, None))


def _enclosure(item: Element) -> tuple[str, str | None] | None:
    """URL and declared length of the item's file."""
    for node in item:
        if _name(node) == "enclosure" and node.get("url"):
            return node.attrib["url"], node.get("length")
        if _name(node) == "link" and node.get("rel") == "enclosure" and node.get("href"):
            return node.attrib["href"], node.get("length")
    return None


def _link(item: Element) -> str | None:
    for node in item:
        if _name(node) == "link" and node.get("rel", "alternate") == "alternate":
            return (node.get("href") or node.text or "").strip() or None
    return None


def _name(node: Element) -> str:
    return node.tag.rpartition("}")[2] if isinstance(node.tag, str) else ""


def _text(node: Element, name: str) -> str | None:
    texts = (child.text.strip() for child in node if _name(child) == name and child.text)
    return next(filter(None, texts), None)


def _plain(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None
