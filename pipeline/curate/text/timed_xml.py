"""Transcripts in XML: TTML (also DFXP, EBU-TT, SMPTE-TT) and YouTube's srv1 to srv3, read by defusedxml.

TTML times: https://www.w3.org/TR/ttml2/#timing-value-time-expression. The time of an element begins with that of the
element around it.
"""

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from pipeline.curate.text.cues import Open, Transcript, clock, closed, unreadable
from pipeline.curate.text.timed_json import word_time

# Apple writes no more than it needs: `1:02.345`, `0.500`.
_CLOCK = re.compile(r"(?:(?:(\d{1,4}):)?(\d{1,2}):)?(\d{1,5})(?:[.,](\d+)|:(\d+)(?:\.\d+)?)?")
_OFFSET = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s|f|t)")
_DECLARATION = re.compile(r"\A\s*<\?xml[^>]*\?>")
_BARE = re.compile(r"&(?!#?\w{1,32};)")  # written by hand
_OF_HTML = re.compile(r"&(?!(?:amp|lt|gt|quot|apos);)[A-Za-z]\w{1,31};")  # names that XML does not know
_MS_OF_SRV = {"timedtext": ("t", "d", 1000.0), "transcript": ("start", "dur", 1.0)}


def read(text: str) -> Transcript | None:
    """The cues of an XML transcript; None for XML that is none. Leaves as failed `transcript_unreadable`."""
    text = _BARE.sub("&amp;", _DECLARATION.sub("", text))
    text = _OF_HTML.sub(lambda name: html.escape(html.unescape(name[0])), text)
    try:
        root = fromstring(text)
    except DefusedXmlException as error:
        raise unreadable("XML that is not safe: it declares entities of its own") from error
    except (ParseError, ValueError):  # DefusedXmlException is one too, and was asked for first
        return None
    name = _name(root)
    if name == "tt":
        return Transcript(form="TTML", cues=closed(list(_ttml(root))))
    if name in _MS_OF_SRV:
        cues = list(_srv(root, *_MS_OF_SRV[name]))
        is_machine = any("ac" in node.keys() for node in root.iter())  # how sure the recogniser is
        return Transcript(form="YouTube srv", cues=closed(cues), is_machine=is_machine) if cues else None
    return None


def _srv(root: Element, start: str, length: str, scale: float) -> Iterator[Open]:
    for node in root.iter():
        start_s = clock(node.get(start))
        if _name(node) not in ("p", "text") or start_s is None:
            continue
        start_s /= scale
        length_s = clock(node.get(length))
        pieces = list(_pieces(node, start_s))
        if said := "".join(pieces).strip():
            yield Open(start_s=start_s, end_s=None if length_s is None else start_s + length_s / scale, text=said)


def _pieces(node: Element, start_s: float) -> Iterator[str]:
    yield node.text or ""
    for word in node:
        offset_ms = clock(word.get("t"))
        yield (word_time(start_s + offset_ms / 1000) if offset_ms else "") + (word.text or "") + (word.tail or "")


@dataclass(frozen=True, kw_only=True)
class _Rates:
    """Frames and ticks a second."""

    frames: float
    ticks: float

    def time_s(self, text: str | None) -> float | None:
        """Seconds of a time expression; None for what is none."""
        text = (text or "").strip()
        if match := _CLOCK.fullmatch(text):
            hours, minutes, secs, decimals, frames = match.groups()
            fraction = int(frames) / self.frames if frames else float(f"0.{decimals or 0}")
            return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(secs) + fraction
        if match := _OFFSET.fullmatch(text):
            units = {"h": 3600, "m": 60, "s": 1, "ms": 0.001, "f": 1 / self.frames, "t": 1 / self.ticks}
            return float(match[1]) * units[match[2]]
        return None


def _ttml(root: Element) -> Iterator[Open]:
    """A cue for each `p` that has a time, or for each `span` of one that has none. Deep trees cost no stack."""
    rates = _rates(root)
    stack = [(node, 0.0) for node in root if _name(node) == "body"]
    while stack:
        node, around_s = stack.pop()
        begin_s = rates.time_s(node.get("begin"))
        start_s = around_s + (begin_s or 0.0)
        if begin_s is not None and _name(node) in ("p", "span"):
            end_s, length_s = rates.time_s(node.get("end")), rates.time_s(node.get("dur"))
            if end_s is not None:
                end_s += around_s
            elif length_s is not None:
                end_s = start_s + length_s
            if said := _text(node):
                yield Open(start_s=start_s, end_s=end_s, text=said)
        else:
            stack += [(child, start_s) for child in node]


def _rates(root: Element) -> _Rates:
    said = {name.rpartition("}")[2]: value for name, value in root.items()}
    try:
        above, _, below = said.get("frameRateMultiplier", "1 1").replace(":", " ").partition(" ")
        frames = float(said.get("frameRate", 30)) * float(above) / float(below)
        ticks = float(said.get("tickRate", 0)) or (frames if "frameRate" in said else 1.0)
        return _Rates(frames=frames, ticks=ticks) if min(frames, ticks) > 0 else _Rates(frames=30.0, ticks=1.0)
    except (ValueError, ZeroDivisionError):
        return _Rates(frames=30.0, ticks=1.0)


def _text(node: Element) -> str:
    """The words below an element; line ends are its `br` alone, what describes it is left out."""
    pieces: list[str] = []
    stack: list[Element | str] = [node]
    while stack:
        part = stack.pop()
        if isinstance(part, str):
            pieces.append(" ".join(part.split("\n")))
            continue
        if _name(part) == "br":
            pieces.append("\n")
        elif _name(part) != "metadata":
            for child in reversed(part):
                stack += [child.tail or "", child]
            stack.append(part.text or "")
    return "\n".join(" ".join(line.split()) for line in "".join(pieces).split("\n")).strip("\n")


def _name(node: Element) -> str:
    return node.tag.rpartition("}")[2] if isinstance(node.tag, str) else ""
