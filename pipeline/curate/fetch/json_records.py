"""Lists as JSON: one object a line, an array of objects or of URLs, objects one after the other, or what wraps them
(`json_wrapped`).

An object that cannot be read costs itself alone: in an array, reading goes on where the next one begins. Lines end at
LF, CR LF or CR, and not at U+2028 or U+0085, which JSON allows within a text.
"""

import json
import re
from collections.abc import Iterator, Sequence

from pipeline.curate.fetch.columns import ListConfig
from pipeline.curate.fetch.json_wrapped import unwrapped
from pipeline.curate.fetch.record import Record, has_half_character, unfit

_ARRAY = re.compile(r"\s*\[\s*(?:[{\"\[\]]|$)")
_CONTROL = re.compile(r"[\0-\x08\x0a-\x1f]")  # all but tabs
_BETWEEN_VALUES = re.compile(r"[\s\ufeff]*")
_SINGLE = re.compile(r"\{|\[\s*\[")
_BETWEEN = re.compile(r"[\s,\[\]\ufeff]*")
# Where an element may begin after one that is broken: an object with a key, or a text.
_NEXT = {"{": re.compile(r'[,\n\r]\s*(?=\{\s*")'), '"': re.compile(r'[,\n\r]\s*(?=")')}


class _TwiceError(ValueError):
    """An object has a key twice, with two values: one of them would be lost."""


def share(lines: Sequence[str]) -> float:
    """How many of a text's first lines begin as JSON does; 1 for an array."""
    starts = [line.lstrip().startswith("{") for line in lines]
    is_array = _ARRAY.match(" ".join(lines[:2])) is not None
    return 1.0 if is_array else sum(starts) / max(1, len(starts))


def records(text: str, lines: Sequence[str], config: ListConfig) -> Iterator[Record]:
    """Every record of the list, in order; `lines` are its first."""
    if entries := unwrapped(_single(text), config):
        yield from (_checked(f"element {number}", json.dumps(one), one) for number, one in enumerate(entries, 1))
        return
    first, second = (line.strip() for line in (*lines[:2], "")[:2])
    starts = [line.strip().startswith('{"') for line in lines if line.strip(" \t,[]")]
    if first.startswith("[") and not (sum(starts) > 1 and 2 * sum(starts) >= len(starts)):
        yield from _elements(text)
    elif first.endswith(("{", ",")) and second.startswith('"'):  # objects that are spread over lines
        yield from _elements(text)
    else:
        yield from _lines(text, is_array=first.startswith("["))


def _lines(text: str, *, is_array: bool) -> Iterator[Record]:
    number = 0
    for line in text.replace("\r\n", "\n").split("\n"):
        # JSON's own blanks include CR: one object may have some between its keys.
        for piece in [line] if "\r" not in line or _is_object(line) else line.split("\r"):
            number += 1
            if is_array:
                piece = _element_of(piece)
            if piece.strip():
                yield _line(piece, f"line {number}")


def _element_of(line: str) -> str:
    """A line of an array without the array's own brackets and commas."""
    line = line.strip().removesuffix(",")
    if line in ("[", "]") or not line.startswith("[") and not line.endswith("]"):
        return line.strip("[]") if len(line) == 1 else line
    line = line.removeprefix("[")
    return line.removesuffix("]") if line.endswith("]") and not _is_object(line) else line


def _single(text: str) -> object:
    """The object, or the array of arrays, that is the whole of a text; None if it is another text."""
    start = _after(_BETWEEN_VALUES, text, 0)
    try:
        value, end = _DECODER.raw_decode(text, start) if _SINGLE.match(text, start) else (None, 0)
    except (ValueError, RecursionError):
        return None
    return value if _after(_BETWEEN_VALUES, text, end) == len(text) else None


def _line(line: str, place: str) -> Record:
    if problem := unfit(line):
        return Record(place=place, text=line, problem=problem)
    try:
        entry = (_DECODER if _CONTROL.search(line) else _LENIENT).decode(line.lstrip("\ufeff"))
    except json.JSONDecodeError as error:
        more = list(_elements(line)) if error.msg == "Extra data" else []
        if len(more) == 1 and not more[0].problem:  # a comma behind it
            return Record(place=place, text=line, entry=more[0].entry)
        return Record(place=place, text=line, problem=f"{error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return Record(place=place, text=line, problem=_problem(error))
    return _checked(place, line, entry)


def _elements(text: str) -> Iterator[Record]:
    at, number, opening = 0, 0, ""
    while (at := _after(_BETWEEN, text, at)) < len(text):
        number += 1
        opening = opening or text[at]
        place = f"element {number}"
        try:
            entry, end = _DECODER.raw_decode(text, at)
            element = text[at:end]
            problem = unfit(element)
            record = Record(place=place, text=element, problem=problem) if problem else _checked(place, element, entry)
        except (ValueError, RecursionError) as error:
            following = _NEXT.get(opening, _NEXT["{"]).search(text, at + 1)
            end = following.end() if following else len(text)
            record = Record(place=place, text=text[at:end], problem=_problem(error))
        yield record
        at = end


def _checked(place: str, text: str, entry: object) -> Record:
    """The record of a value that was read; a text by itself is a URL."""
    if isinstance(entry, str):
        entry = {"url": entry}
    if not isinstance(entry, dict):
        return Record(place=place, text=text, problem="not a JSON object")
    # Only an escape makes a half: the text itself was decoded.
    if "\\ud" in text.lower() and has_half_character(json.dumps(entry, ensure_ascii=False)):
        return Record(place=place, text=text, problem="half of a surrogate pair, which is no character")
    return Record(place=place, text=text, entry=entry)


def _is_object(line: str) -> bool:
    try:
        return isinstance(_DECODER.decode(line.strip().lstrip("\ufeff").rstrip(",")), dict)
    except (ValueError, RecursionError):
        return False


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    entry = dict(pairs)
    if len(entry) < len(pairs) and any(entry[name] != value for name, value in pairs):
        raise _TwiceError("a key that is there twice, with two values")
    return entry


def _problem(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else str(error).partition(": line ")[0]


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
_LENIENT = json.JSONDecoder(object_pairs_hook=_object, strict=False)
