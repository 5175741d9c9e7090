"""Formats of lines without an arrow: YouTube's SBV and SubViewer, lyrics (LRC), Advanced SubStation (ASS, SSA), and the
table that Whisper writes."""

import re
from collections.abc import Callable, Iterator

from pipeline.curate.text.cues import Cue, Open, Transcript, clock, closed

_PAIR = re.compile(r"\s*(\d{1,2}:\d\d:\d\d\.\d{1,3}),(\d{1,2}:\d\d:\d\d\.\d{1,3})\s*")
_STAMPS = re.compile(r"\s*((?:\[\d{1,3}:\d{1,2}(?:[.:]\d{1,3})?\])+)(.*)")
_STAMP = re.compile(r"\[(\d{1,3}):(\d{1,2})(?:[.:](\d{1,3}))?\]")
_OFFSET = re.compile(r"\[offset:\s*([+-]?\d{1,6})\s*\]", re.IGNORECASE)
_EVENT = re.compile(r"Dialogue\s*:\s*(.*)", re.IGNORECASE)
_COLUMNS = "layer start end style name marginl marginr marginv effect text".split()
_DRAWING = re.compile(r"\{[^{}]*\\p[1-9]")
_REMARK = re.compile(r"\{[^{}\\]*\}")  # braces without a backslash show nothing


def read(text: str) -> Transcript | None:
    """The cues of a file in one of these formats; None if it is in none of them."""
    readers: tuple[tuple[str, Callable[[str], Iterator[Cue]]], ...] = (
        ("SBV", _sbv),
        ("ASS", _ass),
        ("LRC", _lrc),
        ("Whisper TSV", _tsv),
    )
    for form, reader in readers:
        if cues := list(reader(text)):
            return Transcript(form=form, cues=cues, is_machine=reader is _tsv)
    return None


def _sbv(text: str) -> Iterator[Cue]:
    times: tuple[str, ...] | None = None
    lines: list[str] = []
    for line in [*text.split("\n"), ""]:
        if pair := _PAIR.fullmatch(line):
            times, lines = pair.groups(), []
        elif times is not None and line.strip():
            lines.append(line.replace("[br]", "\n"))
        elif times is not None:
            start_s, end_s = clock(times[0]), clock(times[1])
            assert start_s is not None and end_s is not None
            yield Cue(start_s=start_s, end_s=end_s, text="\n".join(lines))
            times = None


def _tsv(text: str) -> Iterator[Cue]:
    """Milliseconds, milliseconds, words."""
    header, _, rest = text.partition("\n")
    for line in rest.split("\n") if header.split() == ["start", "end", "text"] else []:
        start, _, more = line.partition("\t")
        end, _, said = more.partition("\t")
        start_ms, end_ms = clock(start), clock(end)
        if start_ms is not None and end_ms is not None:
            yield Cue(start_s=start_ms / 1000, end_s=end_ms / 1000, text=said)


def _lrc(text: str) -> Iterator[Cue]:
    shift = _OFFSET.search(text[:4000])
    offset_s = int(shift[1]) / 1000 if shift else 0.0  # positive: shown earlier
    sung = []
    for line in text.split("\n"):
        if stamped := _STAMPS.fullmatch(line):
            for minutes, secs, fraction in _STAMP.findall(stamped[1]):
                time_s = int(minutes) * 60 + int(secs) + int(fraction or 0) / 10 ** len(fraction)
                sung.append(Open(start_s=max(0.0, time_s - offset_s), end_s=None, text=stamped[2]))
    yield from closed(sung)


def _ass(text: str) -> Iterator[Cue]:
    columns = _COLUMNS
    in_events = "[events]" not in text.lower()
    for line in text.split("\n"):
        name, _, rest = line.partition(":")
        if line.startswith("["):
            in_events = line.strip().lower() == "[events]"
        elif in_events and name.strip().lower() == "format":
            columns = [column.strip().lower() for column in rest.split(",")]
        elif in_events and (event := _EVENT.match(line)):
            values = dict(zip(columns, event[1].split(",", len(columns) - 1), strict=False))
            start_s, end_s = clock(values.get("start")), clock(values.get("end"))
            said = values.get("text", "")
            if start_s is not None and end_s is not None and not _DRAWING.search(said):
                said = re.sub(r"\\[Nn]", "\n", _REMARK.sub("", said)).replace("\\h", " ")
                yield Cue(start_s=start_s, end_s=end_s, text=said)
