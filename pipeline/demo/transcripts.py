"""Transcripts of the demo's episodes: as careful people write them, and as machines do.

The machine kinds imitate what really circulates: a recogniser's bare lower-case words, broadcast captions in capitals,
and the rolling two-line captions of a video platform, in which each line is shown twice and each word carries a time.
"""

import html
import textwrap
from collections.abc import Sequence

from pipeline.demo.speech import Cue

LINE_CHARS = 42
"""A subtitle line of usual length."""


def vtt(cues: Sequence[Cue], note: str = "") -> str:
    """WebVTT, one cue a sentence, wrapped to two or three lines."""
    head = ["WEBVTT", *(["", f"NOTE {note}"] if note else []), ""]
    return "\n".join(head + [f"{_span(cue)}\n{_wrapped(html.escape(cue.text, quote=False))}\n" for cue in cues])


def srt(cues: Sequence[Cue]) -> str:
    """SubRip with the line ends that Windows tools write."""
    lines = (f"{i}\n{_span(cue).replace('.', ',')}\n{_wrapped(cue.text)}\n" for i, cue in enumerate(cues, 1))
    return "\n".join(lines).replace("\n", "\r\n")


def lower_case(cues: Sequence[Cue]) -> list[Cue]:
    """What a speech recogniser without a punctuation model writes."""
    return [_with_text(cue, " ".join(words(cue.text))) for cue in cues]


def upper_case(cues: Sequence[Cue]) -> list[Cue]:
    """Broadcast captions: capitals throughout, punctuation kept."""
    return [_with_text(cue, cue.text.upper()) for cue in cues]


def in_words(cues: Sequence[Cue], lines: Sequence[str]) -> list[Cue]:
    """The same times, other words."""
    return [_with_text(cue, line) for cue, line in zip(cues, lines, strict=True)]


def rolling(cues: Sequence[Cue]) -> str:
    """WebVTT as platforms generate it: the previous line stays on top while the next one appears word by word."""
    out = ["WEBVTT\nKind: captions\nLanguage: en\n"]
    above = " "
    for line in _lines(lower_case(cues)):
        # 10 ms cues that repeat the finished line alone are how the roll is made
        end_s = line.end_s - 0.01
        out.append(
            f"{_span(Cue(start_s=line.start_s, end_s=end_s, text=''))} align:start position:0%\n"
            f"{above}\n{_word_timed(line)}\n"
        )
        out.append(f"{_span(Cue(start_s=end_s, end_s=line.end_s, text=''))} align:start position:0%\n{line.text}\n \n")
        above = line.text
    return "\n".join(out)


def words(text: str) -> list[str]:
    """Lower-case words without punctuation; apostrophes inside a word stay."""
    kept = "".join(c if c.isalnum() or c in "'’" else " " for c in text.lower())
    return [word for word in (part.strip("'’") for part in kept.split()) if word]


def _lines(cues: Sequence[Cue]) -> list[Cue]:
    """Cues cut to lines; each gets its part of the time in proportion to its letters."""
    found = []
    for cue in cues:
        at, per_char_s = cue.start_s, (cue.end_s - cue.start_s) / len(cue.text)
        for text in textwrap.wrap(cue.text, 32):
            end_s = min(at + (len(text) + 1) * per_char_s, cue.end_s)
            found.append(Cue(start_s=at, end_s=end_s, text=text))
            at = end_s
    return found


def _word_timed(line: Cue) -> str:
    first, *others = line.text.split()
    at, per_char_s, out = line.start_s, (line.end_s - line.start_s) / (len(line.text) + 1), first
    before = first
    for word in others:
        at += (len(before) + 1) * per_char_s
        out += f"<{_time(at)}><c> {word}</c>"
        before = word
    return out


def _with_text(cue: Cue, text: str) -> Cue:
    return Cue(start_s=cue.start_s, end_s=cue.end_s, text=text)


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, LINE_CHARS))


def _span(cue: Cue) -> str:
    return f"{_time(cue.start_s)} --> {_time(cue.end_s)}"


def _time(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d}.{milliseconds % 1000:03d}"
