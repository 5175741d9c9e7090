"""What kind of audio file is this, and does it stop before its own end? Told from the bytes, without decoding."""

from collections.abc import Iterator

# By the first bytes: the name of the one demuxer that may touch the file. Playlists (HLS, DASH, concat) are not here:
# their demuxers open what they name.
_MAGIC = ((b"ID3", "mp3"), (b"fLaC", "flac"), (b"OggS", "ogg"), (b"\x1a\x45\xdf\xa3", "matroska"))


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
    """True if the container's own structure says that bytes are missing at its end.

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
    start = 0
    if data[:3] == b"ID3" and len(data) >= 10:
        start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(data[6:10], (21, 14, 7, 0), strict=True))
    start = data.find(b"\xff", start)
    head = data[start : start + 4096] if start >= 0 else b""
    if len(head) < 4 or head[1] & 0xE0 != 0xE0 or (head[2] >> 2) & 3 == 3:
        return None
    version = (head[1] >> 3) & 3  # 3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5
    rate_hz = (44_100, 48_000, 32_000)[(head[2] >> 2) & 3] // {3: 1, 2: 2, 0: 4}.get(version, 1)
    samples = 1152 if version == 3 else 576  # of a frame, layer III
    for tag in (b"Xing", b"Info"):
        at = head.find(tag)
        if at >= 0 and head[at + 7 : at + 8] and head[at + 7] & 1:  # the first flag: a number of frames follows
            return int.from_bytes(head[at + 8 : at + 12], "big") * samples / rate_hz
    at = head.find(b"VBRI")
    return int.from_bytes(head[at + 14 : at + 18], "big") * samples / rate_hz if at >= 0 else None


def _riff_ends(data: bytes) -> Iterator[int]:
    at = 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if size == 0xFFFFFFFF or (size == 0 and data[at : at + 4] == b"data"):
            return  # written to a pipe: the length was never known
        yield at + 8 + size
        at += 8 + size + (size & 1)


def _boxes(data: bytes) -> Iterator[tuple[bytes, int]]:
    at = 0
    while at + 8 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        elif size == 0:  # to the end of the file
            size = len(data) - at
        if size < 8:
            return
        yield kind, at + size
        at += size


def _ogg_breaks_off(data: bytes) -> bool:
    at = data.rfind(b"OggS")
    if at < 0 or at + 27 > len(data):
        return True
    segments = data[at + 26]
    table = data[at + 27 : at + 27 + segments]
    is_whole = len(table) == segments and at + 27 + segments + sum(table) <= len(data)
    return not is_whole or not data[at + 5] & 4
