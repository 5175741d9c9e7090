"""What the columns of a URL list mean: their usual names, missing values, several captions, and what is carried along.

Names are compared without case, blanks, `_` and `-`. What no field of ours takes is kept as one JSON object, `extra`,
so that a user's own ids, scores and flags reach the export. Binary columns are not carried.
"""

import ast
import html
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pipeline.ranges import check_range
from pipeline.redact import redacted_text

# Field -> its usual names, the best first: of LAION, DataComp, Conceptual Captions, Open Images, Unsplash, RedCaps,
# and what img2dataset writes. A link to a page comes last: in most lists that have both it is not the file.
_USUAL = {
    "url": """url image_url img_url imageurl media_url audio_url file_url download_url original_url content_url
        enclosure_url photo_image_url coco_url image_link image_src img_src picture_url image_uri src href link image
        photo picture img images image_urls urls""",
    "caption": """caption text top_caption alt_text image_alt_text image_alt img_alt alt caption_reference_description
        image_description photo_description alt_description description captions sentences sentence title""",
    "license": "license licence license_url rights",
    "language": "language lang",
    "page_url": "page_url page original_landing_url landing_url source_url web_url photo_url",
    "transcript_url": "transcript_url",
    "transcript_type": "transcript_type",
    "transcript_kind": "transcript_kind",
    "size_bytes": "size_bytes original_size filesize file_size content_length",
}
# WIT has three captions of a picture, each often missing.
INSTEAD = ("caption_reference_description", "caption_alt_text_description", "caption_attribution_description")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]\w{1,31});")
# How pandas, Spark, SQL, R and JavaScript write a value that is not there.
_MISSING = frozenset({"", "nan", "null", "none", "<na>", "n/a", "#n/a", "\\n", "undefined"})
# A list of texts as Python, JSON or numpy prints it. ast alone would join what numpy leaves unparted: 'a' 'b'.
_LITERAL = re.compile(r"""\s*('(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+")\s*,?""", re.DOTALL)
_LITERAL_CHARS = 100_000


@dataclass(frozen=True, kw_only=True)
class ListConfig:
    """How to read URL lists: what their columns are called, where that is not usual."""

    url: str | None = None
    """Column with the file's URL; else one named url, image_url, src or the like."""
    caption: str | None = None
    """Column with the caption; else caption, text, alt or the like."""
    license: str | None = None
    """Column with the license; else license, rights or the like."""
    language: str | None = None
    """Column with the language that the publisher declares; else language or lang."""
    page_url: str | None = None
    """Column with the page that shows the file; else page_url, landing_url or the like."""
    transcript_url: str | None = None
    """Column with the transcript of an episode; else transcript_url."""
    size_bytes: str | None = None
    """Column with the file's size in bytes; else size_bytes, file_size or the like."""
    max_bytes: int = 1 << 29
    """Largest list in bytes, as it comes and as it unpacks; it is held in memory."""

    def __post_init__(self) -> None:
        check_range(self, "max_bytes", low=1)

    def fields(self, names: Iterable[str]) -> dict[str, str]:
        """Field -> the name of its column among these; fields without a column are left out.

        KeyError with the name of a column that the user named and that is not there.
        """
        there: dict[str, str] = {}
        for name in names:
            there.setdefault(_folded(name), name)
        columns = {}
        for field, usual in _USUAL.items():
            named = getattr(self, field, None)
            if named is not None and _folded(named) not in there:
                raise KeyError(named)
            spellings = [named] if named is not None else usual.split()
            column = next((there[_folded(name)] for name in spellings if _folded(name) in there), None)
            if column is not None:
                columns[field] = column
        return columns


DEFAULT = ListConfig()


def _folded(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold() or name


def word(value: object) -> str | None:
    """A value as text without blanks around it; None if it is missing, however that is written, or is no scalar."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    text = str(value).strip() if isinstance(value, str | int | float) else ""
    return None if text.casefold() in _MISSING else text


def is_missing(value: object) -> bool:
    """True for a value that says that there is none."""
    return word(value) is None and not isinstance(value, Mapping | list | tuple)


def captions(value: object) -> list[str]:
    """The captions that a value holds: none, one, or those of a list, which may be spelled as text.

    TypeError for a value that is neither text nor a list of texts.
    """
    if isinstance(value, list | tuple):
        texts = [text for entry in value for text in captions(entry)]
        return list(dict.fromkeys(texts))
    if isinstance(value, Mapping):
        raise TypeError("the caption is an object")
    text = word(value)
    if text is None:
        return []
    text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    spelled = _spelled_list(text)
    return [text] if spelled is None else list(dict.fromkeys(spelled))


def _spelled_list(text: str) -> list[str] | None:
    """`['a', "b"]` -> its texts; None for any other text, `[free] download` too."""
    if not (text.startswith("[") and text.endswith("]") and len(text) <= _LITERAL_CHARS):
        return None
    inner, at, literals = text[1:-1].strip(), 0, []
    while at < len(inner):
        literal = _LITERAL.match(inner, at)
        if literal is None:
            return None
        literals.append(literal[1])
        at = literal.end()
    try:
        texts = [word(json.loads(one) if one.startswith('"') else ast.literal_eval(one)) for one in literals]
    except (ValueError, SyntaxError):
        return None
    return [text for text in texts if text is not None]


def extra(entry: Mapping[str, object], taken: Iterable[str]) -> str | None:
    """The columns that no field takes, as a JSON object; None if there is none. Secrets are cut out of their texts."""
    left = {name: entry[name] for name in entry.keys() - set(taken)}
    kept = {name: _plain(left[name]) for name in entry if name in left and not isinstance(left[name], bytes)}
    return json.dumps(kept, ensure_ascii=False, allow_nan=False) if kept else None


def _plain(value: object) -> object:
    """A value as JSON has it: what is not finite is null, what JSON does not know is text."""
    if isinstance(value, str):
        return redacted_text(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value)
