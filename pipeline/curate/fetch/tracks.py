"""Transcripts that an episode offers, in the order in which they are tried.

The type is the one that is declared, else the one that the URL ends in; where both are vague, the text itself tells
when it is fetched. Untimed ones come last: nothing can be cut by them, but a `text/plain` may be an SRT.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.curate.fetch.address import as_written
from pipeline.curate.fetch.candidates import ending
from pipeline.curate.stage import Leave
from pipeline.curate.text.language import primary

# Types of transcript that carry times, best first: WebVTT also keeps what betrays a machine (settings, word times).
TYPES = {
    "vtt": "text/vtt text/webvtt application/vtt application/webvtt text/x-vtt application/x-vtt text/x-webvtt",
    "srt": """application/x-subrip application/srt text/srt application/subrip application/x-srt text/x-srt text/subrip
        text/x-subrip application/x-subtitle""",
    "ttml": "application/ttml+xml application/ttaf+xml text/ttml application/ttml",
    "json": "application/json text/json application/x-json application/podcast+json",
    "sbv": "text/sbv text/x-sbv",
    "ass": "text/x-ssa text/x-ass application/x-ass application/x-ssa",
    "lrc": "application/lrc text/lrc application/x-lrc text/x-lrc",
}
_ENDINGS = {name: name for name in ("vtt", "srt", "ttml", "json", "sbv", "ass", "lrc")} | {
    "webvtt": "vtt", "dfxp": "ttml", "json3": "json", "srv1": "ttml", "srv2": "ttml", "srv3": "ttml", "ssa": "ass",
}  # fmt: skip
_UNTIMED_ENDINGS = ("html", "htm", "pdf", "doc", "docx")
_ORDER = ("vtt", "srt", "ttml", "json", "sbv", "ass", "lrc", "", "txt", "html")
_SHORT = {media_type: short for short, types in TYPES.items() for media_type in types.split()}
UNTIMED = "html"
"""What is named, so that a reader may find it, and never fetched."""
MOST = 8
"""Transcripts of an episode that are tried at most."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """A transcript: `type` is vtt, srt, ttml, json, sbv, ass, lrc, "" (unknown), txt or html."""

    url: str
    type: str


def ranked(offers: Iterable[tuple[str, str, str]], language: str | None) -> list[Track]:
    """Offers (url, media type, language) as tracks, the fittest first, each URL once and `MOST` at most.

    In the episode's own language before in another; WebVTT, SRT, TTML, JSON, others, unknown ones, untimed ones.
    """
    own = primary(language or "")
    tracks: dict[str, tuple[bool, int, str]] = {}
    for url, media_type, spoken in offers:
        if not url.strip():
            continue
        kind = type_of(media_type, url)
        foreign = primary(spoken or "")
        rank = (own is not None and foreign is not None and foreign != own, _ORDER.index(kind), kind)
        tracks[url] = min(rank, tracks.get(url, rank))
    best = sorted(tracks.items(), key=lambda track: (track[1][2] == UNTIMED, *track[1][:2]))
    return [Track(url=url, type=kind) for url, (_, _, kind) in best[:MOST]]


def type_of(media_type: str, url: str) -> str:
    """The type of a track, by what is declared, else by the ending of its URL."""
    declared = media_type.partition(";")[0].strip().lower()
    if declared in _SHORT:
        return _SHORT[declared]
    suffix = ending(url)
    if suffix in _ENDINGS:
        return _ENDINGS[suffix]
    if declared in ("text/html", "application/xhtml+xml", "application/pdf") or suffix in _UNTIMED_ENDINGS:
        return UNTIMED
    return "txt" if declared == "text/plain" or suffix in ("txt", "md") else ""


def column(tracks: Iterable[Track], base: str | None) -> str | None:
    """Tracks with times as the column `more_transcripts` holds them: a line each, type and absolute URL; None if there
    is none."""
    lines = []
    for track in tracks:
        try:
            if track.type != UNTIMED:
                lines.append(f"{track.type or '-'} {as_written(track.url, base)}")
        except Leave:
            continue
    return "\n".join(lines) or None


def from_column(text: str | None) -> list[Track]:
    """The tracks of a column."""
    pairs = (line.split(" ", 1) for line in (text or "").split("\n") if " " in line)
    return [Track(url=url, type="" if kind == "-" else kind) for kind, url in pairs]
