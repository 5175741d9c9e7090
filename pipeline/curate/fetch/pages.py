"""Web pages as sources: pictures with a caption, read from plain HTML without running anything.

A caption is the `<figcaption>` of the `<figure>` around an image or, failing that, the image's `alt` text. Pictures
without either are decoration and give no row.
"""
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser

from pipeline.curate.fetch import consent
from pipeline.curate.fetch.address import canonical, shown
from pipeline.curate.fetch.rows import input_row
from pipeline.curate.stage import Leave, Row

_CHARSET = re.compile(rb"""<meta[^>]+charset=["']?([\w-]+)""", re.IGNORECASE)
_HIDDEN = {"script", "style", "template"}  # not noscript: lazy pages keep their real images there


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
    base = canonical(page.base, url) if page.base else url
    rows = {}
    for src, caption in page.pictures:
        if not src.startswith("data:"):
            row = input_row(src, base=base, source=shown(url), text=caption, language=page.language,
                            license=page.license) | {"page_url": url}
            rows.setdefault(row["key"], row)
    if not rows:
        raise Leave("failed", "listing_empty", detail=f"{shown(url)} has no picture with a caption")
    return list(rows.values())


def refuse_opt_out(page: Page, url: str) -> None:
    """Leave as dropped if the page's meta tags keep machines away."""
    reason = consent.meta_reason(page.metas)
    if reason is not None:
        raise Leave("dropped", reason, detail=f"{shown(url)} by meta tag")


def parse_page(body: bytes, headers: Mapping[str, str]) -> Page:
    """Read a page; broken HTML is read as far as it goes, undecodable bytes become replacement characters."""
    declared = re.search(r"charset=[\"']?([\w-]+)", headers.get("Content-Type", ""), re.IGNORECASE)
    found = _CHARSET.search(body[:2048])
    charset = declared.group(1) if declared else found.group(1).decode() if found else "utf-8"
    try:
        text = body.decode(charset, "replace")
    except LookupError:
        text = body.decode("utf-8", "replace")
    parser = _Parser()
    parser.feed(text)
    parser.close()
    return parser.finish()


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._page = Page()
        self._figures: list[list[tuple[str, str]]] = []  # pictures of each open figure, innermost last
        self._caption: list[str] | None = None  # text of the open figcaption
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        page = self._page
        if tag in _HIDDEN:
            self._hidden += 1
        elif self._hidden:
            return
        elif tag == "html":
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

    def handle_data(self, data: str) -> None:
        if self._caption is not None and not self._hidden:
            self._caption.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag == "figcaption" and self._caption is not None:
            caption = " ".join("".join(self._caption).split())
            self._caption = None
            if caption and self._figures:
                self._figures[-1] = [(src, caption) for src, _ in self._figures[-1]] or [("", caption)]
        elif tag == "figure":
            self._close_figure()

    def _close_figure(self) -> None:
        if self._figures:
            pictures = self._figures.pop()
            captions = {caption for src, caption in pictures if not src}  # a figcaption above its picture
            above = captions.pop() if captions else None
            self._page.pictures += [(src, above or alt) for src, alt in pictures if src]

    def finish(self) -> Page:
        while self._figures:
            self._close_figure()
        self._page.pictures = [(src, caption) for src, caption in self._page.pictures if caption]
        return self._page
