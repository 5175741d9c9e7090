"""Cues, and how transcripts write times."""

import math
import re
from dataclasses import dataclass
from functools import cached_property

from pipeline.curate.stage import Leave
from pipeline.curate.text.spoken import plain

CLOCK = r"(?:(\d{1,4})\s?:\s?)?(\d{1,2})\s?:\s?(\d{1,2})(?:(?:\s?[.,]\s?|[:;](?=\d{3}\b))(\d+)(?:\.\d+)?)?"
"""A time in four groups: hours, minutes, seconds and their decimals, with what translators and editors do to it."""
_CLOCK = re.compile(rf"\s*{CLOCK}\s*")
_PACE_CHARS_PER_S = 15.0  # of speech; for a last cue that nothing else tells the end of


@dataclass(frozen=True, kw_only=True)
class Cue:
    """What is shown from `start_s` to `end_s`: raw `text` (lines, tags, entities) and raw `settings`."""

    start_s: float
    end_s: float
    text: str
    settings: str = ""

    @cached_property
    def lines(self) -> list[str]:
        """The lines as a viewer reads them; empty ones are left out."""
        return [line for line in map(plain, self.text.split("\n")) if line]


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """The cues of a file, and what else it tells.

    `form` is its format; `skipped` counts cues that could not be read; `is_machine` if only recognisers write what is
    in it; `declared` is what it says of itself: header lines and notes of WebVTT.
    """

    form: str
    cues: list[Cue]
    skipped: int = 0
    is_machine: bool = False
    declared: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Open:
    """A cue of a format that need not say where a cue ends."""

    start_s: float
    end_s: float | None
    text: str


def closed(cues: list[Open]) -> list[Cue]:
    """Cues that all end: where the next one starts, and the last as its length and the pace of the others tell."""
    cues = sorted(cues, key=lambda cue: cue.start_s)
    ends = [cue.end_s for cue in cues]
    for i, (cue, later) in enumerate(zip(cues, cues[1:], strict=False)):
        if cue.end_s is None:
            ends[i] = later.start_s
    said = [(end - cue.start_s, len(cue.text)) for cue, end in zip(cues, ends, strict=True) if end is not None]
    spent_s, chars = sum(length for length, _ in said), sum(count for _, count in said)
    pace = chars / spent_s if spent_s > 0 and chars else _PACE_CHARS_PER_S
    return [
        Cue(start_s=cue.start_s, end_s=cue.start_s + len(cue.text) / pace if end is None else end, text=cue.text)
        for cue, end in zip(cues, ends, strict=True)
    ]


def seconds(hours: str | None, minutes: str, seconds: str, fraction: str | None) -> float:
    """The groups of CLOCK in seconds; of the fraction milliseconds count."""
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + int((fraction or "0")[:3].ljust(3, "0")) / 1000


def clock(value: object) -> float | None:
    """Seconds from a number, a number as text, or a clock's time; None for what is no time."""
    if isinstance(value, str) and (match := _CLOCK.fullmatch(value)):
        return seconds(*match.groups())
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        time_s = float(value)
    except (ValueError, OverflowError):
        return None
    return time_s if 0 <= time_s < math.inf else None


def unreadable(problem: str) -> Leave:
    """The way to leave of what is no transcript that we read."""
    return Leave("failed", "transcript_unreadable", detail=problem[:300])
