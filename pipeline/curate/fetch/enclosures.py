"""Which of an episode's files is its sound: chosen by type, as players do.

Files are RSS and Atom enclosures, `media:content` (https://www.rssboard.org/media-rss), also in a group, and
`podcast:alternateEnclosure`. Sound comes before what says nothing of itself, that before video; a picture, a text or a
playlist is no episode.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urljoin
from xml.etree.ElementTree import Element

from pipeline.curate.fetch.candidates import ending

_XML_BASE = "{http://www.w3.org/XML/1998/namespace}base"
_SOUND, _UNSAID, _DOUBTFUL, _VIDEO, _NONE = range(5)
_VAGUE = ("", "application/octet-stream", "binary/octet-stream", "application/force-download", "application/x-download")
_PLAYLISTS = ("mpegurl", "x-mpegurl", "vnd.apple.mpegurl", "x-scpls", "dash+xml", "x-pn-realaudio", "vnd.ms-wpl")
_ENDINGS = {
    _SOUND: "mp3 m4a m4b aac ogg oga opus flac wav aif aiff aifc caf wma mka weba mp2 mpga ac3 amr au".split(),
    _VIDEO: "mp4 m4v mov webm mkv avi mpg mpeg wmv flv ogv 3gp ts".split(),
    _NONE: """jpg jpeg png gif webp avif heic svg bmp tif tiff ico pdf epub mobi doc docx txt htm html xml json zip rar
        torrent m3u m3u8 pls mpd vtt srt""".split(),
}
_RANKS = {ending: rank for rank, endings in _ENDINGS.items() for ending in endings}


@dataclass(frozen=True, kw_only=True)
class File:
    """A file that an item names; `rank` orders by kind, 0 is sound; `base` is what its URL is relative to."""

    url: str
    length: str | None
    type: str
    rank: int
    is_default: bool
    base: str

    @property
    def is_episode(self) -> bool:
        """False for what no player would play."""
        return self.rank < _NONE


def choose(item: Element, base: str) -> File | None:
    """The item's sound, or the likeliest file; of equals the default, then the first. None if it names no file."""
    return min(_files(item, base), key=lambda file: (file.rank, not file.is_default), default=None)


def name_of(node: Element) -> str:
    """An element's name without its namespace, in small letters: feeds spell `<Item>` too."""
    return node.tag.rpartition("}")[2].lower() if isinstance(node.tag, str) else ""


def attribute(node: Element, *names: str) -> str:
    """The first of these attributes that is there and not blank, in any namespace and any case; "" if none is."""
    values = {name.rpartition("}")[2].lower(): value.strip() for name, value in node.items()}
    return next((values[name] for name in names if values.get(name)), "")


def base_of(node: Element, around: str) -> str:
    """What URLs in an element are relative to: `xml:base`, if it leads to the web."""
    written = (node.get(_XML_BASE) or node.get("xml:base") or "").strip()
    try:
        joined = urljoin(around, written) if written else around
    except ValueError:
        return around
    return joined if joined.lower().startswith(("http://", "https://")) else around


def _files(item: Element, base: str) -> Iterator[File]:
    for node in item:
        name, around = name_of(node), base_of(node, base)
        if name == "enclosure":
            yield from _file(node, around, (node.text or "").strip(), is_default=True)
        elif name == "link" and attribute(node, "rel").lower() == "enclosure":
            yield from _file(node, around, is_default=True)
        elif name == "content" and attribute(node, "url", "src"):
            yield from _file(node, around)
        elif name == "group":
            for content in node:
                if name_of(content) == "content":
                    yield from _file(content, base_of(content, around))
        elif name == "alternateenclosure":
            yield from _alternate(node, around)


def _alternate(node: Element, base: str) -> Iterator[File]:
    """Its sources on the web: others are for IPFS, torrents and the like."""
    for source in node:
        url = attribute(source, "uri", "url", "src")
        if name_of(source) == "source" and url.partition(":")[0].lower() not in ("ipfs", "magnet", "ipns", "dat"):
            kind = attribute(source, "contenttype", "type") or attribute(node, "type")
            is_default = attribute(node, "default").lower() == "true"
            yield _ranked(url, attribute(node, "length"), kind, "", base=base, is_default=is_default)


def _file(node: Element, base: str, text: str = "", *, is_default: bool = False) -> Iterator[File]:
    url = attribute(node, "url", "href", "src", "resource") or text
    if url:
        is_default = is_default or attribute(node, "isdefault").lower() == "true"
        kind, medium = attribute(node, "type"), attribute(node, "medium")
        length = attribute(node, "length", "filesize")
        yield _ranked(url, length, kind, medium, base=base, is_default=is_default)


def _ranked(url: str, length: str, kind: str, medium: str, *, base: str, is_default: bool) -> File:
    kind = kind.partition(";")[0].strip().lower()
    return File(
        url=url,
        length=length or None,
        type=kind or medium.lower() or ending(url),
        rank=_rank(kind, medium.lower(), ending(url)),
        is_default=is_default,
        base=base,
    )


def _rank(kind: str, medium: str, suffix: str) -> int:
    by_ending = _RANKS.get(suffix, _UNSAID)
    family, _, name = kind.partition("/")
    if name in _PLAYLISTS or (suffix in ("m3u", "m3u8", "pls", "mpd") and family != "audio"):
        return _NONE
    if family in ("audio", "video") or kind in ("application/ogg", "application/mp4", "application/x-ogg"):
        return _VIDEO if family == "video" and by_ending != _SOUND else _SOUND
    if kind in _VAGUE:
        of_medium = {"audio": _SOUND, "video": _VIDEO, "image": _NONE, "document": _NONE, "executable": _NONE}
        return of_medium.get(medium, by_ending)
    # Its type denies it, and servers declare defaults: what ends like sound is tried where nothing better is.
    return _DOUBTFUL if by_ending in (_SOUND, _VIDEO) else _NONE
