"""Pictures that a page describes in JSON-LD (schema.org): `ImageObject` wherever it stands, and what an `image` names.

A page's title or headline is no caption of its picture, and a publisher's name none of its logo. Thumbnails are left
out. What is written around the JSON and after it, line ends in strings, entities and trailing commas are forgiven; what
then is no JSON is passed over. Bounds: a megabyte of a page, 20,000 nodes.
"""

import json
import re
from collections.abc import Iterator

from pipeline.curate.fetch.candidates import plain
from pipeline.curate.fetch.markup import Tag, tokens
from pipeline.curate.fetch.pictures import Picture, terms, tidy

MAX_CHARS = 1 << 20
"""Of all blocks of a page together."""
_MAX_NODES = 20_000
_MAX_CAPTIONS = 10
# Comments and CDATA marks, as scripts were once wrapped in pages of XHTML.
_WRAPPING = re.compile(r"(?:\s|;|,|\ufeff|<!--|-->|<!\[CDATA\[|\]\]>|//|/\*|\*/)*+")
_TRAILING_COMMA = re.compile(r",(?=\s*[}\]])")
_IMAGE_KEYS = frozenset({"image", "photo", "photos", "primaryimageofpage"})
_IMAGE_TYPES = frozenset({"ImageObject", "ImageObjectSnapshot"})
_LEFT_OUT = frozenset({"thumbnail", "thumbnailurl"})
_CREDITS = ("creditText", "copyrightNotice", "acquireLicensePage")
# Integers of a megabyte take quadratic time to read, and none is needed.
_DECODER = json.JSONDecoder(strict=False, parse_int=float)


def described(text: str) -> list[Picture]:
    """The pictures that one block describes, in its order."""
    pictures = []
    nodes = [(value, "") for value in reversed(_values(text))]
    for _ in range(_MAX_NODES):
        if not nodes:
            break
        value, key = nodes.pop()
        if isinstance(value, list):
            nodes += [(entry, key) for entry in reversed(value)]
        elif isinstance(value, dict):
            if key in _IMAGE_KEYS or _is_image(value.get("@type")):
                pictures += _picture(value, key)
            nested = [(inner, name.lower()) for name, inner in value.items()]
            nodes += [(inner, name) for inner, name in reversed(nested) if name not in _LEFT_OUT]
        elif isinstance(value, str) and key in _IMAGE_KEYS:
            pictures += [Picture(candidates=found)] if (found := plain(value, 1.0)) else []
    return pictures


def _values(text: str) -> list[object]:
    """The values of a block; several may follow each other."""
    for mend in (lambda t: t, lambda t: _TRAILING_COMMA.sub("", _unescaped(t))):
        values, mended = [], mend(text)
        position = _after_wrapping(mended, 0)
        while position < len(mended) and mended[position] in "{[":
            try:
                value, position = _DECODER.raw_decode(mended, position)
            except (ValueError, RecursionError):
                break
            values.append(value)
            position = _after_wrapping(mended, position)
        if values:
            return values
    return []


def _after_wrapping(text: str, position: int) -> int:
    wrapping = _WRAPPING.match(text, position)
    return wrapping.end() if wrapping else position


def _unescaped(text: str) -> str:
    return text.replace("&quot;", '"').replace("&#34;", '"').replace("&amp;", "&")


def _is_image(kind: object) -> bool:
    kinds = kind if isinstance(kind, list) else [kind]
    return any(isinstance(one, str) and re.split(r"[/:#]", one)[-1] in _IMAGE_TYPES for one in kinds[:10])


def _picture(node: dict[str, object], key: str) -> list[Picture]:
    candidates = plain(_first(node.get("contentUrl")) or _first(node.get("url")), 1.0)
    if not candidates:
        return []
    said = [] if key == "logo" else [node.get(name) for name in ("caption", "description", "name")]
    credit = {name: text for name in _CREDITS if (text := terms(_first(node.get(name))))}
    return [
        Picture(
            candidates=candidates,
            captions=[text for value in said for text in _texts(value)],
            license=terms(_first(node.get("license"))),
            credit=credit,
        )
    ]


def _first(value: object) -> str | None:
    """The text of a value, of its first entry, or of the node that it is."""
    for _ in range(4):
        if isinstance(value, list):
            value = value[0] if value else None
        elif isinstance(value, dict):
            value = next((value[name] for name in ("@value", "url", "@id") if name in value), None)
        else:
            break
    return value if isinstance(value, str) else None


def _texts(value: object) -> Iterator[str]:
    for entry in value[:_MAX_CAPTIONS] if isinstance(value, list) else [value]:
        if isinstance(entry, dict):
            entry = next((entry[name] for name in ("@value", "text", "name") if name in entry), None)
        if isinstance(entry, str):
            yield plain_text(entry)


def plain_text(text: str) -> str:
    """Text without the tags that a publishing system left in it."""
    return tidy(" " if isinstance(token, Tag) else token for token in tokens(text))
