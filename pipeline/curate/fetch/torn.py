"""A tree from XML that no mending makes well-formed: elements that are never closed, end tags of others, a cut end.

An end tag closes the nearest open element of its name, and none if there is none; an item ends where the next begins.
Attributes are read with any quotes or none. Time is linear: no tag is scanned beyond the next one.
"""

import html
import re
from xml.etree.ElementTree import Element

_MARK = re.compile(
    r"""<!--.*?(?:-->|\Z)|<!\[CDATA\[(?P<cdata>.*?)(?:\]\]>|\Z)|<[?!][^>]*(?:>|\Z)
    |<(?P<end>/?)(?P<name>[A-Za-z_][\w:.-]*)(?P<rest>(?:[^<>"']|"[^"]*"|'[^']*')*)>""",
    re.DOTALL | re.VERBOSE,
)
_ATTRIBUTE = re.compile(r"""([\w:.-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'<>]+))""")
ROOTS = ("rss", "feed", "rdf")
"""The elements that a feed begins with, in small letters: RSS, Atom, RSS 1.0."""
_ITEMS = ("item", "entry")
_DEPTH = 100
_TEXT_CHARS = 10_000  # of an element that are kept, in how many pieces ever they come


def tree(text: str) -> Element:
    """The feed in a text, else what was read; names are local ones in small letters."""
    root = Element("torn")
    open_elements = [root]
    at = 0
    for mark in _MARK.finditer(text):
        _add(open_elements[-1], html.unescape(text[at : mark.start()]))
        at = mark.end()
        if mark["cdata"] is not None:
            _add(open_elements[-1], mark["cdata"])
        elif mark["name"] and mark["end"]:
            _close(open_elements, _local(mark["name"]))
        elif mark["name"]:
            name = _local(mark["name"])
            if name in _ITEMS:
                _close(open_elements, *_ITEMS)
            element = Element(name, dict(_attributes(mark["rest"])))
            open_elements[-1].append(element)
            if not mark["rest"].endswith("/") and len(open_elements) < _DEPTH:
                open_elements.append(element)
    return next((element for element in root.iter() if element.tag in ROOTS), root)


def _attributes(text: str) -> list[tuple[str, str]]:
    pairs = _ATTRIBUTE.findall(text)
    return [
        (name if name.startswith("xml:") else _local(name), html.unescape(one or two or bare))
        for name, one, two, bare in pairs
    ]


def _add(element: Element, text: str) -> None:
    """Text goes to the element that is open, wherever its children stand: of an element with text none is asked for."""
    if text.strip() and len(element.text or "") < _TEXT_CHARS:
        element.text = (element.text or "") + text


def _close(open_elements: list[Element], *names: str) -> None:
    for place in range(len(open_elements) - 1, 0, -1):
        if open_elements[place].tag in names:
            del open_elements[place:]
            return


def _local(name: str) -> str:
    return name.rpartition(":")[2].lower()
