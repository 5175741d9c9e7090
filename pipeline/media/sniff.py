"""What do these bytes look like? Words for the reason of whatever cannot be read: "HTML page", "AVIF", "empty".

A name is no promise that the bytes can be read as what they look like. Cost: the first kilobytes.
"""

import codecs
import re

from pipeline.media.container import id3_bytes

_HEAD_BYTES = 4096
_TEXT_SHARE = 0.95

# First bytes (at an offset) -> name; the first that fits. From the formats' own specifications, as `file` and libmagic
# collect them.
_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG"),
    (0, b"\xff\xd8\xff", "JPEG"),
    (0, b"GIF8", "GIF"),
    (0, b"BM", "BMP"),
    (0, b"II*\0", "TIFF"),
    (0, b"MM\0*", "TIFF"),
    (0, b"II+\0", "TIFF"),
    (0, b"8BPS", "Photoshop file"),
    (0, b"\0\0\1\0", "icon"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"fLaC", "FLAC"),
    (0, b"OggS", "Ogg"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska or WebM"),
    (0, b"caff", "CAF"),
    (0, b".snd", "AU"),
    (0, b"#!AMR", "AMR"),
    (0, b"MThd", "MIDI"),
    (0, b"wvpk", "WavPack"),
    (0, b"MAC ", "Monkey's Audio"),
    (0, b"FLV", "Flash video"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "Windows Media"),
    (0, b"PAR1", "Parquet"),
    (0, b"ARROW1", "Arrow file"),
    (0, b"Obj\1", "Avro"),
    (0, b"\x89HDF", "HDF5"),
    (0, b"SQLite format 3\0", "SQLite database"),
    (0, b"%PDF", "PDF"),
    (0, b"{\\rtf", "RTF"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "Office file"),
    (0, b"PK\3\4", "ZIP archive"),
    (0, b"PK\5\6", "ZIP archive"),
    (0, b"\x1f\x8b", "gzip archive"),
    (4, b"1AY&SY", "bzip2 archive"),
    (0, b"\xfd7zXZ\0", "xz archive"),
    (0, b"\x28\xb5\x2f\xfd", "Zstandard archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (0, b"Rar!", "RAR archive"),
    (257, b"ustar", "tar archive"),
    (0, b"\x7fELF", "program"),
    (0, b"MZ", "program"),
)
_RIFF = {b"WAVE": "WAV", b"WEBP": "WebP", b"AVI ": "AVI"}
_BRANDS = {
    b"avif": "AVIF",
    b"avis": "AVIF",
    b"heic": "HEIC",
    b"heix": "HEIC",
    b"hevc": "HEIC",
    b"hevx": "HEIC",
    b"mif1": "HEIC",
    b"msf1": "HEIC",
    b"M4A ": "M4A",
    b"M4B ": "M4A",
    b"qt  ": "QuickTime",
}
_ROOTS = {
    "html": "HTML page",
    "rss": "RSS feed",
    "feed": "Atom feed",
    "rdf": "RSS feed",
    "svg": "SVG",
    "mpd": "DASH playlist",
    "smil": "SMIL playlist",
    "playlist": "XSPF playlist",
    "tt": "TTML subtitles",
    "error": "XML error message",
}
# Where what stands before the root element ends: blanks, declarations, a doctype's own name, comments.
_PROLOGUE = re.compile(r"(?:\s|<\?.*?\?>|<!--.*?-->|<!doctype\b[^>\[]*(?:\[.*?\]\s*)?>)*", re.IGNORECASE | re.DOTALL)
_HTML = re.compile(
    r"<!doctype\s+html|<(?:html|head|body|title|meta|script|div|p|h1|table|iframe|a|br)\b", re.IGNORECASE
)
_ROOT = re.compile(r"<(?:[\w.-]+:)?([A-Za-z][\w.-]*)")


def what(data: bytes) -> str:
    """What the bytes look like, in a word or two that never quote them."""
    if not data:
        return "empty"
    return _binary(data) or _text(data[:_HEAD_BYTES]) or "binary data"


def _binary(data: bytes) -> str | None:
    for offset, magic, name in _MAGIC:
        is_word = len(magic) < 4 and magic.isalnum()  # such as BM: a text may begin with it, and has no zero byte
        if data.startswith(magic, offset) and not (is_word and 0 not in data[:32]):
            return name
    if data.startswith(b"ID3"):  # tags, mostly of an MP3
        behind = data[(at := id3_bytes(data)) : at + _HEAD_BYTES]
        return (_binary(behind) if at else None) or "MP3"
    if data[:4] in (b"RIFF", b"RF64", b"BW64"):
        return _RIFF.get(data[8:12], "RIFF file")
    if data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF"
    if data[4:8] == b"ftyp":
        return _brand(data)
    if len(data) > 2 and data[0] == 0xFF and data[1] & 0xF6 == 0xF0:  # MPEG's sync bits, and layer 0
        return "AAC (ADTS)"
    is_mark = data.startswith(codecs.BOM_UTF16_LE)
    if len(data) > 2 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x06 and not is_mark:
        return "MP3"
    is_stream = len(data) > 376 and data[0] == data[188] == data[376] == 0x47
    return "MPEG transport stream" if is_stream else None


def _brand(data: bytes) -> str:
    """ISO base media: the major brand, or where it is a general one a compatible one that says more."""
    size = min(int.from_bytes(data[:4], "big"), 256)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, size, 4))]
    if brands[0] in (b"mif1", b"msf1") and (b"avif" in brands or b"avis" in brands):
        return "AVIF"
    return _BRANDS.get(brands[0], "MP4")


def _text(head: bytes) -> str | None:
    """What kind of text it is; None if it is none."""
    text = _decoded(head)
    if text is None:
        return None
    stripped = text.lstrip("\ufeff \t\r\n\f")
    if not stripped:
        return "blank"
    if stripped.startswith("<"):
        return _markup(stripped)
    if stripped.startswith("#EXTM3U"):
        return "HLS playlist" if "#EXT-X-" in stripped else "M3U playlist"
    if stripped.startswith("[playlist]"):
        return "PLS playlist"
    if stripped.startswith("WEBVTT"):
        return "WebVTT"
    return "JSON" if re.match(r"[{\[]\s*[\"{\[\]}\d]", stripped) else "text"


def _markup(text: str) -> str:
    prologue = _PROLOGUE.match(text)
    rest = text[prologue.end() :] if prologue else text
    root = _ROOT.match(rest)
    name = root[1].lower() if root else ""
    if name in _ROOTS:
        return _ROOTS[name]
    if _HTML.search(text[:1024]) and not text.startswith("<?xml"):
        return "HTML page"
    return "XML"


def _decoded(head: bytes) -> str | None:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return head.decode("utf-16", "replace")
    if 0 in head:
        return None
    text = head.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace")
    printable = sum(char.isprintable() or char.isspace() for char in text)
    return text if printable >= _TEXT_SHARE * len(text) else _latin(head)


def _latin(head: bytes) -> str | None:
    """Text of single bytes: few control characters, and most of it letters of ASCII."""
    controls = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head)
    return head.decode("latin-1") if controls == 0 and sum(byte < 128 for byte in head) > 0.6 * len(head) else None
