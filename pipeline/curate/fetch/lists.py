"""URL lists: JSON lines, CSV or TSV with a header line; one file to fetch per line.

Columns: `url` (required), `caption` (or `text`), `license`, `language`, `page_url`, `transcript_url`,
`transcript_type`, `transcript_kind`, `size_bytes`; others are ignored. A line that cannot be read is a failed row of
its own, which names it by its number: what stands in it, a password perhaps, is not repeated.
"""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.curate.fetch.address import shown
from pipeline.curate.fetch.rows import declared_bytes, input_row, listing_row
from pipeline.curate.stage import Leave, Row
from pipeline.records import key_of

_FACTS = ("license", "language", "transcript_url", "transcript_type", "transcript_kind")


@dataclass(frozen=True, kw_only=True)
class _Line:
    """One line: what it says, or the `problem` that keeps it from being read."""

    number: int
    text: str
    entry: object = None
    problem: str = ""


def read_list(body: bytes, url: str) -> list[Row]:
    """`INPUT` rows from a list that was found at `url`; relative URLs are resolved against it.

    Raises Leave: failed `list_unreadable` (no UTF-8, or no `url` column), `listing_empty`.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Leave("failed", "list_unreadable", detail=f"{shown(url)} is not UTF-8: {error}") from error
    lines = _json_lines(text) if text.lstrip().startswith("{") else _table(text, url)
    rows = [_row(line, url) for line in lines]
    if not rows:
        raise Leave("failed", "listing_empty", detail=f"{shown(url)} names no file")
    return rows


def _json_lines(text: str) -> Iterator[_Line]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield _Line(number=number, text=line, entry=json.loads(line))
            except json.JSONDecodeError as error:
                yield _Line(number=number, text=line, problem=f"{error.msg} at column {error.colno}")
            except ValueError as error:  # a number beyond what Python reads
                yield _Line(number=number, text=line, problem=str(error))


def _table(text: str, url: str) -> Iterator[_Line]:
    header = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text), delimiter="\t" if "\t" in header else ",")
    names = [name.strip().lower() for name in reader.fieldnames or []]
    if "url" not in names:
        problem = f"is neither JSON lines nor a table with a column 'url'; its first line has {len(names)} columns"
        raise Leave("failed", "list_unreadable", detail=f"{shown(url)} {problem}")
    reader.fieldnames = names
    try:
        for entry in reader:
            line = "\t".join(str(value) for value in entry.values())
            yield _Line(number=reader.line_num, text=line, entry=entry)
    except csv.Error as error:  # a NUL byte, a field beyond all bounds: the rest cannot be trusted
        yield _Line(number=reader.line_num, text=f"{error} (line {reader.line_num})", problem=str(error))


def _row(line: _Line, base: str) -> Row:
    entry = line.entry
    url = entry.get("url") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(url, str) or not url.strip():
        problem = line.problem or ("no url" if isinstance(entry, dict) else "not a JSON object")
        leave = Leave("failed", "list_line_unreadable", detail=f"line {line.number}: {problem}")
        return listing_row(base, leave) | {"key": key_of(base, line.text)}
    declared = {name: _word(entry, name) for name in _FACTS}
    caption = _word(entry, "caption") or _word(entry, "text")
    row = input_row(
        url,
        base=base,
        source=shown(base),
        text=caption,
        expected_bytes=declared_bytes(_word(entry, "size_bytes")),
        page_url=_word(entry, "page_url") or shown(base),
        **declared,
    )
    return row


def _word(entry: dict[str, object], name: str) -> str | None:
    value = entry.get(name)
    return str(value).strip() or None if value is not None else None
