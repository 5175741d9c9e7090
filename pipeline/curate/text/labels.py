"""Names of speakers at the beginning of what they say, which nobody speaks: `JOHN:`, `Speaker 2:`, `Ann Lee:`.

A label is a word for a speaker with or without a number, or capitals, or a name that comes back through the file.
Words that begin a sentence are none ("Note: this is", "Chapter one: the", "10:30"): a word that the file also writes
in small letters is no name.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from pipeline.curate.text.cues import Cue
from pipeline.curate.text.spoken import turns, without_sounds

_LABEL = re.compile(r"([^\W\d_][^:\uff1a\n]{0,39}?)\s?(?::(?=\s|$)|\uff1a)\s*|\(([^()\n]{1,40})\)\s?:\s*")
_SPEAKER = re.compile(
    r"""(?:unknown[ ])?(?:speaker|spk|spkr|voice|interviewer|interviewee|narrator|moderator|announcer|presenter|host
    |co-?host|guest|caller|participant|questioner|respondent|sprecher(?:in)?|moderator(?:in)?|locut(?:eur|rice)
    |locutora?|orador[a]?|intervenant|intervenante|entrevistador[a]?|interlocut(?:or|ora|eur|ore)|спикер|ведущий
    |говорящий|主持人|嘉宾|记者|旁白|说话人|发言人|話者|司会|화자|진행자)[ _]?\#?(?:\d{1,3}|[A-Z])?""",
    re.VERBOSE | re.IGNORECASE,
)
_NUMBERED = re.compile(
    r"(?:man|woman|male|female|boy|girl|person|student|audience(?: member)?) ?#?\d{1,2}", re.IGNORECASE
)
_PARTICLES = frozenset("de da di del der den van von la le el al bin ibn y e und and of the".split())
# Words that begin a sentence with a colon in English and its neighbours.
_WORDS = frozenset(
    """
    note notes question questions answer answers example examples remember chapter section part step steps rule number
    point lesson tip tips warning fact facts reason problem solution result results conclusion summary first second
    third fourth last finally next one two three four five six so and but or now here then ok okay well yes no yeah also
    today tomorrow plus again see look listen think ask i you he she they we it this that these those there the a an my
    your our what who why how when where which because title subject warning update exercise theorem lemma proof
    definition case option scenario spoiler disclaimer quote ps nb fyi faq diy todo usa eu uk tv ai it pc url http https
    """.split()
)
_LETTERS = re.compile(r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*")
_SHORT = 3  # letters: of capitals that may be a word said by its letters
_MOST = 4  # words of a name


def said(cues: Sequence[Cue]) -> list[str]:
    """The words spoken in each cue: no sounds, no marks of a new speaker, no labels; "" for a cue without any."""
    lines = [turns(without_sounds("\n".join(cue.lines))) for cue in cues]
    labels = speakers(line for cue in lines for line in cue)
    return [" ".join(" ".join(_without_label(line, labels) for line in cue).split()) for cue in lines]


def speakers(lines: Iterable[str]) -> frozenset[str]:
    """The labels that these lines begin with."""
    small: set[str] = set()
    names: Counter[str] = Counter()
    capitals = others = 0
    num_lines = 0
    for line in lines:
        num_lines += bool(line)
        name = next(filter(None, _names(line)), "")
        names[name] += bool(name)
        for word in _LETTERS.findall(line.partition(":")[2] if name else line):
            is_small, is_capital = word.islower(), word.isupper() and len(word) > 1
            capitals += is_capital
            others += not is_capital
            if is_small:
                small.add(word)
    is_shouted = capitals > others
    sure = {name for name in names if _is_sure(name) or (not is_shouted and _is_capital(name))}
    perhaps = {name for name in names.keys() - sure if _is_name(name, small)}
    repeated = {name for name in perhaps if names[name] > 1}
    # A short file may name each of its speakers once.
    is_each = len(perhaps) > 1 and 5 * (names.total() - names[""]) >= 4 * num_lines
    is_labelled = bool(repeated) or is_each or sum(names[name] for name in sure) > 1
    return frozenset(sure | repeated | (perhaps if is_labelled and not is_shouted else set()))


def _names(line: str) -> Iterator[str]:
    if label := _LABEL.match(line):
        yield from (part.strip() for part in label.groups() if part)


def _without_label(line: str, labels: frozenset[str]) -> str:
    label = _LABEL.match(line)
    is_label = label is not None and (label[2] is not None or next(_names(line), "") in labels)
    return line[label.end() :] if label and is_label else line


def _is_sure(name: str) -> bool:
    return not name[:1].islower() and bool(_SPEAKER.fullmatch(name) or _NUMBERED.fullmatch(name)) or "SPEAKER_" in name


def _is_capital(name: str) -> bool:
    """Capitals of more letters than a word has that is said by its letters."""
    words = _LETTERS.findall(name)
    letters = sum(map(len, words))
    is_word = any(word.lower() in _WORDS for word in words[:1]) and len(words) == 1
    return name.isupper() and letters > _SHORT and len(words) <= _MOST and not is_word


def _is_name(name: str, small: set[str]) -> bool:
    """Words with a capital each, of which the file writes none in small letters."""
    name = re.sub(r"\s*\([^()]*\)$", "", name)
    words = _LETTERS.findall(name)
    if not 0 < len(words) <= _MOST or any(char.isdigit() for char in name) or set(name) & set('?!;,"()'):
        return False
    proper = [word for word in words if word.lower() not in _PARTICLES]
    is_proper = all(word[0].isupper() or word[0].lower() == word[0].upper() for word in proper)
    is_cased = any(word[0].isupper() for word in proper)
    return is_proper and is_cased and not any(word.lower() in small or word.lower() in _WORDS for word in proper)
