"""How many frames a picture has, and how many scans a JPEG: told from the bytes, without decoding any."""

import re
import struct

from PIL import Image

MAX_FRAMES = 10_000
"""Counted up to this many: what is told of an animation needs no more, and a hostile file could have millions."""

# A marker within the entropy-coded data of a scan: neither a stuffed zero, nor a fill byte, nor a restart.
_MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_SOS, _EOI = 0xDA, 0xD9
_SHORT_TAG, _LONG_TAG = 12, 20


def count_frames(data: bytes, file: Image.Image) -> int:
    """Frames or pages of an opened file, at most MAX_FRAMES; 1 where that cannot be told."""
    if file.format == "GIF":
        return _gif_frames(data)
    if file.format == "TIFF":
        return _tiff_pages(data)
    return max(1, min(int(getattr(file, "n_frames", 1)), MAX_FRAMES))


def count_scans(data: bytes, most: int) -> int:
    """Scans of a JPEG (ITU-T T.81, annex B), up to one more than `most`."""
    at, scans = 2, 0
    while scans <= most and at + 4 <= len(data):
        marker = _MARKER.search(data, at)
        if marker is None or data[marker.start() + 1] == _EOI:
            break
        kind = data[marker.start() + 1]
        at = marker.start() + 2
        scans += kind == _SOS
        has_length = kind != 0x01 and not 0xD8 <= kind <= 0xD9
        at += int.from_bytes(data[at : at + 2], "big") if has_length else 0
    return scans


def _gif_frames(data: bytes) -> int:
    """Image descriptors of a GIF (its specification, section 20)."""
    at = 13 + _table_bytes(data[10:11])
    frames = 0
    while at < len(data) and frames < MAX_FRAMES:
        kind = data[at]
        if kind == 0x2C:
            frames += 1
            at += 11 + _table_bytes(data[at + 9 : at + 10])  # descriptor, colours, size of codes
        elif kind == 0x21:
            at += 2
        else:
            break
        while at < len(data) and data[at]:
            at += 1 + data[at]
        at += 1
    return max(1, frames)


def _table_bytes(flags: bytes) -> int:
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0


def _tiff_pages(data: bytes) -> int:
    """Directories of a TIFF, each of which names the next."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = struct.unpack(order + "H", data[2:4])[0] == 43  # BigTIFF: 64 bits
    count, tag_bytes, link = ("Q", _LONG_TAG, "Q") if is_big else ("H", _SHORT_TAG, "I")
    seen: set[int] = set()
    try:
        (at,) = struct.unpack_from(order + link, data, 8 if is_big else 4)
        while at and at not in seen and len(seen) < MAX_FRAMES:
            (tags,) = struct.unpack_from(order + count, data, at)
            seen.add(at)
            (at,) = struct.unpack_from(order + link, data, at + struct.calcsize(order + count) + tags * tag_bytes)
    except struct.error:  # beyond the end: what comes after is not there
        pass
    return max(1, len(seen))
