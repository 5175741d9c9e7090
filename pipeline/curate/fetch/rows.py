"""Rows of what sources found: files to fetch, and listings that gave none."""

from pipeline.curate.fetch.address import as_written, canonical, shown
from pipeline.curate.stage import Leave, Row, left
from pipeline.log import clean
from pipeline.records import INPUT, key_of
from pipeline.redact import redacted_text, redacted_url

DETAIL_CHARS = 500
"""The longest detail of a row."""


def input_row(url: str, *, base: str | None, source: str, text: str | None = None, **columns: object) -> Row:
    """One file that the listing at `base` names, as an `INPUT` row; a URL that is none is a row that left. A listing
    that is not of the web has no `base`.

    An image's key comes from URL and caption, since one picture may be described twice; an episode's (`text` None)
    from its URL alone. `columns` are further ones of `INPUT`. URLs of files and transcripts are whole: they are to be
    fetched; page and licence, which are not, lose their secrets here.
    """
    row: Row = dict.fromkeys(INPUT.names) | {"page_url": base, "source": source, "text": text} | columns
    row = {name: _whole(value) if isinstance(value, str) else value for name, value in row.items()}
    url, text = _whole(url), row["text"]
    row["page_url"] = row["page_url"] and redacted_url(row["page_url"])
    row["license"] = row["license"] and redacted_text(row["license"])
    try:
        name = canonical(url, base)
        row["url"] = as_written(url, base)
    except Leave as leave:
        name = url  # whole, lest two that differ in what is not shown become one
        row = left(row, leave) | {"url": shown(url)}
    if row["transcript_url"]:
        try:
            row["transcript_url"] = as_written(row["transcript_url"], base)
        except Leave:
            pass  # it fails under its own name when it is fetched
    row["key"] = key_of(name) if text is None else key_of(name, text)
    return row


def _whole(text: str) -> str:
    """Text without halves of surrogate pairs: no file holds them, and one would cost its whole listing."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def declared_bytes(text: str | None) -> int | None:
    """A size that a publisher declared; None for what is no size. It orders and groups work, and is trusted no
    further."""
    digits = (text or "").strip()
    is_size = digits.isascii() and digits.isdigit() and len(digits) <= 15 and int(digits) > 0
    return int(digits) if is_size else None


def listing_row(url: str, leave: Leave) -> Row:
    """A listing that gave no rows, as one `INPUT` row that left; its URL is not fetched again, and is kept without
    secrets."""
    row = dict.fromkeys(INPUT.names) | {"key": key_of(url), "url": redacted_url(url), "source": shown(url)}
    return left(row, without_secrets(leave))


def without_secrets(leave: Leave) -> Leave:
    """The same way to leave, its detail fit to be kept: what the web put into it is redacted, printable and short."""
    return Leave(
        leave.state, leave.reason, retryable=leave.retryable, detail=clean(redacted_text(leave.detail), DETAIL_CHARS)
    )
