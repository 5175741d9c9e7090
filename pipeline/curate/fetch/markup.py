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
_RAW = {name: re.compile(rf"</{name}(?=[\s/>])", re.IGNORECASE) for name in ("script", "style", "textarea", "title")}


@dataclass(frozen=True, kw_only=True)
class Tag:
    """A start tag or (`is_end`) an end tag; names in lower case, values with entities resolved, the first of a name."""

    name: str
    is_end: bool = False
    values: dict[str, str] = field(default_factory=dict)


def tokens(text: str) -> Iterator[Tag | str]:
    """Tags, and the text between them with entities resolved; comments, declarations and raw text are left out."""
    at = 0
    while (opening := text.find("<", at)) >= 0:
        if opening > at:
            yield html.unescape(text[at:opening])
        found = _NAME.match(text, opening)
        if found is None:
            at = _after_oddity(text, opening)
            if at == opening:
                yield "<"
                at += 1
            continue
        values, at = _attributes(text, found.end())
        if at < 0:
            return
        tag = Tag(name=found[2].lower(), is_end=bool(found[1]), values=values)
        yield tag
        if not tag.is_end and tag.name in _RAW:
            end = _RAW[tag.name].search(text, at)
            if end is None:
                return
            at = end.start()
    if at < len(text):
        yield html.unescape(text[at:])


def _after_oddity(text: str, opening: int) -> int:
    """Where a comment, declaration or bogus end tag is over; `opening` itself for a plain `<` in text."""
    if text.startswith("<!--", opening):
        close = text.find("-->", opening + 4)
        return close + 3 if close >= 0 else len(text)
    if text.startswith(("<!", "<?", "</"), opening):
        close = text.find(">", opening)
        return close + 1 if close >= 0 else len(text)
    return opening


def _attributes(text: str, at: int) -> tuple[dict[str, str], int]:
    """Attributes from `at`, and the position after the tag's `>`, or -1 if the page ends before."""
    values: dict[str, str] = {}
    while found := _ATTRIBUTE.match(text, at):
        at = found.end()
        value = found[2] if found[2] is not None else found[3] if found[3] is not None else found[4] or ""
        values.setdefault(found[1].lower(), html.unescape(value))
    rest = _REST_OF_TAG.match(text, at)
    return values, rest.end() if rest else -1
