"""Captions of pictures: length, and whether a camera, a program or a file system wrote them.

What only says that there is none (`null`, `undefined`) is no caption at all: `fetch.columns.word` knows it."""

import re
from dataclasses import dataclass

from pipeline.curate.stage import Filter, Map, Row, score
from pipeline.curate.text.words import count_words

_EXTENSION = re.compile(r"\S\.(jpe?g|jfif|png|gif|webp|bmp|tiff?|heic|avif|svg|raw|cr2|nef|psd)$", re.IGNORECASE)
_GENERIC = (
    "img|dsc[fn_]?|dcim|pict?|p|mvi|gopr|pxl|wp|cimg|sam|imag|image|photo|picture|pic|foto|bild|scan|file|"
    "screen ?shot|snapshot|capture|untitled|unnamed|download|page|fig|thumb(nail)?|whatsapp image"
)
# A generic word and then nothing but a counter, a date or a time: IMG_2031, DSC0001, image (3), Screenshot 2021-03-04.
_COUNTER = re.compile(
    rf"({_GENERIC})[\s_.-]*\(?\d[\d\s_.,:()x-]*( ?at [\d.: ]+([ap]m)?)?\)?(wa\d+)?( ?-? ?copy)?", re.IGNORECASE
)
# What programs write where nobody did; with an article it is somebody's: "A photo".
_NO_WORDS = re.compile(
    rf"({_GENERIC}|photograph|placeholder|alt|caption|attachment)"
    r"|(no|featured|default|enter|main) (image|photo|picture|caption|description)( available| here)?"
    r"|(enter )?(the )?(image )?(alt(ernative)? text|description)( here)?",
    re.IGNORECASE,
)
_URL = re.compile(r"((https?:)?//|www\.|data:|file:)\S+", re.IGNORECASE)
_LONGEST_NAME = 128
_NUMBERED = re.compile(r"[a-z]+(_\d+|-0\d+|-\d{4,})", re.IGNORECASE)  # digit-0042, scan_7; but not boeing-747
_DIGITS = re.compile(r"\d[\d_.-]{3,}")
_DIGEST = re.compile(r"(?=.*\d)[0-9a-f]{12,}|[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ScoreCaption(Map):
    """Tidy the white space of `caption`; fills caption_chars, caption_words and caption_is_filename."""

    def map(self, row: Row) -> Row:
        """The row with the caption's scores; no caption is one of length 0."""
        caption = " ".join((row["caption"] or "").split())
        return row | {
            "caption": caption,
            "caption_chars": len(caption),
            "caption_words": count_words(caption),
            "caption_is_filename": is_filename(caption),
        }


def is_filename(caption: str) -> bool:
    """True if a caption is a name that a camera, a program or a file system gave, or a URL."""
    if _URL.fullmatch(caption):
        return True
    if len(caption) > _LONGEST_NAME:
        return False
    if _EXTENSION.search(caption) and len(caption.split()) <= 4:
        return True
    return any(pattern.fullmatch(caption) for pattern in (_COUNTER, _NUMBERED, _DIGITS, _DIGEST, _NO_WORDS))


@dataclass(frozen=True, kw_only=True)
class DropFilenameCaption(Filter):
    """Drop as `caption_is_filename`."""

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        return "caption_is_filename" if score(row, "caption_is_filename") else None


@dataclass(frozen=True, kw_only=True)
class DropShortCaption(Filter):
    """Drop as `caption_too_short` what has fewer characters or words."""

    min_chars: int = 3  # characters
    min_words: int = 1  # words

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        is_short = score(row, "caption_chars") < self.min_chars or score(row, "caption_words") < self.min_words
        return "caption_too_short" if is_short else None


@dataclass(frozen=True, kw_only=True)
class DropLongCaption(Filter):
    """Drop as `caption_too_long` what has more characters."""

    max_chars: int = 1000  # characters

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        return "caption_too_long" if score(row, "caption_chars") > self.max_chars else None
