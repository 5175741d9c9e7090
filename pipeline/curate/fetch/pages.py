"""Web pages as sources: pictures with a caption, read from plain HTML without running anything.

Each picture is one row, however many files are offered for it: the largest is fetched (`candidates`). Its caption is
the first of these that a person wrote: the `<figcaption>` of its figure, its `alt`, `aria-label`, what
`aria-labelledby` names, `title` where there is no `alt`, and what Open Graph, JSON-LD or microdata say of it. A picture
that is passed over is a row as well, dropped before anything is fetched: `picture_uncaptioned` (decoration),
`picture_placeholder`, `picture_inline` (a `data:` URI), `picture_svg`, `picture_hidden` (a pixel).
"""

import re
from collections.abc import Iterable, Iterator, Mapping

from pipeline.curate.fetch import consent
from pipeline.curate.fetch.address import canonical, shown
from pipeline.curate.fetch.charset import declared, decode
from pipeline.curate.fetch.columns import extra
from pipeline.curate.fetch.html_reader import Page, Reader
from pipeline.curate.fetch.pictures import Picture, terms
from pipeline.curate.fetch.rows import input_row, listing_row
from pipeline.curate.stage import Leave, Row, left
from pipeline.records import key_of

_CHARSET = re.compile(rb"""<meta[^>]+charset=["']?([\w-]+)""", re.IGNORECASE)
_LINK = re.compile(r'<([^>]*+)>((?:[^",]|"[^"]*+"?)*+)')
_REL = re.compile(r"""(?:^|;)\s*+rel\s*+=\s*+["']?([^"';]*)""", re.IGNORECASE)
_MAX_ROWS = 10_000
_MAX_ALIASES = 20_000
"""URLs of candidates that are compared with those of a page's metadata; resolving one takes 20 us."""


def read_page(body: bytes, url: str, headers: Mapping[str, str]) -> list[Row]:
    """`INPUT` rows of the pictures on a page that was found at `url`, those that are passed over included.

    A page of nothing but such rows was read all the same. One with more than 10,000 rows, or 20,000 images, ends in a
    row that failed as `listing_cut`. Raises Leave: dropped with a reason of `consent` if the page's meta tags opt out,
    failed `listing_empty` without any picture.
    """
    page = parse_page(body, headers)
    refuse_opt_out(page, url)
    base = _base(page, url)
    rows: dict[str, Row] = {}
    for picture in _told_apart(page, base):
        if len(rows) >= _MAX_ROWS:
            page.is_cut = True
            break
        row = _row(picture, page, url, base)
        rows.setdefault(row["key"], row)
    if page.is_cut:
        cut = Leave(
            "failed", "listing_cut", detail=f"{shown(url)} has more pictures than the {len(rows)} that are read"
        )
        return [*rows.values(), listing_row(url, cut) | {"key": key_of(url, "cut")}]
    if not rows:
        raise Leave("failed", "listing_empty", detail=f"{shown(url)} has no picture")
    return list(rows.values())


def _row(picture: Picture, page: Page, url: str, base: str) -> Row:
    best, reason = picture.best, picture.passed_over
    link = best.url
    if reason == "picture_inline":
        link = best.url.partition(",")[0][:80]  # what it is, without the data
    row = input_row(
        link,
        base=base,
        source=shown(url),
        text=None if reason else picture.caption,
        language=page.language,
        license=picture.license or page.license,
        page_url=url,
        extra=extra(picture.credit, ()),
    )
    if reason is None:
        return row
    name = row["url"] if reason != "picture_inline" else best.url.encode("utf-8", "replace").decode()
    detail = f"on {shown(url)}" if reason != "picture_inline" else f"{len(best.url)} characters within {shown(url)}"
    return left(row, Leave("dropped", reason, detail=detail)) | {"key": key_of(url, reason, name)}


def _told_apart(page: Page, base: str) -> Iterator[Picture]:
    """The pictures of a page; what its metadata says of one that it shows is added to that one."""
    known: dict[str, list[Picture]] = {}
    if page.mentioned:
        for picture in page.pictures:
            for name in _names(picture, base, _MAX_ALIASES - len(known)):
                known.setdefault(name, []).append(picture)
    others = []
    for mention in page.mentioned:
        names = _names(mention, base, 10)
        shown_as = next((known[name] for name in names if name in known), None)
        if shown_as is None:
            others.append(mention)
            known |= dict.fromkeys(names, [mention])
            continue
        for picture in shown_as[:10]:
            picture.take(mention)
    yield from page.pictures
    yield from others


def _names(picture: Picture, base: str, most: int) -> set[str]:
    """URLs that a picture is known by, in their one spelling."""
    names = set()
    for candidate in [picture.best, *picture.candidates[:32]][: max(most, 0)]:
        try:
            names.add(canonical(candidate.url, base) if candidate.url[:5].lower() != "data:" else "")
        except Leave:
            continue
    return names - {""}


def _base(page: Page, url: str) -> str:
    try:
        return canonical(page.base, url) if page.base else url
    except Leave:  # a <base> that is no URL; browsers ignore it as well
        return url


def refuse_opt_out(page: Page, url: str) -> None:
    """Leave as dropped if the page's meta tags keep machines away."""
    reason = consent.meta_reason(page.metas)
    if reason is not None:
        raise Leave("dropped", reason, detail=f"{shown(url)} by meta tag")


def parse_page(body: bytes, headers: Mapping[str, str]) -> Page:
    """Read a page; broken HTML is read as far as it goes, undecodable bytes become replacement characters."""
    in_page = _CHARSET.search(body[:2048])
    charset = declared(headers.get("Content-Type", "")) or (in_page.group(1).decode() if in_page else None)
    page = Reader().read(decode(body, charset))
    for target, rels in _links(value for name, value in headers.items() if name.lower() == "link"):
        if "license" in rels:
            page.license = terms(target) or page.license
        if "next" in rels:
            page.next_url = page.next_url or target
    return page


def _links(values: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Target and relations of each link of a `Link` header (RFC 8288)."""
    for value in values:
        for link in _LINK.finditer(value):
            if rel := _REL.search(link[2]):
                yield link[1].strip(), rel[1].lower().split()
