"""Counting words and letter case across scripts.

Scripts differ: many have no case, some write no spaces between words, some use no sentence punctuation. A measure
that means nothing for a script is None, never a number that looks like evidence.
"""

import re
from dataclasses import dataclass

# Written without spaces between words: Han, kana, Thai, Lao, Khmer, Burmese. About two characters make a word.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_TOKEN = re.compile(r"\S+")
# A mark counts where it ends a word; inside one (3.14, e.g, 10:30) it is part of the spelling.
_MARK = re.compile(
    "[.,;:!?\u2026\u0589\u060c\u061b\u061f\u06d4\u0964\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f]"
    "(?=[\\s\"'\u00bb\u201d\u2019)\\]]|[.!?]|$)"
)


@dataclass(frozen=True, kw_only=True)
class TextShape:
    """What a text looks like; ratios are shares of the words that have cased letters, None where case means nothing."""

    num_words: int
    lower_ratio: float | None
    upper_ratio: float | None
    punctuation_per_100_words: float | None


def count_words(text: str) -> int:
    """Words in any script: tokens with a letter or digit, and half of the characters of unspaced scripts."""
    unspaced = len(_UNSPACED.findall(text))
    spaced = sum(any(c.isalnum() for c in token) for token in _UNSPACED.sub(" ", text).split())
    return spaced + (unspaced + 1) // 2


def shape(text: str, min_words: int = 20) -> TextShape:
    """Case and punctuation of a text.

    Both are None below `min_words` words with cased letters, or where those are not at least half of all words: case
    and punctuation are habits of Latin, Greek, Cyrillic and Armenian; Thai has neither, Japanese subtitles leave full
    stops out, and Georgian has capitals in Unicode that nobody writes. `I`, `A` and other single letters say nothing
    about case and are not counted.
    """
    num_words = count_words(text)
    cased = [token for token in _TOKEN.findall(text) if sum(_has_case(c) for c in token) >= 2]
    if len(cased) < min_words or 2 * len(cased) < num_words:
        return TextShape(num_words=num_words, lower_ratio=None, upper_ratio=None, punctuation_per_100_words=None)
    lower = sum(token == token.lower() for token in cased)
    upper = sum(token == token.upper() for token in cased)
    return TextShape(
        num_words=num_words,
        lower_ratio=lower / len(cased),
        upper_ratio=upper / len(cased),
        punctuation_per_100_words=100 * len(_MARK.findall(text)) / num_words,
    )


def _has_case(c: str) -> bool:
    return (c.isupper() or c.islower()) and not "\u10a0" <= c <= "\u10ff"
