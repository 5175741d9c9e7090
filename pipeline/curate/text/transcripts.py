"""Timed transcripts of every format that publishers and players use, read into cues; the format is told from the text.

Cues keep their raw text, line by line, with tags and settings, because these betray how a transcript was made. The
reader forgives what players forgive (missing header, comma or point, missing hours or milliseconds, counters, text
after blank lines in SRT, one cue in twenty that cannot be read or ends before it starts) and refuses the rest by name.
"""

import re
from dataclasses import replace

from pipeline.curate.text import subtitles, timed_json, timed_lines, timed_xml
from pipeline.curate.text.cues import Cue, Transcript, unreadable
from pipeline.curate.text.spoken import plain, spoken
from pipeline.media.sniff import what

__all__ = ["Cue", "Transcript", "plain", "read_file", "read_transcript", "spoken"]

_MAX_SLIPS = 0.05  # share of cues that may be unreadable or end before they start
_ONE_SLIP_IN = 5  # cues: in fewer, one is already too many
_JSON = re.compile(r"\{\s*[\"}]|\{\Z|\[\s*[\[{\"\]]|\[\s*-?\d+(?:\.\d+)?\s*,")
_NAMED = (
    (re.compile(r"\s*<sami\b", re.IGNORECASE), "SAMI subtitles"),
    (re.compile(r"\s*\{\d+\}\{\d*\}"), "MicroDVD subtitles, which count frames"),
    (re.compile(r"\s*\[\d+\]\[\d+\]"), "MPL2 subtitles"),
    (re.compile(r"\s*WEBVTT\b"), "WebVTT without a cue"),
)


def read_transcript(text: str) -> list[Cue]:
    """The cues of a transcript, in order of time; leaves as `read_file` does."""
    return read_file(text).cues


def read_file(text: str) -> Transcript:
    """A transcript, its cues in order of time.

    A cue that ends before it starts, as slips of editors' hands leave one now and then, covers both of its times, so
    that it overlaps its neighbours and is not parted from them. Leaves as failed `transcript_unreadable`: no cue, or
    more than one cue in twenty that cannot be read or runs backwards. The detail says what the text is.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")
    found = _read(text)
    cues = [cue for cue in found.cues if cue.start_s != cue.end_s or cue.lines]
    if not cues:
        raise unreadable(f"{found.form} without a cue that can be read")
    backward = sum(cue.end_s < cue.start_s for cue in cues)
    slips, total = backward + found.skipped, len(cues) + found.skipped
    if slips > _MAX_SLIPS * total and (slips > 1 or total < _ONE_SLIP_IN):
        told = (
            f"{backward} of {total} cues run backwards"
            if backward
            else f"{found.skipped} of {total} cues have no times"
        )
        raise unreadable(f"{found.form} in which {told}")
    upright = [replace(cue, start_s=min(cue.start_s, cue.end_s), end_s=max(cue.start_s, cue.end_s)) for cue in cues]
    return replace(found, cues=sorted(upright, key=lambda cue: cue.start_s))


def _read(text: str) -> Transcript:
    start = text[:4096].lstrip()
    if _JSON.match(start) and "-->" not in start[:1000]:
        return timed_json.read(text)
    if start.startswith("<") and (found := timed_xml.read(text)) is not None:
        return found
    found = subtitles.read(text, is_vtt=start.startswith("WEBVTT"))
    if found.cues or found.skipped:
        return found
    if (other := timed_lines.read(text)) is not None:
        return other
    raise unreadable(_looks_like(text))


def _looks_like(text: str) -> str:
    """What a text without cues is."""
    name = next((name for form, name in _NAMED if form.match(text)), None)
    kind = name or what(text[:4096].encode("utf-8", "replace"))
    return "text without times" if kind == "text" else kind
