"""Transcripts of the demo's episodes: as careful people write them, and as machines do.

The machine kinds imitate what really circulates: a recogniser's bare lower-case words, broadcast captions in capitals,
and the rolling two-line captions of a video platform, in which each line is shown twice and each word carries a time.
"""

import html
import textwrap
from collections.abc import Sequence
from dataclasses import replace

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
    return [replace(cue, text=" ".join(words(cue.text))) for cue in cues]


def upper_case(cues: Sequence[Cue]) -> list[Cue]:
    """Broadcast captions: capitals throughout, punctuation kept."""
    return [replace(cue, text=cue.text.upper()) for cue in cues]


def in_words(cues: Sequence[Cue], lines: Sequence[str]) -> list[Cue]:
    """The same times, other words."""
    return [replace(cue, text=line) for cue, line in zip(cues, lines, strict=True)]


def rolling(cues: Sequence[Cue]) -> str:
    """WebVTT as platforms generate it: the previous line stays on top while the next one appears word by word."""
    blocks = ["WEBVTT\nKind: captions\nLanguage: en\n"]
    above = " "
    for line in _lines(lower_case(cues)):
        # 10 ms cues that repeat the finished line alone are how the roll is made
        end_s = line.end_s - 0.01
        shown = replace(line, end_s=end_s)
        finished = replace(line, start_s=end_s)
        blocks.append(f"{_span(shown)} align:start position:0%\n{above}\n{_word_timed(line)}\n")
        blocks.append(f"{_span(finished)} align:start position:0%\n{line.text}\n \n")
        above = line.text
    return "\n".join(blocks)


def words(text: str) -> list[str]:
    """Lower-case words without punctuation; apostrophes inside a word stay."""
    # The apostrophe of typesetters as well as that of keyboards.
    letters = "".join(c if c.isalnum() or c in "'’" else " " for c in text.lower())
    stripped = [part.strip("'’") for part in letters.split()]
    return [word for word in stripped if word]


def _lines(cues: Sequence[Cue]) -> list[Cue]:
    """Cues cut to lines; each gets its part of the time in proportion to its letters."""
    lines = []
    for cue in cues:
        per_char_s = (cue.end_s - cue.start_s) / len(cue.text)
        start_s = cue.start_s
        for text in textwrap.wrap(cue.text, 32):  # characters: what platforms show at once
            end_s = min(start_s + (len(text) + 1) * per_char_s, cue.end_s)
            lines.append(Cue(start_s=start_s, end_s=end_s, text=text))
            start_s = end_s
    return lines


def _word_timed(line: Cue) -> str:
    """The line with a time before each word but the first, as far in as its letters are."""
    before, *others = line.text.split()
    per_char_s = (line.end_s - line.start_s) / (len(line.text) + 1)
    time_s = line.start_s
    markup = before
    for word in others:
        time_s += (len(before) + 1) * per_char_s
        markup += f"<{_time(time_s)}><c> {word}</c>"
        before = word
    return markup


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, LINE_CHARS))


def _span(cue: Cue) -> str:
    return f"{_time(cue.start_s)} --> {_time(cue.end_s)}"


def _time(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    minutes, milliseconds = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{milliseconds // 1000:02d}.{milliseconds % 1000:03d}"
