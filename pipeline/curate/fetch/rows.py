"""Rows of what sources found: files to fetch, and listings that gave none."""
from typing import Any

from pipeline.curate.fetch.address import canonical, shown
from pipeline.curate.stage import Leave, Row, left
from pipeline.records import INPUT, key_of


def input_row(url: str, *, base: str, source: str, text: str | None = None, **facts: Any) -> Row:
    """One file that the listing at `base` names, as an `INPUT` row; a URL that is none is a row that left.

    An image's key comes from URL and caption, since one picture may be described twice; an episode's (`text` None)
    from its URL alone. `facts` are further columns of `INPUT`.
    """
    row: Row = dict.fromkeys(INPUT.names) | {"page_url": base, "source": source, "text": text} | facts
    try:
        name = row["url"] = canonical(url, base)
    except Leave as leave:
        name = url  # whole, lest two that differ in what is not shown become one
        row = left(row, leave) | {"url": shown(url)}
    if row["transcript_url"]:
        try:
            row["transcript_url"] = canonical(row["transcript_url"], base)
        except Leave:
            pass  # it fails under its own name when it is fetched
    row["key"] = key_of(name) if text is None else key_of(name, text)
    return row


def declared_bytes(text: str | None) -> int | None:
    """A size that a publisher declared; None for what is no size. It orders and groups work, and is trusted no further."""
    found = (text or "").strip()
    return int(found) if found.isascii() and found.isdigit() and len(found) <= 15 and int(found) > 0 else None


def listing_row(url: str, leave: Leave) -> Row:
    """A listing that gave no rows, as one `INPUT` row that left."""
    return left(dict.fromkeys(INPUT.names) | {"key": key_of(url), "url": url, "source": shown(url)}, leave)
