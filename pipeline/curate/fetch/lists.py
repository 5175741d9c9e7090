"""URL lists: Parquet, JSON, tables or plain URLs, packed or not; one file to fetch per record.

Guarantees: every record of a list is a row, or several where it has several captions. One that cannot be read is a
failed row of its own, which names it by its line and says what was found there; what stands in it, a password perhaps,
is not repeated. Where an archive ends too early, its end is a failed row too. Cost: the list is held in memory.
"""

import re
from collections.abc import Iterator, Mapping

from pipeline.curate.fetch import delimited, json_records, parquet_records
from pipeline.curate.fetch.address import shown
from pipeline.curate.fetch.charset import BROKEN, decode
from pipeline.curate.fetch.columns import DEFAULT, INSTEAD, ListConfig, captions, extra, is_missing, word
from pipeline.curate.fetch.record import Record, sample
from pipeline.curate.fetch.rows import declared_bytes, input_row, listing_row
from pipeline.curate.fetch.unpack import TooLargeError, unpack
from pipeline.curate.stage import Leave, Row, left
from pipeline.log import clean
from pipeline.media.sniff import what
from pipeline.records import key_of

_TEXTS = ("license", "language", "transcript_url", "transcript_type", "transcript_kind")
_SEVERAL = re.compile(r"\s(?:https?:)?//")
_PARQUET = b"PAR1"


def read_list(
    body: bytes, url: str, config: ListConfig = DEFAULT, *, charset: str | None = None, is_web: bool = True
) -> list[Row]:
    """`INPUT` rows from a list that was found at `url`, whose header declares `charset`.

    Relative URLs are resolved against a `url` of the web; a list on a disk has nothing to resolve them against.
    Further captions of a record are rows dropped as `caption_list`. Raises Leave: failed `list_unreadable` (no list, or
    none with a column of URLs), `too_large`, `listing_empty`.
    """
    try:
        unpacked = unpack(body, config.max_bytes)
    except TooLargeError as error:
        raise Leave("failed", "too_large", detail=f"{shown(url)} is a {error}") from error
    if unpacked.problem and not unpacked.body:
        raise Leave("failed", "list_unreadable", detail=f"{shown(url)} is a {unpacked.problem}")
    base = url if is_web else None
    rows = [row for record in _records(unpacked.body, url, config, charset) for row in _rows(record, url, base, config)]
    if unpacked.problem:
        cut = Leave("failed", "listing_cut", detail=f"{shown(url)} is a {unpacked.problem}: its end is missing")
        rows.append(listing_row(url, cut) | {"key": key_of(url, "cut")})
    if not rows:
        raise Leave("failed", "listing_empty", detail=f"{shown(url)} names no file")
    return rows


def _records(body: bytes, url: str, config: ListConfig, charset: str | None) -> Iterator[Record]:
    try:
        if body.startswith(_PARQUET):
            return parquet_records.records(body, config)
        text = decode(body, charset, broken=BROKEN)
        lines = sample(text)
        # By most lines, not by the first: that may be the damaged one.
        json_share = json_records.share(lines)
        table = None if json_share > 0.5 else delimited.table_of(lines, config)
        if table is not None:
            return delimited.records(text, table)
        if json_share >= delimited.SHARE:
            return json_records.records(text, lines, config)
    except (KeyError, ValueError) as error:
        problem = f"has no column {error}" if isinstance(error, KeyError) else f"is {error}"
        raise Leave("failed", "list_unreadable", detail=f"{shown(url)} {problem}") from error
    columns = 1 + max(map(lines[0].count, delimited.DELIMITERS)) if lines else 0
    looks = f"looks like {kind}" if (kind := what(body)) != "empty" else "is empty"
    problem = f"is neither JSON nor a table with a column of URLs nor URLs; its first line has {columns} columns"
    raise Leave("failed", "list_unreadable", detail=f"{shown(url)} {looks}: it {problem}")


def _rows(record: Record, source: str, base: str | None, config: ListConfig) -> Iterator[Row]:
    try:
        if record.entry is None or record.problem:
            raise ValueError(record.problem)
        yield from _inputs(record.entry, source, base, config)
    except (ValueError, TypeError, RecursionError) as error:
        problem = "nested too deep" if isinstance(error, RecursionError) else str(error)
        leave = Leave("failed", "list_line_unreadable", detail=f"{record.place}: {problem}")
        identity = record.text.encode("utf-8", "backslashreplace").decode()
        yield listing_row(source, leave) | {"key": key_of(source, identity)}


def _captions(entry: Mapping[str, object], column: str) -> list[str]:
    names = [column, *INSTEAD] if column in INSTEAD else [column]
    return next((texts for name in names if (texts := captions(entry.get(name)))), [])


def _inputs(entry: Mapping[str, object], source: str, base: str | None, config: ListConfig) -> Iterator[Row]:
    try:
        columns = config.fields(entry)
    except KeyError as error:
        raise ValueError(f"no column {clean(str(error))}") from error
    url = entry.get(columns.get("url", ""))
    if not isinstance(url, str) or word(url) is None:
        raise ValueError("no url")
    if _SEVERAL.search(url.strip()):
        raise ValueError("several URLs in one field")
    found = {name: word(entry[column]) for name, column in columns.items() if name != "caption"}
    size_bytes = declared_bytes(found.get("size_bytes"))
    found["size_bytes"] = None if size_bytes is None else str(size_bytes)
    # A column that its field cannot take is carried: a list where a word is meant, a size in words.
    taken = [
        column for name, column in columns.items() if name == "caption" or found[name] or is_missing(entry[column])
    ]
    texts = _captions(entry, columns.get("caption", ""))
    for place, text in enumerate(texts or [None]):
        row = input_row(
            url,
            base=base,
            source=shown(source),
            text=text,
            expected_bytes=size_bytes,
            page_url=found.get("page_url") or (shown(base) if base else None),
            extra=extra(entry, taken),
            **{name: found.get(name) for name in _TEXTS},
        )
        again = Leave("dropped", "caption_list", detail="a further caption: the file is fetched once, with the first")
        yield left(row, again) if place and row["state"] is None else row
