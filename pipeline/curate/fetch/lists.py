"""URL lists: JSON lines, CSV or TSV with a header line; one file to fetch per line.

Columns: `url` (required), `caption` (or `text`), `license`, `language`, `page_url`, `transcript_url`,
`transcript_type`, `transcript_kind`, `size_bytes`; others are ignored. A line that cannot be read is a failed row of its own.
"""
import csv
import io
import json
from collections.abc import Iterator

from pipeline.curate.fetch.address import shown
from pipeline.curate.fetch.rows import declared_bytes, input_row, listing_row
from pipeline.curate.stage import Leave, Row
from pipeline.records import key_of

_FACTS = ("license", "language", "transcript_url", "transcript_type", "transcript_kind")


def read_list(body: bytes, url: str) -> list[Row]:
    """`INPUT` rows from a list that was found at `url`; relative URLs are resolved against it.

    Raises Leave: failed `list_unreadable` (no UTF-8, or no `url` column), `listing_empty`.
    """
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Leave("failed", "list_unreadable", detail=f"{shown(url)} is not UTF-8: {error}") from error
    lines = _json_lines(text) if text.lstrip().startswith("{") else _table(text, url)
    rows = [_row(entry, line, url) for entry, line in lines]
    if not rows:
        raise Leave("failed", "listing_empty", detail=f"{shown(url)} names no file")
    return rows


def _json_lines(text: str) -> Iterator[tuple[object, str]]:
    for line in text.splitlines():
        if line.strip():
            try:
                yield json.loads(line), line
            except ValueError:
                yield None, line


def _table(text: str, url: str) -> Iterator[tuple[object, str]]:
    header = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text), delimiter="\t" if "\t" in header else ",")
    names = [name.strip().lower() for name in reader.fieldnames or []]
    if "url" not in names:
        problem = f"is neither JSON lines nor a table with a column 'url'; it starts {header[:80]!r}"
        raise Leave("failed", "list_unreadable", detail=f"{shown(url)} {problem}")
    reader.fieldnames = names
    try:
        for entry in reader:
            yield entry, "\t".join(str(value) for value in entry.values())
    except csv.Error as error:  # a NUL byte, a field beyond all bounds: the rest cannot be trusted
        yield None, f"{error} (line {reader.line_num})"


def _row(entry: object, line: str, base: str) -> Row:
    url = entry.get("url") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(url, str) or not url.strip():
        leave = Leave("failed", "list_line_unreadable", detail=line[:200])
        return listing_row(base, leave) | {"key": key_of(base, line)}
    facts = {name: _word(entry, name) for name in _FACTS}
    caption = _word(entry, "caption") or _word(entry, "text")
    row = input_row(url, base=base, source=shown(base), text=caption, expected_bytes=declared_bytes(_word(entry, "size_bytes")),
                    **facts)
    return row | {"page_url": _word(entry, "page_url") or base}


def _word(entry: dict[str, object], name: str) -> str | None:
    value = entry.get(name)
    return str(value).strip() or None if value is not None else None
