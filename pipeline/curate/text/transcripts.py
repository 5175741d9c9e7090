"""Timed transcripts: WebVTT, SRT and podcast JSON, read into cues.

Cues keep their raw text, line by line, with tags and settings, because these betray how a transcript was made. The
reader forgives what players forgive (missing header, comma or point, missing hours, counters, text after blank lines
in SRT, a few cues that end before they start) and refuses what would misplace words: a cue time that cannot be read.
"""

import html
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipeline.curate.stage import Leave

_TIME = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})[.,](\d+)(?:\.\d+)?"
_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}(.*)")
_MAX_BACKWARD = 0.05  # share of cues that may end before they start
_TAG = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")  # HTML-like tags of WebVTT and SRT, override blocks of ASS
_SOUND = re.compile(r"\[[^\[\]]*\]|♪|♫|^\s*>>+", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Cue:
    """What is shown from `start_s` to `end_s`: raw `text` (lines, tags, entities) and raw `settings`."""

    start_s: float
    end_s: float
    text: str
    settings: str = ""

    @property
    def lines(self) -> list[str]:
        """The lines as a viewer reads them; empty ones are left out."""
        return [line for line in map(plain, self.text.split("\n")) if line]


def plain(text: str) -> str:
    """Raw cue text as a viewer reads it: no tags, entities resolved, white space tidied."""
    return " ".join(html.unescape(_TAG.sub("", text)).replace("\u200b", "").split())


def spoken(text: str) -> str:
    """Plain text without sound descriptions in brackets, notes of music, and marks of a new speaker."""
    return " ".join(_SOUND.sub(" ", text).split())


def read_transcript(text: str) -> list[Cue]:
    """The cues of a transcript, in order of time; the format is told from the text itself.

    A cue that ends before it starts, as slips of editors' hands leave one now and then, covers both of its times, so
    that it overlaps its neighbours and is not parted from them. Leaves as failed `transcript_unreadable`: no cue, a
    time that is none, more than one cue in twenty that runs backwards.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    start = text.lstrip()
    if start.startswith(("{", "[")) and "-->" not in start[:1000]:
        cues = list(_json_cues(start))
    else:
        cues = list(_timed_cues(text, is_vtt=start.startswith("WEBVTT")))
    if not cues:
        raise _unreadable(f"no cue; it starts {start[:60]!r}")
    backward = [cue for cue in cues if cue.end_s < cue.start_s]
    if len(backward) > _MAX_BACKWARD * len(cues):
        first = backward[0]
        raise _unreadable(f"{len(backward)} of {len(cues)} cues run backwards, the first at {first.start_s:g} s")
    upright = [replace(cue, start_s=min(cue.start_s, cue.end_s), end_s=max(cue.start_s, cue.end_s)) for cue in cues]
    return sorted(upright, key=lambda cue: cue.start_s)


def _timed_cues(text: str, is_vtt: bool) -> Iterator[Cue]:
    times: tuple[float, float, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if "-->" in line:
            span = _TIMES.fullmatch(line)
            if span is None:
                raise _unreadable(f"line {number} has no cue time: {line[:60]!r}")
            if times is not None:
                yield _cue(times, lines if is_vtt else _without_counter(lines))
            parts = span.groups()
            times, lines = (_seconds(*parts[:4]), _seconds(*parts[4:8]), parts[8].strip()), []
        elif times is not None:
            if is_vtt and not line:  # a line of blanks alone is text; rolling captions have many
                yield _cue(times, lines)
                times = None
            else:
                lines.append(line)
    if times is not None:
        yield _cue(times, lines)


def _without_counter(lines: list[str]) -> list[str]:
    """SRT lines up to the next time, less the next cue's counter, which a blank line parts from the text."""
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    has_counter = end and lines[end - 1].strip().isdecimal() and (end == 1 or not lines[end - 2].strip())
    return lines[: end - 1] if has_counter else lines


def _cue(times: tuple[float, float, str], lines: list[str]) -> Cue:
    return Cue(start_s=times[0], end_s=times[1], settings=times[2], text="\n".join(lines).strip("\n"))


def _seconds(hours: str | None, minutes: str, seconds: str, fraction: str) -> float:
    return int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds) + int(fraction[:3].ljust(3, "0")) / 1000


def _json_cues(text: str) -> Iterator[Cue]:
    """Podcast namespace, transcripts.md: `segments` of startTime, endTime, body."""
    try:
        parsed = json.loads(text)
        segments = parsed["segments"] if isinstance(parsed, dict) else parsed
        for segment in segments:
            start_s, end_s = float(segment["startTime"]), float(segment["endTime"])
            if not (0 <= start_s < math.inf and 0 <= end_s < math.inf):
                raise ValueError(f"a segment from {start_s} to {end_s}")
            yield Cue(start_s=start_s, end_s=end_s, text=html.escape(str(segment["body"]), quote=False))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise _unreadable(f"JSON without proper segments: {type(error).__name__} {error}") from error


def _unreadable(problem: str) -> Leave:
    return Leave("failed", "transcript_unreadable", detail=problem[:300])
