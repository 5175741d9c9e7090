"""One record of a listing on its way from bytes to a row: what it says, or what keeps it from being read."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from pipeline.curate.fetch.charset import BROKEN

LINE_CHARS = 1 << 20
"""The longest record. A caption is a few hundred characters, a signed URL two thousand."""
_LINE = re.compile(r"[^\r\n]+")
_SAMPLE_LINES = 200
_SAMPLE_CHARS = 4000  # of a line: what it is shows at its beginning
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, kw_only=True)
class Record:
    """One record: its `entry`, or the `problem` that keeps it from being read.

    `text` is what stands there, `place` where ("line 7"): a failed row is known by the one and named by the other.
    """

    place: str
    text: str
    entry: Mapping[str, object] | None = None
    problem: str = ""


def unfit(text: str) -> str:
    """Why a line is not worth parsing, "" if it is: longer than any record, or with characters that no text has."""
    if len(text) > LINE_CHARS:
        return f"{len(text)} characters, more than {LINE_CHARS}"
    if (at := text.find(BROKEN)) >= 0:
        return f"a broken character at column {at + 1}"
    if (at := text.find("\0")) >= 0:
        return f"a zero byte at column {at + 1}"
    return ""


def has_half_character(text: str) -> bool:
    """True if half a surrogate pair is in the text, as JavaScript leaves it that cuts a string: UTF-8 has none."""
    return _SURROGATE.search(text) is not None


def sample(text: str) -> list[str]:
    """The beginnings of a text's first lines, by which its kind is told; blank ones are left out."""
    lines = (line[0][:_SAMPLE_CHARS] for line in _LINE.finditer(text))
    return list(islice((line for line in lines if line.strip()), _SAMPLE_LINES))
