"""What of a cue's raw text was said: without markup, descriptions of sounds, sung lines and marks of a new speaker.

A tag is markup if its name is one of the formats', if it carries attributes, or if it ends an element; any other `<` is
a character like others, as in `x < 5 and y > 3`, `I <3 you`, `List<String>`. Sounds are told by their brackets, and in
parentheses, asterisks and angle brackets by their words. Time is linear in the length of the text.
"""

import html
import re

# WebVTT (https://www.w3.org/TR/webvtt1/#webvtt-cue-text-parsing-rules), SRT's HTML, and what editors leave of SAMI.
_NAMES = "b|i|u|s|c|v|em|strong|font|ruby|rt|rp|rb|lang|span|p|div|small|big|sub|sup|tt|del|ins|strike|center|body|sync"
_TAG = re.compile(
    rf"""<(?:
        \d+:\d\d(?::\d\d)?[.,]\d+                                            # the time of a word
        | /\s*[A-Za-z][^<>]*                                                 # the end of an element
        | [A-Za-z][\w.:-]*(?:\s+[\w:-]+\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s<>"']+))+\s*/?   # attributes
        | [A-Za-z][\w.:-]*\s*/                                               # an empty element
        | (?:{_NAMES})(?:\.[^\s<>]*)?\s*                                     # with classes, as WebVTT has them
        | font\s[^<>]*                                                      # quotes that do not close
        | (?:v|lang)(?:\.[^\s<>]*)?\s[^<>=]*                                 # who speaks, or in which language
    )> | \{{\\[^{{}}]*\}}""",
    re.VERBOSE | re.IGNORECASE,
)
_BREAK_OF_ASS = re.compile(r"\\[Nh]")  # in SRT that was made of it
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_READING = re.compile(r"<rt>[^<>]*(?:</rt>)?", re.IGNORECASE)  # of the word beside it, which is said once
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]\w{1,31});|&nbsp")
_INVISIBLE = re.compile("[\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")

_BRACKETS = re.compile(r"(?:\[[^\[\]]*\]|【[^【】]*】|［[^［］]*］|〔[^〔〕]*〕)(?:\s*:)?")
_NOTE = "♩♪♫♬"
_SUNG = re.compile(
    rf"[{_NOTE}]+(?=[^{_NOTE}]*[^\s{_NOTE}])[^{_NOTE}]*[{_NOTE}]+|^\s*[{_NOTE}][^\n]*|[{_NOTE}]", re.MULTILINE
)
_ASIDE = re.compile(r"\(([^()\n]{1,60})\)|（([^（）\n]{1,30})）|\*{1,2}([^*\s][^*\n]{0,60})\*{1,2}|<([^<>\n]{1,40})>")
_STRONG = re.compile(r"\*\*([^*\n]{1,100})\*\*")  # Markdown
_OWN_LINE = re.compile(r"^[ -]{0,4}(?:\([^()\n]{1,60}\)|（[^（）\n]{1,30}）|\*[^*\n]{1,60}\*)[ ]{0,4}$", re.MULTILINE)
_TURN = re.compile(
    r"^\s*(?:>>+|[-\u2010-\u2015\u2212](?![\d>-]))\s*|(?<=[.?!\"'\u201d\u2019)] )>>+(?=\s)", re.MULTILINE
)
_LETTERS = re.compile(r"[^\W\d_]+")
# Whole words that name a sound or a manner of speaking, and stems of them in languages of many subtitles.
_SOUND = re.compile(
    r"""(?:music|musical|song|singing|sings|hums?|humming|whistl|instrumental|jingle|melody|laugh|chuckl|giggl|snicker
    |applau|clap(?:s|ping)?$|cheer(?:s|ing)$|crowd|audience|sigh|gasp|cough|sneez|sniff|sob|cry(?:ing)?$|cries$|scream
    |shout|yell|whisper|murmur|mutter|groan|moan|grunt|growl|snor|yawn|breath|inhal|exhal|clears?$|throat|inaudible
    |indistinct|unintelligible|incomprehensible|crosstalk|overlapping|chatter|silence|silent|pause|noise|static|beep|bell
    |buzz|ring(?:s|ing)$|knock|footsteps|door|gunshot|explosion|thunder|siren|bark|meow|engine|phone|typing|clicks?$
    |clicking|creak|rustl|rumbl|sound|speak(?:s|ing)$|narrat|voiceover|laughter|unk$|foreign$|playing$
    |musik|musique|música|musica|lach|rire|risas|risate|risos|gelächter|applaus|aplaus|beifall|soupir|suspir
    |музык|смех|сме[её]тся|сміх|сміється|аплодисмент|оплески|笑|音楽|音乐|拍手|掌声|박수|웃음|음악)""",
    re.VERBOSE | re.IGNORECASE,
)
_SOUND_WORDS = 6
# A line of its own in parentheses is a sound up to here; in 4,000 files longer ones were said.
_SHORT_WORDS = 4
_SENTENCE = re.compile(r"[.,:;?!\u2026\d=]")


def plain(text: str) -> str:
    """Raw cue text as a viewer reads it: no tags, entities resolved, white space tidied."""
    if "<" in text or "{" in text:
        text = _TAG.sub("", _READING.sub("", _BREAK.sub(" ", text)))
    for _ in range(2):  # players' exports escape what was escaped
        if "&" in text:
            text = _ENTITY.sub(lambda entity: html.unescape(entity[0]), text)
    if "\\" in text:
        text = _BREAK_OF_ASS.sub(" ", text)
    return " ".join(_INVISIBLE.sub("", text).split())


def spoken(text: str) -> str:
    """Plain text, of one line or several, without what nobody says; lines are joined."""
    return " ".join(_TURN.sub(" ", without_sounds(text)).split())


def without_sounds(text: str) -> str:
    """Plain lines without sounds in brackets and without what is sung."""
    if any(note in text for note in _NOTE):
        text = _SUNG.sub(" ", text)
    text = _ASIDE.sub(_aside, _OWN_LINE.sub(_own_line, _BRACKETS.sub(" ", text)))
    text = _STRONG.sub(r"\1", text)
    return "\n".join(line for line in text.split("\n") if line.strip())


def _aside(match: re.Match[str]) -> str:
    """What stands in parentheses or asterisks within a line: nothing if its words name a sound."""
    words = _LETTERS.findall(match[match.lastindex or 0])
    return " " if 0 < len(words) <= _SOUND_WORDS and any(map(_SOUND.match, words)) else match[0]


def _own_line(match: re.Match[str]) -> str:
    """The same for a line of its own, of which a few words suffice."""
    words = _LETTERS.findall(match[0])
    return " " if 0 < len(words) <= _SHORT_WORDS and not _SENTENCE.search(match[0]) else match[0]


def turns(text: str) -> list[str]:
    """The lines of a text without the dash or arrows that mark a new speaker."""
    return [line.strip() for line in _TURN.sub("", text).split("\n")]
