"""Does an audio file stop before its own end, and how long does it say it is? Told from the bytes, without decoding.

Every demuxer has its own name for it here: that of libav. What a file does not say is not guessed: a stream that was
written to a pipe, or recorded off the air, is as long as it is.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

# MPEG audio, ISO/IEC 11172-3 and 13818-3. By the two bits of a frame's header: rates, halved for MPEG-2 (version 2) and
# again for MPEG-2.5 (version 0); kbit/s of layer III.
_MPEG_RATES_HZ = (44_100, 48_000, 32_000)
_MPEG_DIVISORS = {3: 1, 2: 2, 0: 4}
_KBPS_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBPS_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_LAYER_3 = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb]")
_HEAD_BYTES = 4096  # longer than any frame, so that the first one is in it
_JUNK_BYTES = 1 << 20  # how far to look for the first frame; libav's own probing gives up there

# Lengths that say "not known yet", of 32 bits: 0, -1, and what writers to a pipe put there, which is 2 or 4 GiB less a
# header (ffmpeg: 0xFFFFFFFF, sox: 0x7FFFF000, arecord: 0x80000000).
_HEADER_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class _Chunks:
    """How a container lays out its chunks: a name and a length, after `start` bytes; `sound` holds the samples."""

    start: int
    order: Literal["little", "big"]
    length_bytes: int
    sound: bytes


_CHUNKS = {
    "wav": _Chunks(start=12, order="little", length_bytes=4, sound=b"data"),
    "aiff": _Chunks(start=12, order="big", length_bytes=4, sound=b"SSND"),
    "caf": _Chunks(start=8, order="big", length_bytes=8, sound=b"data"),
}
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # the object of a Windows Media file that has its size
_MOV_SOUND = (b"mdat", b"moov", b"moof")


def id3_bytes(data: bytes) -> int:
    """The length of the ID3v2 tags that the file begins with, one after another; 0 if there are none."""
    at = 0
    while data[at : at + 3] == b"ID3" and len(data) >= at + 10:
        size = 0
        for byte in data[at + 6 : at + 10]:  # seven bits each, so that no byte of a tag looks like the sync of a frame
            size = size << 7 | byte & 0x7F
        at += 10 + size + (10 if data[at + 5] & 0x10 else 0)
    return min(at, len(data))


def streamed(data: bytes) -> bytes:
    """The file, or of an RF64 or BW64 whose own lengths are not known yet the plain WAV that can say so."""
    is_long = data[:4] in (b"RF64", b"BW64") and data[12:16] == b"ds64"
    return b"RIFF" + data[4:] if is_long and _is_unknown(int.from_bytes(data[28:36], "little")) else data


def missing(data: bytes, name: str) -> str | None:
    """What the container's own structure says of missing bytes, in words; None if nothing is known to be missing.

    `name` is the demuxer's. A last page of ogg that is whole but is not marked as the last (RFC 3533) ends a recording,
    not a download. mp3, flac and matroska show a cut only by the duration that they declare.
    """
    if name in _CHUNKS:
        return _sound_missing(data, _CHUNKS[name])
    if name == "au" and data[:4] == b".snd":
        start, size = (int.from_bytes(data[at : at + 4], "big") for at in (4, 8))
        return None if _is_unknown(size) else _beyond("its sound", start + size, len(data))
    if name == "mov":
        return _mov_missing(data)
    if name == "asf":
        return _asf_missing(data)
    if name == "ogg" and not _ogg_ends_whole(data):
        return "its last page is cut"
    return None


def declared_s(data: bytes, name: str) -> float | None:
    """Seconds that the header of an MP3 or FLAC declares; None if it says nothing."""
    if name == "mp3":
        return mp3_duration_s(data)
    at = data.find(b"fLaC", 0, _JUNK_BYTES) if name == "flac" else -1
    if at < 0 or len(data) < at + 26:
        return None
    packed = int.from_bytes(data[at + 18 : at + 26], "big")  # 20 bits rate, 8 of shape, 36 number of samples: RFC 9639
    rate_hz, samples = packed >> 44, packed & (1 << 36) - 1
    return samples / rate_hz if rate_hz and samples else None


def mp3_duration_s(data: bytes) -> float | None:
    """Seconds that an MP3's first frame declares by a Xing, Info or VBRI header; None if it has none.

    The count is of the encoder, so it stays what it was when the file is cut, or when others are joined to it.
    """
    start = mp3_start(data)
    if start is None:
        return None
    frame = data[start : start + _HEAD_BYTES]
    version = (frame[1] >> 3) & 3
    rate_hz = _MPEG_RATES_HZ[(frame[2] >> 2) & 3] // _MPEG_DIVISORS[version]
    frame_s = (1152 if version == 3 else 576) / rate_hz
    for tag in (b"Xing", b"Info"):
        offset = frame.find(tag)
        if offset >= 0 and frame[offset + 7 : offset + 8] and frame[offset + 7] & 1:  # the flag: a count follows
            return int.from_bytes(frame[offset + 8 : offset + 12], "big") * frame_s
    offset = frame.find(b"VBRI")
    return int.from_bytes(frame[offset + 14 : offset + 18], "big") * frame_s if offset >= 0 else None


def mp3_start(data: bytes) -> int | None:
    """Where the first frame of MPEG layer III begins, behind tags and junk: one that others of its kind follow, or the
    end; None if there is none."""
    begin = id3_bytes(data)
    for match in _LAYER_3.finditer(data, begin, begin + _JUNK_BYTES):
        at, frames = match.start(), 0
        while frames < 3 and (size := _frame_bytes(data[at : at + 3])):
            at, frames = at + size, frames + 1
        if frames and (frames == 3 or at >= len(data)):
            return match.start()
    return None


def _frame_bytes(head: bytes) -> int:
    """The length of the frame of layer III that begins with these three bytes; 0 if none does."""
    if len(head) < 3 or not _LAYER_3.match(head):
        return 0
    version, rate, kbps = (head[1] >> 3) & 3, (head[2] >> 2) & 3, head[2] >> 4
    if rate == 3 or kbps in (0, 15):
        return 0
    rate_hz = _MPEG_RATES_HZ[rate] // _MPEG_DIVISORS[version]
    bits = (_KBPS_1 if version == 3 else _KBPS_2)[kbps - 1] * 1000
    return (144 if version == 3 else 72) * bits // rate_hz + (head[2] >> 1 & 1)


def _is_unknown(size: int) -> bool:
    return size == 0 or any(top - _HEADER_BYTES <= size <= top for top in (1 << 31, 1 << 32, 1 << 63, 1 << 64))


def _beyond(what: str, end: int, came: int) -> str | None:
    return f"{what} ends at byte {end}, and {came} came" if end > came else None


def _sound_missing(data: bytes, chunks: _Chunks) -> str | None:
    """Only the chunk of the samples counts, and those before it: what follows are tags, which break no sound."""
    offset, head = chunks.start, 4 + chunks.length_bytes
    while offset + head <= len(data):
        kind = data[offset : offset + 4]
        size = int.from_bytes(data[offset + 4 : offset + head], chunks.order)
        if kind == chunks.sound and size == 0xFFFFFFFF and data[12:16] == b"ds64":
            size = int.from_bytes(data[28:36], "little")  # EBU Tech 3306: 64 bits, after those of the whole
        if kind == chunks.sound and _is_unknown(size):
            return None
        end = offset + head + size
        if kind == chunks.sound or end > len(data):
            return _beyond("its sound" if kind == chunks.sound else "a part before its sound", end, len(data))
        offset = end + (0 if chunks.length_bytes == 8 else size & 1)  # chunks of 32 bits begin at even places
    return None


def _mov_missing(data: bytes) -> str | None:
    has_index = False
    for kind, end in _boxes(data):
        if kind in _MOV_SOUND and end > len(data):
            return _beyond("a part of it", end, len(data))
        has_index = has_index or kind == b"moov"
    return None if has_index else "its index is missing"


def _asf_missing(data: bytes) -> str | None:
    at = data.find(_ASF_FILE, 0, _JUNK_BYTES)
    if at < 0 or len(data) < at + 92 or data[at + 88] & 1:  # the flag of a broadcast, whose size nobody knew
        return None
    return _beyond("it", int.from_bytes(data[at + 40 : at + 48], "little"), len(data))


def _boxes(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Kind and end of each top-level box of ISO/IEC 14496-12."""
    offset = 0
    while offset + 8 <= len(data):
        size = int.from_bytes(data[offset : offset + 4], "big")
        kind = data[offset + 4 : offset + 8]
        if size == 1:  # 64 bits, after the kind
            size = int.from_bytes(data[offset + 8 : offset + 16], "big")
        elif size == 0:  # to the end of the file
            size = len(data) - offset
        if size < 8:
            return
        yield kind, offset + size
        offset += size


def _ogg_ends_whole(data: bytes) -> bool:
    page = data.rfind(b"OggS")
    if page < 0 or page + 27 > len(data):
        return False
    segments = data[page + 26]
    table = data[page + 27 : page + 27 + segments]
    return len(table) == segments and page + 27 + segments + sum(table) <= len(data)
