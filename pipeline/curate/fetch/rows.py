"""Rows of the tables that fetching reads and writes: what a source found, and the picture or episode it becomes."""
from typing import Any

from pipeline.curate.fetch.address import canonical, shown
from pipeline.curate.stage import Leave, Row, left
from pipeline.records import CLIP, IMAGE, INPUT, key_of


def input_row(url: str, *, base: str, source: str, text: str | None = None, **facts: Any) -> Row:
    """One file that the listing at `base` names, as an `INPUT` row; a URL that is none is a row that left.

    An image's key comes from URL and caption, since one picture may be described twice; an episode's (`text` None)
    from its URL alone. `facts` are further columns of `INPUT`.
    """
    row: Row = dict.fromkeys(INPUT.names) | {"page_url": base, "source": source, "text": text} | facts
    try:
        row["url"] = canonical(url, base)
    except Leave as leave:
        row = left(row, leave) | {"url": shown(url)}
    row["key"] = key_of(row["url"]) if text is None else key_of(row["url"], text)
    return row


def listing_row(url: str, leave: Leave) -> Row:
    """A listing that gave no rows, as one `INPUT` row that left."""
    return left(dict.fromkeys(INPUT.names) | {"key": key_of(url), "url": url, "source": shown(url)}, leave)


def image_row(row: Row) -> Row:
    """An `INPUT` row as an `IMAGE` row, whether it left or not."""
    return _started(row, IMAGE.names, "image") | {"caption": row["text"]}


def episode_row(row: Row) -> Row:
    """An `INPUT` row as a `CLIP` row of unit episode, whether it left or not."""
    return _started(row, CLIP.names, "episode") | {"text": None}


def _started(row: Row, names: list[str], unit: str) -> Row:
    return {name: row.get(name) for name in names} | {"input_key": row["key"], "unit": unit}
