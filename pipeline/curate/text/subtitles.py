"""WebVTT and SRT: lines of text below a line of times with an arrow in it.

A counter or identifier above a line of times is none of the words, whether a blank line parts it from the text before
or not. It is known by its form: most cues of the file have one like it. A time line that cannot be read costs its cue;
an arrow in a text, a note or a style is text.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.curate.text.cues import CLOCK, Cue, Transcript, seconds

_TIMES = re.compile(rf"\s*{CLOCK}\s*-->\s*{CLOCK}(?:\s(.*)|)")
# Arrows as editors, translators and escaping leave them; they stand between two times.
_ARROW = re.compile(r"(\d)\s?(?:--? ?>|--?&gt;|[\u2010-\u2015\u2212]{1,2} ?>|[\u2192\u279c])\s?(?=\d{1,4}\s?:)")
_BRACKETED = re.compile(r"^\s?\[([\d:.]{5,12} --> [\d:.]{5,12})\]", re.MULTILINE)  # as Whisper prints them, a line each
_TIME_CHARS = frozenset("0123456789:.,; \t")
_COMMENT = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|$)")
_IDENTIFIER = re.compile(r"#?[\w./:-]*\d[\w./:-]*[.)]?")
_HEX = re.compile(r"[0-9a-fA-F]{8,}|\d+")
_NEAR = 9  # a counter that jumps further than this in a file that counts is a number that was said
_DECLARED = 20  # header lines and notes that are kept
_DECLARED_CHARS = 300


@dataclass(frozen=True, kw_only=True)
class _Times:
    """A line of times: its number, and the times if they can be read."""

    line: int
    start_s: float | None = None
    end_s: float = 0.0
    settings: str = ""


def read(text: str, is_vtt: bool) -> Transcript:
    """The cues of a file whose lines end at LF alone, in its order; none if there is no line of times."""
    if "-->" not in text:
        text = _ARROW.sub(r"\1 --> ", text)
    text, num_bracketed = _BRACKETED.subn(r"\1\n", text)
    lines = text.split("\n")
    times = _times(lines)
    above = _identifiers(lines, times)
    cues = []
    for place, (now, later) in enumerate(zip(times, [*times[1:], None], strict=False)):
        if now.start_s is None:
            continue
        end = len(lines) if later is None else later.line
        within = lines[now.line + 1 : end]
        if is_vtt and "" in within:  # a line of blanks alone is text; rolling captions have many
            within = within[: within.index("")]
        elif later is None:
            within = _without_last(within, above)
        elif place + 1 in above or (not is_vtt and _stands_apart(within)):
            within = _without_counter(within)
        joined = "\n".join(within).strip("\n")
        cues.append(Cue(start_s=now.start_s, end_s=now.end_s, settings=now.settings, text=joined))
    if is_vtt and cues and not any(cue.lines for cue in cues):  # every line is followed by a blank one
        return read(text, is_vtt=False)
    return Transcript(
        form="WebVTT" if is_vtt else "SRT",
        cues=cues,
        is_machine=num_bracketed > 0,
        skipped=sum(one.start_s is None for one in times),
        declared=_declared(lines) if is_vtt else (),
    )


def _times(lines: Sequence[str]) -> list[_Times]:
    found: list[_Times] = []
    in_comment = False
    for number, line in enumerate(lines):
        if not line.strip():
            in_comment = False
        elif number and not lines[number - 1].strip() and _COMMENT.match(line):
            in_comment = True
        if "-->" not in line:
            continue
        if span := _TIMES.fullmatch(line):
            parts = span.groups()
            start_s, end_s = seconds(*parts[:4]), seconds(*parts[4:8])
            found.append(_Times(line=number, start_s=start_s, end_s=end_s, settings=(parts[8] or "").strip()))
        elif not in_comment and _is_meant(line):
            found.append(_Times(line=number))
    return found


def _is_meant(line: str) -> bool:
    """True if a line with an arrow is meant for times: on one side there is nothing else than a time."""
    return any(":" in side and len(side) > 3 and _TIME_CHARS.issuperset(side) for side in line.split("-->", 1))


def _identifiers(lines: Sequence[str], times: Sequence[_Times]) -> frozenset[int]:
    """The places of the cues that have a counter or identifier directly above, or a blank line or more above."""
    above = {}
    for place, one in enumerate(times):
        line = one.line - 1
        while line >= 0 and not lines[line].strip():
            line -= 1
        if line >= 0 and _IDENTIFIER.fullmatch(name := lines[line].strip()) and len(name) <= 80:
            above[place] = name
    forms = Counter(_HEX.sub("0", name) for name in above.values())
    form, count = forms.most_common(1)[0] if forms else ("", 0)
    if 2 * count < len(times):
        return frozenset()
    alike = {place: name for place, name in above.items() if _HEX.sub("0", name) == form}
    numbers = {place: int(name) for place, name in alike.items() if name.isdecimal()}
    steps = [numbers[place + 1] - number for place, number in numbers.items() if place + 1 in numbers]
    if 2 * steps.count(1) > len(steps):  # it counts, so a number that is far off was said
        alike = {place: name for place, name in alike.items() if _follows(numbers, place)}
    return frozenset(alike)


def _follows(numbers: dict[int, int], place: int) -> bool:
    if place not in numbers or place - 1 not in numbers:
        return True
    return 0 < numbers[place] - numbers[place - 1] <= _NEAR


def _without_counter(lines: Sequence[str]) -> list[str]:
    """The lines without the last that is not blank."""
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    return list(lines[: max(end - 1, 0)])


def _stands_apart(lines: Sequence[str]) -> bool:
    """True if the last line is a number with a blank line before it, as counters of SRT have."""
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    return end > 1 and lines[end - 1].strip().isdecimal() and not lines[end - 2].strip()


def _without_last(lines: Sequence[str], above: frozenset[int]) -> list[str]:
    """The last cue's lines, less the counter of a cue that a cut file does not have any more."""
    return _without_counter(lines) if above and _stands_apart(lines) else list(lines)


def _declared(lines: Sequence[str]) -> tuple[str, ...]:
    """Header lines, and notes joined to a line each."""
    blocks = re.split(r"\n\s*\n", "\n".join(lines[:2000]))
    notes = (" ".join(block.split()) for block in blocks[1:] if block.lstrip().startswith("NOTE"))
    header = (line.strip() for line in blocks[0].strip().split("\n") if "-->" not in line)
    return tuple(line[:_DECLARED_CHARS] for line in [*header, *notes][:_DECLARED])
