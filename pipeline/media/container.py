"""What kind of audio file is this, and does it stop before its own end? Told from the bytes, without decoding."""

from collections.abc import Iterator

# By the first bytes: the name of the one demuxer that may touch the file. Playlists (HLS, DASH, concat) are not here:
# their demuxers open what they name.
_MAGIC = ((b"ID3", "mp3"), (b"fLaC", "flac"), (b"OggS", "ogg"), (b"\x1a\x45\xdf\xa3", "matroska"))

# MPEG audio, ISO/IEC 11172-3: rates by the two bits of a frame's header, halved for MPEG-2 (version 2) and again for
# MPEG-2.5 (version 0); samples of a layer III frame.
_MPEG_RATES_HZ = (44_100, 48_000, 32_000)
_MPEG_DIVISORS = {3: 1, 2: 2, 0: 4}
_HEAD_BYTES = 4096  # longer than any frame, so that the first one is in it


def sniff(data: bytes) -> str | None:
    """The libav demuxer for mp3, wav, flac, ogg, mov (MP4, M4A) or matroska (WebM); None for anything else."""
    for magic, name in _MAGIC:
        if data.startswith(magic):
            return name
    if data[:4] == b"RIFF" and data[8:12] == b"WAVE":
        return "wav"
    if data[4:8] == b"ftyp":
        return "mov"
    # MPEG audio: eleven sync bits, and a layer that is not the reserved one (which ADTS AAC uses).
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE0 == 0xE0 and data[1] & 0x06:
        return "mp3"
    return None


def breaks_off(data: bytes, name: str) -> bool:
    """True if the container's own structure says that bytes are missing at its end; `name` is what `sniff` says.

    wav: a chunk longer than the file. mov: a box longer than the file, or no `moov`. ogg: a last page that is cut or
    lacks the end-of-stream flag (RFC 3533). mp3, flac and matroska show it only by the duration that they declare.
    """
    if name == "wav":
        return any(end > len(data) for end in _riff_ends(data))
    if name == "mov":
        boxes = list(_boxes(data))
        return any(end > len(data) for _, end in boxes) or b"moov" not in {kind for kind, _ in boxes}
    return name == "ogg" and _ogg_breaks_off(data)


def mp3_duration_s(data: bytes) -> float | None:
    """Seconds that an MP3's first frame declares by a Xing, Info or VBRI header; None if it has none.

    The count is of the encoder, so it stays what it was when the file is cut, or when others are joined to it.
    """
    start = data.find(b"\xff", _id3_bytes(data))
    frame = data[start : start + _HEAD_BYTES] if start >= 0 else b""
    if len(frame) < 4 or frame[1] & 0xE0 != 0xE0 or (frame[2] >> 2) & 3 == 3:
        return None
    version = (frame[1] >> 3) & 3
    rate_hz = _MPEG_RATES_HZ[(frame[2] >> 2) & 3] // _MPEG_DIVISORS.get(version, 1)
    frame_s = (1152 if version == 3 else 576) / rate_hz
    for tag in (b"Xing", b"Info"):
        offset = frame.find(tag)
        if offset >= 0 and frame[offset + 7 : offset + 8] and frame[offset + 7] & 1:  # the flag: a count follows
            return int.from_bytes(frame[offset + 8 : offset + 12], "big") * frame_s
    offset = frame.find(b"VBRI")
    return int.from_bytes(frame[offset + 14 : offset + 18], "big") * frame_s if offset >= 0 else None


def _id3_bytes(data: bytes) -> int:
    """The length of the ID3v2 tag that the file begins with; 0 if there is none."""
    if data[:3] != b"ID3" or len(data) < 10:
        return 0
    size = 0
    for byte in data[6:10]:  # seven bits each, so that no byte of a tag looks like the sync of a frame
        size = size << 7 | byte & 0x7F
    return 10 + size


def _riff_ends(data: bytes) -> Iterator[int]:
    offset = 12
    while offset + 8 <= len(data):
        size = int.from_bytes(data[offset + 4 : offset + 8], "little")
        if size == 0xFFFFFFFF or (size == 0 and data[offset : offset + 4] == b"data"):
            return  # written to a pipe: the length was never known
        yield offset + 8 + size
        offset += 8 + size + (size & 1)  # chunks begin at even places


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


def _ogg_breaks_off(data: bytes) -> bool:
    page = data.rfind(b"OggS")
    if page < 0 or page + 27 > len(data):
        return True
    segments = data[page + 26]
    table = data[page + 27 : page + 27 + segments]
    is_whole = len(table) == segments and page + 27 + segments + sum(table) <= len(data)
    is_last = data[page + 5] & 4
    return not is_whole or not is_last
