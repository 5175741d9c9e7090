"""XML of the web that is not well-formed, made so where players read it all the same.

Mended are: what stands before the declaration, control characters, a bare `&`, entities of HTML, references to no
character, and prefixes that nobody declared. A DTD is left as it is, so that a parser that refuses one still does.
"""

import html
import re

from pipeline.curate.fetch.charset import decode

_CDATA = re.compile(r"(<!\[CDATA\[.*?(?:\]\]>|\Z))", re.DOTALL)  # one left open is the rest: time stays linear
_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*\?>")
_DECLARED_CHARSET = re.compile(rb"""<\?xml[^>]*\bencoding\s*=\s*["']([\w.:-]+)""")
_NO_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_REFERENCE = re.compile(r"&(?:#(\d{1,9});|#[xX]([0-9a-fA-F]{1,8});|(\w{1,32});)?")
_XML_ENTITIES = ("amp", "lt", "gt", "quot", "apos")
_PREFIX = re.compile(r"<([A-Za-z_][\w.-]*):[\w.-]+|\s([A-Za-z_][\w.-]*):[\w.-]+\s*=")
_XMLNS = re.compile(r"\bxmlns:([A-Za-z_][\w.-]*)")
_ROOT = re.compile(r"<[A-Za-z_][\w.:-]*")


def undeclared(body: bytes) -> str:
    """The text of an XML document, without what stands before its first element and names an encoding."""
    named = _DECLARED_CHARSET.search(body[:1024])
    return _DECLARATION.sub("", decode(body, named[1].decode() if named else None)).lstrip()


def mended(body: bytes) -> str:
    """The text of an XML document, without its declaration; well-formed where the module's mending is enough."""
    text = _DECLARATION.sub("", _NO_CHARACTER.sub("", undeclared(body))).lstrip()
    pieces = _CDATA.split(text)  # every second one is CDATA, in which `&` is a character like others
    pieces[::2] = [_REFERENCE.sub(_reference, piece) for piece in pieces[::2]]
    return _declared("".join(pieces))


def _reference(match: re.Match[str]) -> str:
    decimal, hexadecimal, name = match.groups()
    if name:
        known = html.unescape(match[0])
        return match[0] if name in _XML_ENTITIES else known if known != match[0] else f"&amp;{match[0][1:]}"
    if not decimal and not hexadecimal:
        return "&amp;"
    number = int(decimal) if decimal else int(hexadecimal, 16)
    is_character = number in (9, 10, 13) or 32 <= number < 0xD800 or 0xE000 <= number < 0xFFFE or number >= 1 << 16
    return match[0] if is_character and number <= 0x10FFFF else ""


def _declared(text: str) -> str:
    """The text with a declaration on its root for each prefix that has none."""
    used = {prefix for pair in _PREFIX.findall(_CDATA.sub("", text)) for prefix in pair if prefix}
    missing = sorted(used - {"xml", "xmlns"} - set(_XMLNS.findall(text)))
    names = "".join(f' xmlns:{prefix}="urn:undeclared:{prefix}"' for prefix in missing)
    return _ROOT.sub(lambda root: root[0] + names, text, count=1) if missing else text
