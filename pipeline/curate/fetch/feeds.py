"""Podcast feeds: the sound of RSS and Atom items with the transcripts that publishers offer beside it.

XML is read by defusedxml, which refuses entity bombs and external entities; what is not well-formed is mended first
(`mend`); what cannot be mended is read as a `torn` tree, and a block in it whose item cannot be told is for all of the
feed. Every path ends in the same tree, and so in the same tests of consent. Namespace:
https://podcastindex.org/namespace/1.0.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urljoin
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from pipeline.curate.fetch import markup, tracks
from pipeline.curate.fetch.address import canonical, shown
from pipeline.curate.fetch.blocks import Block, blocks_of, is_blocked
from pipeline.curate.fetch.enclosures import File, attribute, base_of, choose, name_of
from pipeline.curate.fetch.mend import mended, undeclared
from pipeline.curate.fetch.rows import declared_bytes, input_row
from pipeline.curate.fetch.torn import ROOTS, tree
from pipeline.curate.fetch.unpack import TooLargeError, unpack
from pipeline.curate.stage import Leave, Row, left
from pipeline.log import clean
from pipeline.media.sniff import what

MAX_BYTES = 32 * 2**20
"""The largest feed, as it comes and as it unpacks: its tree is held in memory."""
_HTML_BYTES = 1 << 18  # of a page that stands where a feed should, searched for the feed that it names


@dataclass(frozen=True, kw_only=True)
class FeedPage:
    """A page of a feed: its rows, where the next one is, and whether its publisher blocks all of the feed."""

    rows: list[Row]
    next_url: str | None
    is_blocked: bool


def read_feed(body: bytes, url: str) -> list[Row]:
    """`INPUT` rows of all episodes on a page of a feed, found at `url`, in its order.

    Raises Leave as `read_page` does, and failed `listing_empty` (no file).
    """
    rows = read_page(body, url).rows
    if not rows:
        raise empty(url)
    return rows


def empty(url: str) -> Leave:
    """The way to leave of a feed that names nothing."""
    return Leave("failed", "listing_empty", detail=f"{shown(url)} has no episode with a file")


def read_page(body: bytes, url: str) -> FeedPage:
    """A page of a feed. Raises Leave: failed `feed_unsafe` (entities), `feed_unreadable` (no feed; the detail says
    what it is), `too_large`.

    A publisher's block (`podcast:block`, `itunes:block`) turns its episodes into rows dropped as `podcast_block`; an
    item whose files are pictures, texts or playlists is dropped as `enclosure_not_audio`.
    """
    try:
        body = unpack(body, MAX_BYTES).body
        root, is_torn = _root(body)
    except DefusedXmlException as error:
        raise Leave("failed", "feed_unsafe", detail=f"{shown(url)} declares entities of its own") from error
    except TooLargeError as error:
        raise Leave("failed", "too_large", detail=f"{shown(url)} is a {error}") from error
    if name_of(root) not in ROOTS:
        raise Leave("failed", "feed_unreadable", detail=_no_feed(body, root, url, is_torn))
    channel = next((node for node in root if name_of(node) == "channel"), root)
    base = base_of(channel, base_of(root, url))
    items = [node for node in root.iter() if name_of(node) in ("item", "entry")]
    of_all, of_items = [*_blocks(channel), *_blocks(root)], [_blocks(item) for item in items]
    if is_torn:  # an element that was never closed holds what is not its own: the text says it better
        of_all, of_items = blocks_of(undeclared(body))
    is_told = len(of_items) == len(items)  # which item a block is of; else it is for all of the feed
    is_all_blocked = is_blocked(of_all) or (not is_told and any(map(is_blocked, of_items)))
    is_out = [is_all_blocked or (is_told and is_blocked(of_items[place])) for place in range(len(items))]
    rows = list(_episodes(root, channel, base, url, zip(items, is_out, strict=True)))
    return FeedPage(rows=rows, next_url=_next(channel, base) or _next(root, base), is_blocked=is_all_blocked)


def _root(body: bytes) -> tuple[Element, bool]:
    """The tree, and whether it is a torn one."""
    for read in (undeclared, mended):
        text = read(body)
        try:
            return fromstring(text), False
        except DefusedXmlException:
            raise
        except (ParseError, ValueError):
            continue
    return tree(text), True


def _no_feed(body: bytes, root: Element, url: str, is_torn: bool) -> str:
    kind = what(body)
    if kind == "JSON" and b"jsonfeed.org" in body[:4096]:
        kind = "JSON Feed, which has no transcripts"
    if kind == "HTML page":
        named = _alternate(body, url)
        return f"{shown(url)} is an HTML page" + (f"; it names the feed {shown(named)}" if named else "")
    if kind == "XML" and not is_torn:
        return f"{shown(url)} is XML, but <{clean(name_of(root), 50)}> is no feed"
    return f"{shown(url)} is {kind}"


def _alternate(body: bytes, url: str) -> str | None:
    """The feed that a page names (`rel=alternate`)."""
    for token in markup.tokens(undeclared(body[:_HTML_BYTES])):
        if (
            isinstance(token, markup.Tag)
            and token.name == "link"
            and "alternate" in token.values.get("rel", "").lower()
        ):
            if "rss" in (kind := token.values.get("type", "").lower()) or "atom" in kind:
                try:
                    return canonical(token.values.get("href", ""), url)
                except Leave:
                    continue
    return None


def _episodes(
    root: Element, channel: Element, base: str, url: str, items: Iterable[tuple[Element, bool]]
) -> Iterator[Row]:
    """A row of each of `items`, which come with whether they are blocked."""
    xml_language = root.get("{http://www.w3.org/XML/1998/namespace}lang") or root.get("xml:lang")
    language = _text(channel, "language") or xml_language
    license, rights = _license(channel), _rights(channel)
    for item, is_out in items:
        item_base = base_of(item, base)
        file = choose(item, item_base)
        if file is None:
            continue
        terms = _license(item) or license or _rights(item) or rights
        row = _row(file, item, item_base, url, _text(item, "language") or language, terms)
        if row["state"] is None and is_out:
            row = left(row, Leave("dropped", "podcast_block", detail=shown(url)))
        elif row["state"] is None and not file.is_episode:
            row = left(row, Leave("dropped", "enclosure_not_audio", detail=f"its file is {clean(file.type, 60)}"))
        yield row


def _row(file: File, item: Element, base: str, url: str, language: str | None, license: str | None) -> Row:
    offers = [
        (attribute(node, "url", "href", "src"), attribute(node, "type"), attribute(node, "language"))
        for node in item
        if name_of(node) == "transcript"
    ]
    ranked = tracks.ranked(offers, language)
    best = ranked[0] if ranked else None
    return input_row(
        file.url if file.base == base else urljoin(file.base, file.url),
        base=base,
        source=shown(url),
        language=language,
        license=license,
        transcript_url=best.url if best else None,
        transcript_type=best.type if best else None,
        transcript_kind="unknown",
        more_transcripts=tracks.column(ranked[1:], base),
        expected_bytes=declared_bytes(file.length),
        page_url=_link(item) or shown(url),
    )


def _next(node: Element, base: str) -> str | None:
    """Where a paged feed goes on (RFC 5005), or an archived one goes back."""
    links = {attribute(one, "rel").lower(): attribute(one, "href") for one in reversed(node) if name_of(one) == "link"}
    target = links.get("next") or links.get("prev-archive")
    try:
        return canonical(target, base) if target else None
    except Leave:
        return None


def _blocks(node: Element) -> list[Block]:
    return [Block(id=attribute(child, "id"), value=child.text or "") for child in node if name_of(child) == "block"]


def _license(node: Element) -> str | None:
    """A licence by name or address, in whatever vocabulary."""
    for child in node:
        is_link = name_of(child) == "link" and attribute(child, "rel").lower() == "license"
        if is_link or name_of(child) == "license":
            named = "" if is_link else (child.text or "").strip()
            if named := named or attribute(child, "url", "href", "resource"):
                return named
    return None


def _rights(node: Element) -> str | None:
    """What is said of copyright, where no licence is named."""
    return _text(node, "copyright") or _text(node, "rights")


def _link(item: Element) -> str | None:
    for node in item:
        if name_of(node) == "link" and (attribute(node, "rel") or "alternate") == "alternate":
            return attribute(node, "href") or (node.text or "").strip() or None
    return None


def _text(node: Element, name: str) -> str | None:
    texts = (child.text.strip() for child in node if name_of(child) == name and child.text)
    return next(filter(None, texts), None)
