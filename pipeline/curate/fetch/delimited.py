"""Lists as lines of text: tables (tab, comma, semicolon or bar between columns) and plain URLs, one a line.

Each line ends in exactly one record. Quotes enclose a field, over several lines too, where they close at the end of one
and the record has the table's columns; any other quote is a character like others, as in captions of Conceptual
Captions. So a quote that is left open costs no line but, at worst, its own.

Lines end at LF, CR LF or CR, and at nothing else (U+2028, U+0085 and form feeds are part of captions). A CR alone among
LFs is part of the line where only the whole of it is one record.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.curate.fetch.columns import ListConfig
from pipeline.curate.fetch.record import Record, unfit

DELIMITERS = "\t,;|"
SHARE = 0.25  # of lines that must look alike before a text without a header is taken for a list
_QUOTED_LINES = 200
_QUOTED_CHARS = 1 << 17
_URL = re.compile(r"""\s*["'<]?\s*https?://[^\s/]""", re.IGNORECASE)
_WRAPPED = re.compile(r"""(["'])(.*)\1|<(.*)>""")
_SEPARATOR = re.compile(r"\s*sep=.?\s*", re.IGNORECASE)  # Excel's
_FILE = re.compile(r"\.(?:jpe?g|png|gif|webp|avif|mp3|m4a|wav|flac|ogg|opus)$", re.IGNORECASE)
_URL_FIELDS = 16  # that a URL with delimiters in it may fall into
_PREFACE = 20  # lines above a header
# A field in quotes, with quotes in it doubled, or escaped as Spark and MySQL do.
_QUOTED = re.compile(r' *"([^"]*+(?:""[^"]*+)*+)" *')
_ESCAPED = re.compile(r' *"([^"\\]*+(?:(?:\\.|"")[^"\\]*+)*+)" *', re.DOTALL)
_OPENING = re.compile(r' *"')
_OPEN = re.compile(r' *"[^"]*+(?:""[^"]*+)*+\Z')


class _OpenQuoteError(ValueError):
    """A quote is not closed."""


class _TornQuoteError(ValueError):
    """A quote closes before the end of its field."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """How a list is laid out; `delimiter` is empty where a line is one URL."""

    delimiter: str
    names: tuple[str, ...]
    url_at: int
    caption_at: int | None = None
    header: str | None = None
    """The line that names the columns; lists that were joined have it again."""
    ends_in_comma: bool = False
    has_schemes: bool = True
    """Its URLs are absolute, so what has no `://` is none of them."""

    def is_header(self, line: str) -> bool:
        """True for the line of names, wherever it stands, and for Excel's `sep=;`."""
        if self.header is None:
            return False
        return line.startswith(self.header) and line.strip() == self.header or _SEPARATOR.fullmatch(line) is not None

    def is_url(self, text: str) -> bool:
        """True if the text may be the URL of a record of this list."""
        text = text.strip()
        is_one_word = bool(text) and not re.search(r"\s", text)
        return is_one_word and ("://" in text if self.has_schemes else "/" in text or "." in text)

    def may_be_url(self, text: str) -> bool:
        """As `is_url`, or a URL with blanks in it: publishers leave them as they are."""
        return self.is_url(text) or _starts_as_url(text)

    def is_record(self, line: str) -> bool:
        """True if the line is a whole record by itself."""
        try:
            values = fields(line, self.delimiter)
        except ValueError:
            values = line.split(self.delimiter)
        return len(values) == len(self.names) and self.is_url(values[self.url_at])

    def holds_record(self, piece: str) -> bool:
        """True if a piece of a field begins or ends as a record does: no words do, and somebody left a quote open."""
        values = piece.split(self.delimiter)
        width = len(self.names)
        return len(values) >= width and (self.is_url(values[self.url_at]) or self.is_url(values[self.url_at - width]))

    def is_one(self, line: str) -> bool:
        """True if a line with a CR in it is one record, and no two of them."""
        if not self.delimiter:
            return False
        try:
            values = fields(line, self.delimiter)
            is_quoted = '"' in line
        except ValueError:
            return False
        is_whole = len(values) == len(self.names) and self.is_url(values[self.url_at])
        pieces = [piece for value in values if "\r" in value for piece in value.split("\r")]
        return is_whole and not any(map(self.holds_record, pieces)) and (is_quoted or line.count("://") <= 1)


def table_of(lines: Sequence[str], config: ListConfig) -> Table | None:
    """The layout of a list by its first lines; None if it is no such list. KeyError as of `ListConfig.fields`."""
    return (_headed(lines, config) or _headless(lines)) if lines else None


def fields(line: str, delimiter: str) -> list[str]:
    """The fields of a record, quotes taken off; ValueError if one is left open or closes too early."""
    values: list[str] = []
    at = 0
    while True:
        if _OPENING.match(line, at):
            value, at = _quoted(line, at, delimiter)
        else:
            end = line.find(delimiter, at)
            end = len(line) if end < 0 else end
            value, at = line[at:end], end
        values.append(value)
        if at >= len(line):
            return values
        at += len(delimiter)


def records(text: str, table: Table) -> Iterator[Record]:
    """Every record, in order; blank lines are none, and neither is the header."""
    lines = _lines(text, table)
    at = 0
    while at < len(lines):
        span = 1
        if lines[at].strip() and not table.is_header(lines[at]):
            record, span = _record(lines, at, table)
            yield record
        at += span


def _headed(lines: Sequence[str], config: ListConfig) -> Table | None:
    """By a first line that names columns, a URL's among them; of several readings the one with the most columns.

    Remarks (`#`) and Excel's `sep=;` may stand above it.
    """
    above = next((i for i, line in enumerate(lines[:_PREFACE]) if not _is_above(line, config)), 0)
    lines = lines[above:]
    best: Table | None = None
    missing: KeyError | None = None
    for delimiter in DELIMITERS:
        try:
            names = [name.strip() for name in fields(lines[0], delimiter)]
            columns = config.fields(names)
        except ValueError:
            continue
        except KeyError as error:
            missing = error
            continue
        if "url" not in columns or (best is not None and len(names) <= len(best.names)):
            continue
        caption = columns.get("caption")
        best = Table(
            delimiter=delimiter if len(names) > 1 else "",
            names=_distinct(names),
            url_at=names.index(columns["url"]),
            header=lines[0].strip(),
            caption_at=None if caption is None else names.index(caption),
            has_schemes=_share(lines[1:], lambda line: "://" in line) > 0.5,
        )
    if best is None and missing is not None:
        raise missing
    return best


def _is_above(line: str, config: ListConfig) -> bool:
    if not line.lstrip().startswith("#"):
        return _SEPARATOR.fullmatch(line) is not None
    try:  # names may begin with the mark
        return not any("url" in config.fields(line.split(delimiter)) for delimiter in DELIMITERS)
    except KeyError:
        return True


def _headless(lines: Sequence[str]) -> Table | None:
    """By columns that look alike: one of URLs and at most one of words; or lines that are URLs."""
    for delimiter in DELIMITERS:
        rows = [line.split(delimiter) for line in lines]
        width, _ = Counter(map(len, rows)).most_common(1)[0]
        alike = [row for row in rows if len(row) == width]
        if width < 2 or len(alike) < SHARE * len(rows):
            continue
        columns = list(zip(*alike, strict=True))
        shares = [_share(column, _is_plain_url) for column in columns]
        url_at = shares.index(max(shares))
        wordy = [i for i, column in enumerate(columns) if i != url_at and _share(column, _has_blank) > 0.5]
        if width == 2 and delimiter == "\t":
            wordy = [1 - url_at]
        # A URL may hold commas, semicolons and bars, but no blank: without words beside it, it is a line of its own.
        if shares[url_at] >= SHARE and len(wordy) == 1:
            names = [f"column_{i + 1}" for i in range(width)]
            names[url_at], names[wordy[0]] = "url", "caption"
            return Table(delimiter=delimiter, names=tuple(names), url_at=url_at, caption_at=wordy[0])
    if _share(lines, _starts_as_url) >= SHARE:
        ends_in_comma = _share(lines, lambda line: line.rstrip().endswith(",")) > 0.5
        return Table(delimiter="", names=("url",), url_at=0, ends_in_comma=ends_in_comma)
    return None


def _share(values: Sequence[str], test: Callable[[str], bool]) -> float:
    return sum(map(test, values)) / len(values) if values else 0.0


def _starts_as_url(text: str) -> bool:
    return _URL.match(text) is not None


def _is_plain_url(text: str) -> bool:
    return _starts_as_url(text) and not _has_blank(text)


def _has_blank(text: str) -> bool:
    return " " in text.strip()


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names of columns, those that are there twice with their number behind them: none is lost."""
    return tuple(name if name not in names[:i] else f"{name}_{i + 1}" for i, name in enumerate(names))


def _lines(text: str, table: Table) -> list[str]:
    text = text.replace("\r\n", "\n")
    if 8 * text.count("\r") > text.count("\n"):  # too many to be part of captions
        return text.replace("\r", "\n").split("\n")
    lines: list[str] = []
    for line in text.split("\n"):
        lines += [line] if "\r" not in line or table.is_one(line) else line.split("\r")
    return lines


def _record(lines: Sequence[str], at: int, table: Table) -> tuple[Record, int]:
    """The record that begins with a line, and how many lines it has."""
    line = lines[at]
    place = f"line {at + 1}"
    if problem := unfit(line):
        return Record(place=place, text=line, problem=problem), 1
    span, problem = 1, ""
    try:
        values = fields(line, table.delimiter) if table.delimiter else [_bare(line, table)]
    except ValueError as error:
        span, values = _joined(lines, at, table) if isinstance(error, _OpenQuoteError) else (1, [])
        if not values:
            values = [_unquoted(value) for value in line.split(table.delimiter)]
            problem = str(error)
    return _fitted(place, "\n".join(lines[at : at + span]), values, problem, table), span


def _fitted(place: str, text: str, values: list[str], problem: str, table: Table) -> Record:
    """A record of the table's columns; `problem` is what kept its quotes from being read."""
    columns = len(values)
    while columns > len(table.names) and not values[columns - 1].strip():
        columns -= 1
    values = values[:columns]
    surplus = columns - len(table.names)
    if surplus > 0:
        values, surplus = _url_joined(values, surplus, table)
    if surplus > 0 and table.caption_at is not None:  # delimiters in the words of a caption
        words = values[table.caption_at : table.caption_at + surplus + 1]
        values[table.caption_at : table.caption_at + surplus + 1] = [table.delimiter.join(words)]
    is_sure = surplus == 0 and not problem and bool(table.delimiter)
    if not is_sure and not (table.url_at < len(values) and table.may_be_url(values[table.url_at])):
        problem = problem or (f"{columns} columns, and the list has {len(table.names)}" if surplus else "no URL")
        return Record(place=place, text=text, problem=problem)
    if problem and surplus < 0:
        return Record(place=place, text=text, problem=problem)
    beyond = [f"column_{i + 1}" for i in range(len(table.names), len(values))]
    return Record(place=place, text=text, entry=dict(zip((*table.names, *beyond), values, strict=False)))


def _url_joined(values: list[str], surplus: int, table: Table) -> tuple[list[str], int]:
    """The fields, those joined that make a URL end like a file, as it does not by itself; and how many are too many."""
    at = table.url_at
    for count in range(1, min(surplus, _URL_FIELDS) + 1):
        url = table.delimiter.join(values[at : at + count + 1])
        if not table.is_url(values[at]) or _FILE.search(values[at]) or not table.is_url(url):
            break
        if _FILE.search(url):
            return [*values[:at], url, *values[at + count + 1 :]], surplus - count
    return values, surplus


def _joined(lines: Sequence[str], at: int, table: Table) -> tuple[int, list[str]]:
    """How many lines a field in quotes runs over, and the fields of their record; no fields if it is none.

    It is none if the quotes close where no field ends, if the columns are not the table's, or if lines within a field
    are records by themselves: then somebody left a quote open.
    """
    text = lines[at]
    for span, line in enumerate(lines[at + 1 : at + _QUOTED_LINES], 2):
        text = f"{text}\n{line}"
        if len(text) > _QUOTED_CHARS or unfit(line):
            break
        if '"' in line:
            try:
                values = fields(text, table.delimiter)
            except _OpenQuoteError:
                values = []
            except _TornQuoteError:
                break
            if values:
                inner = [piece for value in values if "\n" in value for piece in value.split("\n")]
                is_whole = len(values) == len(table.names) and "\n" not in values[table.url_at].strip()
                is_whole = is_whole and not any(map(table.holds_record, inner))
                return (span, values) if is_whole else (1, [])
        if table.is_record(line):
            break
    return 1, []


def _unquoted(value: str) -> str:
    """A field of a line whose quotes do not add up: those that enclose the whole of it are taken off."""
    quoted = _QUOTED.fullmatch(value)
    return quoted[1].replace('""', '"') if quoted else value


def _bare(line: str, table: Table) -> str:
    """A line that is one URL, without quotes around it."""
    line = line.strip().removesuffix(",") if table.ends_in_comma else line.strip()
    quoted = _WRAPPED.fullmatch(line)
    return (quoted[2] or quoted[3] or "").replace('""', '"') if quoted else line


def _quoted(line: str, at: int, delimiter: str) -> tuple[str, int]:
    """The field in quotes that begins at a place, and where it ends."""
    for pattern in (_QUOTED, _ESCAPED):
        quoted = pattern.match(line, at)
        if quoted and (quoted.end() == len(line) or line.startswith(delimiter, quoted.end())):
            return re.sub(r'""|\\"', '"', quoted[1]) if pattern is _ESCAPED else quoted[1].replace(
                '""', '"'
            ), quoted.end()
    if _OPEN.match(line, at):
        raise _OpenQuoteError("a quote that is not closed")
    raise _TornQuoteError("a quote that closes within its field")
