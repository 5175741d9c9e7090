"""What bytes look like, in words."""

import pytest

from pipeline.media.sniff import what


def box(brand: bytes, *compatible: bytes) -> bytes:
    body = b"ftyp" + brand + bytes(4) + b"".join(compatible)
    return (len(body) + 4).to_bytes(4, "big") + body + bytes(64)


LOOKS = {
    b"": "empty",
    b" \n\t": "blank",
    b"hello": "text",
    "日本の猫".encode(): "text",
    "caf\u00e9 and so on".encode("latin-1"): "text",
    "h\u00e9llo there".encode("utf-16"): "text",
    bytes(range(256)): "binary data",
    bytes(100): "binary data",
    b"<!DOCTYPE html><html><body>": "HTML page",
    b"\n\n<HTML><HEAD>": "HTML page",
    b"<!-- x --><!doctype html SYSTEM 'about:legacy-compat'>\n<p>": "HTML page",
    b"<div>login</div>": "HTML page",
    b"\xef\xbb\xbf<html>": "HTML page",
    "<!doctype html><title>é</title>".encode("utf-16"): "HTML page",
    b'<?xml version="1.0"?>\n<rss version="2.0">': "RSS feed",
    b'<?xml version="1.0"?><!-- a --><feed xmlns="http://www.w3.org/2005/Atom">': "Atom feed",
    b'<?xml version="1.0"?><rdf:RDF xmlns="x">': "RSS feed",
    b'<?xml version="1.0"?><!DOCTYPE svg PUBLIC "-//W3C" "http://x" [<!ENTITY a "b">]><svg>': "SVG",
    b"<svg xmlns='http://www.w3.org/2000/svg'>": "SVG",
    b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011">': "DASH playlist",
    b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>": "XML error message",
    b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml">': "HTML page",
    b'<?xml version="1.0"?><opml>': "XML",
    b'{"error": 1}': "JSON",
    b'[{"a": 1}]': "JSON",
    b"[tag] words": "text",
    b"#EXTM3U\n#EXT-X-VERSION:3\n": "HLS playlist",
    b"#EXTM3U\nhttp://x/a.mp3\n": "M3U playlist",
    b"WEBVTT\n\n00:00": "WebVTT",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff\xe0\0\x10JFIF": "JPEG",
    b"GIF89a": "GIF",
    b"RIFF\0\0\0\0WEBPVP8 ": "WebP",
    b"BM\x36\0\0\0\0\0": "BMP",
    b"BMW cars are": "text",
    b"II*\0\x08\0\0\0": "TIFF",
    b"MM\0*\0\0\0\x08": "TIFF",
    box(b"avif", b"mif1"): "AVIF",
    box(b"mif1", b"avif", b"miaf"): "AVIF",
    box(b"heic", b"mif1"): "HEIC",
    box(b"mif1", b"heic"): "HEIC",
    box(b"isom", b"mp41"): "MP4",
    box(b"M4A "): "M4A",
    box(b"qt  "): "QuickTime",
    b"\xff\x0a\0": "JPEG XL",
    b"ID3\x03\0\0\0": "MP3",
    b"ID3\x03\0\0\0\0\0\4abcdfLaC": "FLAC",
    b"ID3\x03\0\0\0\0\0\1aID3\x03\0\0\0\0\0\1bRIFF\0\0\0\0WAVE": "WAV",
    b"ID3\x03\0\0\0\0\0\4abcd": "MP3",
    b"\xff\xfb\x90\0": "MP3",
    b"\xff\xf1\x50\x80": "AAC (ADTS)",
    b"fLaC\0\0\0\x22": "FLAC",
    b"OggS\0\x02": "Ogg",
    b"RIFF\0\0\0\0WAVEfmt ": "WAV",
    b"RF64\xff\xff\xff\xffWAVEds64": "WAV",
    b"BW64\xff\xff\xff\xffWAVEds64": "WAV",
    b"FORM\0\0\0\0AIFFCOMM": "AIFF",
    b"caff\0\1\0\0": "CAF",
    b"\x1a\x45\xdf\xa3\x9f": "Matroska or WebM",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6": "Windows Media",
    (b"\x47" + bytes(187)) * 3: "MPEG transport stream",
    b"%PDF-1.7": "PDF",
    b"PK\3\4\x14\0": "ZIP archive",
    b"\x1f\x8b\x08\0": "gzip archive",
    b"BZh91AY&SY\0": "bzip2 archive",
    b"\xfd7zXZ\0": "xz archive",
    b"\x28\xb5\x2f\xfd\0": "Zstandard archive",
    b"PAR1\x15": "Parquet",
    b"ARROW1\0\0": "Arrow file",
    bytes(257) + b"ustar\x0000": "tar archive",
    b"MZ\x90\0\3": "program",
}


@pytest.mark.parametrize("data,name", LOOKS.items(), ids=[f"{i} {name}" for i, name in enumerate(LOOKS.values())])
def test_what_bytes_look_like(data: bytes, name: str) -> None:
    assert what(data) == name and what(data[:1] + data[1:]) == name


def test_a_name_costs_no_more_for_a_large_body() -> None:
    assert what(b"<?" + b"x" * (64 << 20)) == "XML" and what(b"<!--" * (1 << 20)) == "XML"
