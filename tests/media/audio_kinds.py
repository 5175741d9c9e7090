"""One small file of each kind that audio comes in: with what is right, and where the public met it."""

import functools
import io
import struct
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile

from tests.media.sounds import encode, tone

RATE = 16_000
SECONDS = 1.5
LEVEL = 0.3


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A file that decodes to `seconds` of a 440 Hz tone of this `level`, or is refused for `reason` with `words`."""

    name: str
    make: Callable[[], bytes]
    seconds: float = SECONDS
    level: float = LEVEL
    reason: str | None = None
    words: str = ""
    report: str = ""
    language: str | None = None


def kept(name: str, make: Callable[[], bytes], report: str = "", **right: object) -> Kind:
    return Kind(name=name, make=make, report=report, **right)  # type: ignore[arg-type]


def refused(name: str, make: Callable[[], bytes], reason: str, words: str, report: str = "") -> Kind:
    return Kind(name=name, make=make, reason=f"audio_{reason}", words=words, report=report)


def sound(rate: int = RATE, seconds: float = SECONDS) -> np.ndarray:
    return tone(seconds, rate, amplitude=LEVEL)


def coded(
    kind: str,
    codec: str,
    rate: int = RATE,
    layout: str = "mono",
    options: dict[str, str] | None = None,
    planes: np.ndarray | None = None,
    codec_options: dict[str, str] | None = None,
) -> bytes:
    """The tone in any container and codec of libav's."""
    out = io.BytesIO()
    channels = av.AudioLayout(layout).nb_channels
    samples = np.tile(sound(rate), (channels, 1)) if planes is None else planes
    with av.open(out, "w", format=kind, options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout, options=codec_options or {})
        feed(container, stream, samples, rate, layout)
    return out.getvalue()


def feed(container: object, stream: object, samples: np.ndarray, rate: int, layout: str) -> None:
    packed = np.ascontiguousarray(samples.T.reshape(1, -1), np.float32)
    frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
    frame.sample_rate = rate
    frame.pts = 0
    resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate, frame_size=stream.frame_size)
    for part in (*resampler.resample(frame), *resampler.resample(None)):
        for packet in stream.encode(part):
            container.mux(packet)
    for packet in stream.encode(None):
        container.mux(packet)


def tracks(kind: str, codec: str, *parts: tuple[np.ndarray, str, str]) -> bytes:
    """Several tracks: (samples (T,), language, disposition)."""
    out = io.BytesIO()
    with av.open(out, "w", format=kind) as container:
        streams = []
        for _, language, disposition in parts:
            stream = container.add_stream(codec, rate=48_000, layout="mono")
            stream.metadata["language"] = language
            stream.disposition = getattr(av.stream.Disposition, disposition) if disposition else 0
            streams.append(stream)
        for stream, (samples, _, _) in zip(streams, parts, strict=True):
            feed(container, stream, samples[None], 48_000, "mono")
    return out.getvalue()


def wav(
    samples: np.ndarray | None = None,
    *,
    tag: int = 1,
    bits: int = 16,
    mask: int | None = None,
    rate: int = RATE,
    before: bytes = b"",
    after: bytes = b"",
    size: int | None = None,
    form: bytes = b"RIFF",
) -> bytes:
    """A WAV by hand: samples (C, T) or (T,) of bytes, or floats to be quantised; `size` is what the header claims."""
    planes = np.atleast_2d(sound(rate) if samples is None else samples)
    channels = len(planes)
    pcm = quantised(planes.T.reshape(-1), tag, bits)
    block = channels * bits // 8
    real = tag if mask is None else 0xFFFE
    head = struct.pack("<HHIIHH", real, channels, rate, rate * block, block, bits)
    if mask is not None:
        head += struct.pack("<HHIH", 22, bits, mask, tag) + bytes.fromhex("000000001000800000aa00389b71")
    body = b"fmt " + struct.pack("<I", len(head)) + head + before
    body += b"data" + struct.pack("<I", len(pcm) if size is None else size) + pcm + after
    riff = 0xFFFFFFFF if size is not None and size != len(pcm) else len(body) + 4
    return form + struct.pack("<I", riff) + b"WAVE" + body


def quantised(samples: np.ndarray, tag: int, bits: int) -> bytes:
    if tag == 3:
        return samples.astype(f"<f{bits // 8}").tobytes()
    if tag in (6, 7):
        name = "pcm_alaw" if tag == 6 else "pcm_mulaw"
        data = coded("wav", name)
        return data[data.index(b"data") + 8 :]
    if bits == 8:
        return np.round(samples * 127 + 128).astype(np.uint8).tobytes()
    whole = np.round(samples * (2 ** (bits - 1) - 1)).astype("<i4")
    return (
        b"".join(int(v).to_bytes(bits // 8, "little", signed=True) for v in whole)
        if bits == 24
        else (whole.astype(f"<i{bits // 8}").tobytes())
    )


def long_wav(form: bytes, declared: int | None = None) -> bytes:
    """RF64 (EBU Tech 3306) and BW64 (ITU-R BS.2088): the length in a chunk of its own."""
    plain = wav()
    pcm = plain[plain.index(b"data") + 8 :]
    size = len(pcm) if declared is None else declared
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, len(plain) + 28, size, len(pcm) // 2, 0)
    fmt = plain[12 : plain.index(b"data")]
    return form + b"\xff\xff\xff\xffWAVE" + ds64 + fmt + b"data\xff\xff\xff\xff" + pcm


def id3(size: int, major: int = 4, footer: bool = False) -> bytes:
    coded_size = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
    tag = b"ID3" + bytes([major, 0, 0x10 if footer else 0]) + coded_size + bytes(size)
    return tag + (b"3DI" + tag[3:10] if footer else b"")


@functools.cache
def base(kind: str) -> bytes:
    """The tone as each of the common kinds."""
    rate = 48_000 if kind in ("ogg", "webm") else RATE
    return encode(kind, sound(rate), rate)


def pages(data: bytes) -> list[bytes]:
    """The pages of an Ogg file."""
    starts = [at for at in range(len(data)) if data.startswith(b"OggS", at)]
    return [data[a:b] for a, b in zip(starts, [*starts[1:], len(data)], strict=True)]


def without_end(data: bytes) -> bytes:
    """An Ogg whose last page says that more follow, its checksum right."""
    *most, last = pages(data)
    page = bytearray(last)
    page[5] &= ~4
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", ogg_crc(bytes(page)))
    return b"".join(most) + bytes(page)


def ogg_crc(page: bytes) -> int:
    crc = 0
    for byte in page:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ (0x04C11DB7 if crc & 0x80000000 else 0)) & 0xFFFFFFFF
    return crc


def flac_unknown(data: bytes) -> bytes:
    """A FLAC whose header gives no number of samples, as one written to a pipe."""
    out = bytearray(data)
    at = data.index(b"fLaC") + 18
    out[at + 3] &= 0xF0
    out[at + 4 : at + 8] = bytes(4)
    return bytes(out)


def vorbis() -> bytes:
    out = io.BytesIO()
    soundfile.write(out, sound(), RATE, format="OGG", subtype="VORBIS")
    return out.getvalue()


def faststart() -> bytes:
    """An M4A with its index first, which libav writes in a second pass over a file with a name."""
    with tempfile.NamedTemporaryFile(suffix=".m4a") as file:
        with av.open(file.name, "w", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("aac", rate=RATE, layout="mono")
            feed(container, stream, sound()[None], RATE, "mono")
        return Path(file.name).read_bytes()


def patched(data: bytes, mark: bytes, offset: int, new: bytes) -> bytes:
    at = data.index(mark) + offset
    return data[:at] + new + data[at + len(new) :]


def au(size: int | None = None) -> bytes:
    pcm = np.round(sound() * 32767).astype(">i2").tobytes()
    return b".snd" + struct.pack(">IIIII", 24, len(pcm) if size is None else size, 3, RATE, 1) + pcm


def aiff(size: int | None = None) -> bytes:
    data = coded("aiff", "pcm_s16be")
    return data if size is None else patched(data, b"SSND", 4, struct.pack(">I", size))


def with_picture(kind: str, codec: str) -> bytes:
    """A track beside a picture of a cover."""
    out = io.BytesIO()
    with av.open(out, "w", format=kind) as container:
        picture = container.add_stream("mjpeg", rate=1)
        picture.width = picture.height = 32
        picture.pix_fmt = "yuvj420p"
        picture.disposition = av.stream.Disposition.attached_pic
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        for packet in (*picture.encode(av.VideoFrame(32, 32, "yuvj420p")), *picture.encode(None)):
            container.mux(packet)
        feed(container, stream, sound(48_000)[None], 48_000, "mono")
    return out.getvalue()


def channels(count: int, mask: int | None = None, only: int | None = None) -> bytes:
    planes = np.tile(sound(), (count, 1))
    if only is not None:
        planes[np.arange(count) != only] = 0
    return wav(planes, mask=mask)


def opposite(noise: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([sound(), -sound()]) + noise * rng.normal(0, 1, (2, len(sound())))


def text(line: str, count: int = 1) -> bytes:
    return (line + "\n").encode() * count


HLS = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST"
DASH = '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>'
SMALL = 0x7FFFFFFF


def kinds() -> Iterator[Kind]:
    """Every kind, in groups."""
    yield from _tags_and_junk()
    yield from _waves()
    yield from _streams()
    yield from _containers()
    yield from _channels()
    yield from _refused()


def _tags_and_junk() -> Iterator[Kind]:
    flac, mp3 = functools.partial(base, "flac"), functools.partial(base, "mp3")
    yield kept("flac behind id3", lambda: id3(900) + flac(), "xiph/flac#859")
    yield kept("flac behind two id3", lambda: id3(900) + id3(3000, 3) + flac(), "xiph/opus-tools#106")
    yield kept("flac behind a picture in id3", lambda: id3(1_500_000) + flac(), "Vanilagy/mediabunny#417")
    yield kept("flac behind id3 with a footer", lambda: id3(500, footer=True) + flac(), "Taiko2k/Tauon#690")
    yield kept("flac, id3v1 behind", lambda: flac() + b"TAG" + bytes(125), "xiph/flac#523")
    yield kept("mp3 behind a picture in id3", lambda: id3(1_500_000) + mp3(), "lgse/strata#1197")
    yield kept("mp3 behind two id3", lambda: id3(700) + id3(900) + mp3(), "OpenShot/openshot-qt#3043")
    yield kept("mp3 behind 1,000 zeros", lambda: bytes(1000) + mp3())
    yield kept("mp3 behind 100,000 zeros", lambda: bytes(100_000) + mp3())
    yield kept("mp3 behind a line", lambda: text("ICY 200 OK") + mp3())
    yield kept("mp3 behind a page", lambda: text("<!DOCTYPE html><html><body>Notice</body></html>", 40) + mp3())
    yield kept("mp3 behind junk", lambda: np.random.default_rng(5).bytes(3000).replace(b"\xff", b"\0") + mp3())
    yield kept("mp3, id3v1 behind", lambda: mp3() + b"TAG" + bytes(125))
    yield kept("mp3 without Xing", lambda: mp3().replace(b"Info", bytes(4)).replace(b"Xing", bytes(4)))
    yield kept("mp3, two joined", lambda: mp3() + mp3(), "richardr1126/openreader#129", seconds=2 * SECONDS, level=0.28)
    yield kept("adts", lambda: coded("adts", "aac"))
    yield kept("adts behind id3", lambda: id3(800) + coded("adts", "aac"))
    yield kept("wav behind id3", lambda: id3(800) + wav())
    yield kept("mp2", lambda: coded("mp2", "mp2"))


def _waves() -> Iterator[Kind]:
    yield kept("rf64", lambda: long_wav(b"RF64"))
    yield kept("bw64", lambda: long_wav(b"BW64"))
    yield kept("rf64 of unknown length", lambda: long_wav(b"RF64", 0))
    for size in (SMALL, 0xFFFFFFFF, 0, 0x7FFFF000, 0x80000000, 0xFFFFFFFF - 36, SMALL - 36):
        yield kept(f"wav of {size:#x}", functools.partial(wav, size=size), "Borewit/music-metadata#707")
    yield kept("wav, odd length", lambda: wav(bits=8, samples=sound()[:-1]))
    yield kept("wav, junk after", lambda: wav(after=b"\0" * 7 + b"junk"))
    yield kept("wav, broken tag after", lambda: wav(after=b"LIST" + struct.pack("<I", 99_999) + b"INFO"))
    yield kept("wav, tag after", lambda: wav(after=b"LIST\x04\0\0\0INFO"))
    yield kept("wav, odd tag before", lambda: wav(before=b"bext\x03\0\0\0abc\0"))
    yield kept("wav extensible", lambda: wav(mask=4))
    yield kept("wav, 8 bits", lambda: wav(bits=8))
    yield kept("wav, 24 bits", lambda: wav(bits=24))
    yield kept("wav, 32 bits", lambda: wav(bits=32))
    yield kept("wav, float", lambda: wav(tag=3, bits=32))
    yield kept("wav, float of 64 bits", lambda: wav(tag=3, bits=64))
    yield kept("wav, A-law", lambda: wav(tag=6, bits=8))
    yield kept("wav, mu-law", lambda: wav(tag=7, bits=8))
    yield kept("wav, adpcm", lambda: coded("wav", "adpcm_ima_wav"))
    yield kept("wav, mp3 inside", lambda: coded("wav", "libmp3lame"))


def _streams() -> Iterator[Kind]:
    opus = functools.partial(base, "ogg")
    yield kept("opus without its end", lambda: without_end(opus()), "musescore/MuseScore#32321")
    yield kept("opus, last page gone", lambda: b"".join(pages(opus())[:-1]), "libsndfile/libsndfile#989", seconds=1.0)
    yield kept("opus, chained", lambda: opus() + opus(), "savonet/liquidsoap#4445", seconds=2 * SECONDS)
    yield kept("opus, junk behind", lambda: opus() + bytes(100))
    yield kept("vorbis", vorbis)
    yield kept("vorbis without its end", lambda: without_end(vorbis()), "Borewit/music-metadata#608")
    yield kept("flac in ogg", lambda: coded("ogg", "flac"))
    yield kept("flac of unknown length", lambda: flac_unknown(base("flac")))
    yield kept("webm", functools.partial(base, "webm"))
    yield kept("webm without duration", lambda: coded("webm", "libopus", 48_000, options={"live": "1"}))
    yield kept("matroska, pcm", lambda: coded("matroska", "pcm_s16le"))
    yield kept("mpeg stream", lambda: coded("mpegts", "aac"))


def _containers() -> Iterator[Kind]:
    yield kept("m4a, index at the end", functools.partial(base, "mp4"))
    yield kept("m4a, index first", faststart)
    pieces = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "300000"}
    yield kept("m4a in fragments", lambda: coded("mp4", "aac", options=pieces))
    yield kept("m4a, alac", lambda: coded("ipod", "alac"))
    yield kept("mov, pcm", lambda: coded("mov", "pcm_s16le"))
    yield kept("m4a with a cover", lambda: with_picture("mp4", "aac"))
    yield kept("m4a, junk behind", lambda: base("mp4") + b"\0\0\xff\xffJUNKjunk")
    yield kept("aiff", aiff)
    yield kept("aiff-c, float", lambda: coded("aiff", "pcm_f32be"))
    yield kept("aiff to a pipe", lambda: aiff(0xFFFFFFFF))
    yield kept("caf", lambda: coded("caf", "pcm_s16le"))
    yield kept("caf to a pipe", lambda: patched(coded("caf", "pcm_s16le"), b"data", 4, b"\xff" * 8))
    yield kept("au", au)
    yield kept("au to a pipe", lambda: au(0xFFFFFFFF))
    yield kept("wma", _wma)
    yield kept("amr", lambda: coded("amr", "libopencore_amrnb", 8_000), level=0.25)
    quiet, loud = np.zeros(round(48_000 * SECONDS), np.float32), sound(48_000)
    for kind, codec in (("matroska", "libopus"), ("mp4", "aac")):
        second = functools.partial(tracks, kind, codec, (quiet, "fre", ""), (loud, "eng", "default"))
        yield kept(f"{kind}, the second is the default", second, "TeamNewPipe/NewPipe#9399")
        other = functools.partial(tracks, kind, codec, (quiet, "fre", "default"), (loud, "eng", ""))
        yield kept(f"{kind}, the second speaks it", other, "coaxk/subarr#159", language="eng")
        first = functools.partial(tracks, kind, codec, (loud, "eng", "default"), (quiet, "eng", "comment"))
        yield kept(f"{kind}, a commentary", first, "SubtitleEdit/subtitleedit#6110", language="eng")


def _channels() -> Iterator[Kind]:
    report = "meta-pytorch/torchcodec#1166"
    for count in (2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 24, 32, 64):
        yield kept(f"{count} channels", functools.partial(channels, count), report)
    yield kept("7.1 in flac", lambda: coded("flac", "flac", layout="7.1"), report)
    yield kept("7.1 in opus", lambda: coded("ogg", "libopus", 48_000, layout="7.1"), report)
    yield kept("5.1 in aac", lambda: coded("mp4", "aac", layout="5.1"))
    yield kept("5.1, all in the centre", lambda: channels(6, 0x3F, only=2), "SYSTRAN/faster-whisper#1354")
    yield kept("5.1 without places, all in the centre", lambda: channels(6, only=2))
    yield kept("7.1, all in the centre", lambda: channels(8, 0x63F, only=2), "kaegi/alass#54")
    yield kept("16 channels, one used", lambda: channels(16, only=11))
    yield kept("stereo, opposite", lambda: wav(opposite()), "m-bain/whisperX#750")
    yield kept("stereo, nearly opposite", lambda: wav(opposite(0.005)), "mpv-player/mpv#8385")
    yield kept("stereo, opposite, in mp3", lambda: coded("mp3", "libmp3lame", 44_100, "stereo", planes=_apart(44_100)))
    yield kept("stereo, left only", lambda: wav(np.stack([sound(), 0 * sound()])), level=LEVEL / 2)


def _apart(rate: int) -> np.ndarray:
    return np.stack([sound(rate), -sound(rate)])


def _refused() -> Iterator[Kind]:
    yield refused("empty", bytes, "undecodable", "empty")
    yield refused("page", lambda: text("<!doctype html><title>404</title>"), "undecodable", "HTML page")
    yield refused("hls", lambda: text(HLS), "undecodable", "HLS playlist")
    yield refused("m3u", lambda: text("#EXTM3U\nhttp://x/a.mp3"), "undecodable", "M3U playlist")
    yield refused("dash", lambda: text(DASH), "undecodable", "DASH playlist")
    yield refused("concat", lambda: text("ffconcat version 1.0\nfile '/etc/hostname'"), "undecodable", "text")
    yield refused("sdp", lambda: text("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=audio 1 RTP/AVP 0"), "undecodable", "text")
    yield refused("json", lambda: text('{"error": "not found"}'), "undecodable", "JSON")
    yield refused("picture", lambda: b"\x89PNG\r\n\x1a\n" + bytes(99), "undecodable", "PNG")
    yield refused("zip", lambda: b"PK\3\4" + bytes(99), "undecodable", "ZIP archive")
    yield refused("noise", lambda: np.random.default_rng(0).bytes(20_000), "undecodable", "binary data")
    yield refused("zeros", lambda: bytes(20_000), "undecodable", "binary data")
    yield refused("video without sound", _mute, "undecodable", "MP4: no audio track")
    yield refused("wav, cut", lambda: wav()[:-9000], "truncated", "WAV: its sound ends at byte")
    yield refused("rf64, cut", lambda: long_wav(b"RF64")[:-9000], "truncated", "WAV: its sound ends at byte")
    yield refused("wav of 65 channels", lambda: channels(65), "undecodable", "65 channels")
    yield refused("wav of 1 Hz", lambda: patched(wav(), b"fmt ", 12, struct.pack("<I", 1)), "undecodable", "1 samples")
    yield refused("wav without sound", lambda: wav(sound()[:0]), "empty", "WAV")
    yield refused("aiff, cut", lambda: aiff()[:-9000], "truncated", "AIFF: its sound ends at byte")
    yield refused("au, cut", lambda: au()[:-9000], "truncated", "AU: its sound ends at byte")
    yield refused("caf, cut", lambda: coded("caf", "pcm_s16le")[:9000], "truncated", "CAF: its sound ends at byte")
    yield refused("wma, cut", lambda: _wma()[:9000], "truncated", "Windows Media: it ends at byte")
    yield refused("mp3, cut", lambda: base("mp3")[:3000], "truncated", f"s of {SECONDS + 0.1:.1f}"[:5])
    yield refused("flac, cut", lambda: base("flac")[:12_000], "truncated", f"s of {SECONDS:.2f} s")
    yield refused("flac, cut early", lambda: base("flac")[:6000], "truncated", "FLAC: it ends before")
    yield refused(
        "flac behind id3, cut", lambda: id3(900) + base("flac")[:12_000], "truncated", f"s of {SECONDS:.2f} s"
    )
    yield refused("ogg, cut in a page", lambda: base("ogg")[:-99], "truncated", "Ogg: its last page is cut")
    yield refused("m4a, cut", lambda: base("mp4")[:3000], "truncated", "a part of it ends at byte")
    yield refused("m4a without its index", lambda: _without_index(base("mp4")), "truncated", "its index is missing")
    yield refused("m4a, index first, cut", _cut_first, "truncated", "a part of it ends at byte")


def _wma() -> bytes:
    return coded("asf", "wmav2", 44_100, codec_options={"b": "64000"})


def _without_index(data: bytes) -> bytes:
    return data[: data.index(b"moov") - 4]


def _cut_first() -> bytes:
    data = faststart()
    return data[: len(data) * 2 // 3]


def _mute() -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for _ in range(3):
            for packet in stream.encode(av.VideoFrame(32, 32, "yuv420p")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return out.getvalue()
