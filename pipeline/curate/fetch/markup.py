"""Tags and text of HTML, in time linear in the page's length.

The standard library's parser scans a hostile page again from every unfinished tag or comment; a megabyte of them keeps
it busy for hours. Here, as in the HTML standard, what is never closed swallows the rest of the page.
"""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

_NAME = re.compile(r"<(/?)([a-zA-Z][^\s/>]*)")
_ATTRIBUTE = re.compile(r"""[\s/]*([^\s/>=][^\s/>=]*)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s>"'][^\s>]*)?))?""")
_REST_OF_TAG = re.compile(r"[^>]*>")
_RAW = {
    name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE)
    for name in ("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes")
}


@dataclass(frozen=True, kw_only=True)
class Tag:
    """A start tag or (`is_end`) an end tag; names in lower case, values with entities resolved, the first of a name.

    `raw` is what a script, style or the like holds, to the letter."""

    name: str
    is_end: bool = False
    values: dict[str, str] = field(default_factory=dict)
    raw: str = field(default="", compare=False)


def tokens(text: str) -> Iterator[Tag | str]:
    """Tags, and the text between them with entities resolved; comments and declarations are left out."""
    position = 0
    while (opening := text.find("<", position)) >= 0:
        if opening > position:
            yield html.unescape(text[position:opening])
        opened = _NAME.match(text, opening)
        if opened is None:
            position = _after_oddity(text, opening)
            if position == opening:
                yield "<"
                position += 1
            continue
        values, position = _attributes(text, opened.end())
        if position < 0:
            return
        name, is_end, raw = opened[2].lower(), bool(opened[1]), ""
        if not is_end and name in _RAW:
            end = _RAW[name].search(text, position)
            after = end.start() if end else len(text)
            raw, position = text[position:after], after
        yield Tag(name=name, is_end=is_end, values=values, raw=raw)
    if position < len(text):
        yield html.unescape(text[position:])


def _after_oddity(text: str, opening: int) -> int:
    """Where a comment, declaration or bogus end tag is over; `opening` itself for a plain `<` in text."""
    if text.startswith("<!--", opening):
        close = text.find("-->", opening + 4)
        return close + 3 if close >= 0 else len(text)
    if text.startswith(("<!", "<?", "</"), opening):
        close = text.find(">", opening)
        return close + 1 if close >= 0 else len(text)
    return opening


def _attributes(text: str, position: int) -> tuple[dict[str, str], int]:
    """Attributes from `position`, and the position after the tag's `>`, or -1 if the page ends before."""
    values: dict[str, str] = {}
    while attribute := _ATTRIBUTE.match(text, position):
        position = attribute.end()
        value = next((part for part in attribute.group(2, 3, 4) if part is not None), "")  # in either quotes, or none
        values.setdefault(attribute[1].lower(), html.unescape(value))
    rest = _REST_OF_TAG.match(text, position)
    return values, rest.end() if rest else -1
