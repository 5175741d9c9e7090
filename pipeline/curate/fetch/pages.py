"""Web pages as sources: pictures with a caption, read from plain HTML without running anything.

A caption is the `<figcaption>` of the `<figure>` around an image or, failing that, the image's `alt` text. Pictures
without either are decoration and give no row.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.curate.fetch import consent
from pipeline.curate.fetch.address import canonical, shown
from pipeline.curate.fetch.charset import declared, decode
from pipeline.curate.fetch.markup import tokens
from pipeline.curate.fetch.rows import input_row
from pipeline.curate.stage import Leave, Row

_CHARSET = re.compile(rb"""<meta[^>]+charset=["']?([\w-]+)""", re.IGNORECASE)


@dataclass
class Page:
    """What a page says of itself, and its pictures as (src, caption) in order."""

    base: str | None = None
    language: str | None = None
    license: str | None = None
    metas: list[tuple[str, str]] = field(default_factory=list)
    pictures: list[tuple[str, str]] = field(default_factory=list)


def read_page(body: bytes, url: str, headers: Mapping[str, str]) -> list[Row]:
    """`INPUT` rows of the captioned pictures on a page that was found at `url`.

    Raises Leave: dropped with a reason of `consent` if the page's meta tags opt out, failed `listing_empty`.
    """
    page = parse_page(body, headers)
    refuse_opt_out(page, url)
    base = _base(page, url)
    rows: dict[str, Row] = {}
    for src, caption in page.pictures:
        if not src.startswith("data:"):
            row = input_row(
                src,
                base=base,
                source=shown(url),
                text=caption,
                language=page.language,
                license=page.license,
                page_url=url,
            )
            rows.setdefault(row["key"], row)
    if not rows:
        raise Leave("failed", "listing_empty", detail=f"{shown(url)} has no picture with a caption")
    return list(rows.values())


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
    reader = _Reader()
    for token in tokens(decode(body, charset)):
        if isinstance(token, str):
            reader.text(token)
        elif token.is_end:
            reader.end(token.name)
        else:
            reader.start(token.name, token.values)
    return reader.finish()


class _Reader:
    def __init__(self) -> None:
        self._page = Page()
        self._figures: list[list[tuple[str, str]]] = []  # pictures of each open figure, innermost last
        self._caption: list[str] | None = None  # text of the open figcaption

    def start(self, tag: str, values: dict[str, str]) -> None:
        page = self._page
        if tag == "html":
            page.language = values.get("lang", "").strip() or page.language
        elif tag == "base":
            page.base = page.base or values.get("href", "").strip() or None
        elif tag == "meta":
            page.metas.append((values.get("name", ""), values.get("content", "")))
        elif tag in ("a", "link") and "license" in values.get("rel", "").lower().split():
            page.license = page.license or values.get("href") or None
        elif tag == "figure":
            self._figures.append([])
        elif tag == "figcaption":
            self._caption = []
        elif tag == "img" and values.get("src", "").strip():
            where = self._figures[-1] if self._figures else page.pictures
            where.append((values["src"].strip(), " ".join(values.get("alt", "").split())))

    def text(self, data: str) -> None:
        if self._caption is not None:
            self._caption.append(data)

    def end(self, tag: str) -> None:
        if tag == "figcaption" and self._caption is not None:
            caption = " ".join("".join(self._caption).split())
            self._caption = None
            if caption and self._figures:
                self._figures[-1] = [(src, caption) for src, _ in self._figures[-1]] or [("", caption)]
        elif tag == "figure":
            self._close_figure()

    def _close_figure(self) -> None:
        if self._figures:
            pictures = self._figures.pop()
            above = next((caption for src, caption in pictures if not src), None)  # a figcaption before its picture
            self._page.pictures += [(src, above or alt) for src, alt in pictures if src]

    def finish(self) -> Page:
        """What was read; figures left open end with the page."""
        while self._figures:
            self._close_figure()
        self._page.pictures = [(src, caption) for src, caption in self._page.pictures if caption]
        return self._page
