"""Bytes of an audio file to samples, and samples to FLAC.

Guarantees: libav gets bytes only, and of its demuxers those on a short list, none of which opens what a file names;
the same samples give the same FLAC. Cost: one decode (a second one where the first shows that channels are silent or
cancel out), and eight bytes per sample of the result (three hours at 24 kHz: 2 GB) while it is put together.
"""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import av
import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from numpy.typing import NDArray

from pipeline.media.container import declared_s, id3_bytes, missing, mp3_start, streamed
from pipeline.media.downmix import MAX_CHANNELS, Downmix, Layout
from pipeline.media.error import MediaError, plain
from pipeline.media.sniff import what

# libav's demuxers that may be given a file. It probes among all of them and refuses what is not here: playlists (HLS,
# DASH, concat) open what they name.
_DEMUXERS = "aac,aiff,amr,asf,au,caf,flac,matroska,mov,mp3,mpegts,ogg,wav"
# Those whose header declares how long the sound is; libav's figure for others is a guess from the file's size.
_DECLARING = ("matroska", "mov")
_NAMES = {"AIFF": "aiff", "AU": "au", "CAF": "caf", "M4A": "mov", "MP4": "mov", "Ogg": "ogg", "QuickTime": "mov"} | {
    "WAV": "wav"
}
_RATES_HZ = (1_000, 1_048_575)  # beyond FLAC's highest (RFC 9639), and below any that carries speech, is no sound
_ASIDE = Disposition.comment | Disposition.visual_impaired | Disposition.karaoke | Disposition.clean_effects

# A whole file may lack this much of the declared length. 0.25 s: the priming and padding of codecs (AAC: 2,112 samples,
# 0.13 s at 16 kHz). A thousandth: headers round, and an hour of drift between two clocks is seconds.
_SLACK_S = 0.25
_SLACK_SHARE = 0.001
# Spliced-in advertisements break a packet or two of a sound episode; a damaged file breaks more.
_MAX_BAD_PACKETS_SHARE = 0.001


@dataclass(frozen=True, kw_only=True)
class Waveform:
    """Mono `samples` (T,) in float32, full scale 1.0."""

    samples: NDArray[np.float32]
    sample_rate: int

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


def decode_audio(
    data: bytes,
    sample_rate: int,
    max_duration_s: float = 3 * 3600.0,
    speaks: Callable[[str], bool] | None = None,
) -> Waveform:
    """Decode mp3, wav (RF64), flac, ogg, m4a/mp4, webm, aac, aiff, caf, au, amr, wma or an MPEG stream to mono at
    `sample_rate`.

    Of several tracks the one whose language `speaks` says yes to, else the one marked as default, else libav's best.
    Channels are mixed as `Downmix` says. MediaError `audio_truncated` (the container breaks off, or gives clearly less
    than its header declares), `audio_undecodable` (another format, no audio track, more than one broken packet in a
    thousand), `audio_empty` or `audio_too_long` (noticed on the way, before all of it is in memory). An MP3 without a
    Xing or VBRI header declares no length: cut at a frame, it is whole for all that anybody can tell.
    """
    kind = what(data)
    data = streamed(data[id3_bytes(data) :] if data.startswith(b"ID3") else data)
    try:
        downmix = Downmix()
        track = _decode(data, sample_rate, max_duration_s, speaks, downmix)
        revised = downmix.revised()
        if revised is not None:
            track = _decode(data, sample_rate, max_duration_s, speaks, revised)
    except MediaError:
        raise
    except (av.FFmpegError, ValueError, IndexError, EOFError, OverflowError) as error:
        cut = missing(data, _NAMES[kind]) if kind in _NAMES else None
        if cut is None and isinstance(error, EOFError) and kind == "FLAC":
            cut = "it ends before its first frame does"
        if cut:
            raise MediaError("audio_truncated", f"{kind}: {cut}") from error
        words = "" if isinstance(error, av.InvalidDataError | av.ArgumentError) else plain(error)  # no more than that
        raise MediaError("audio_undecodable", kind + words) from error
    wave = Waveform(samples=track.samples, sample_rate=sample_rate)
    # Truncation first: a cut file breaks packets as well, and the more telling reason should stand.
    cut = missing(data, track.demuxer)
    if cut:
        raise MediaError("audio_truncated", f"{kind}: {cut}")
    if track.declared_s - wave.duration_s > _SLACK_S + _SLACK_SHARE * track.declared_s:
        raise MediaError("audio_truncated", f"{kind}: {wave.duration_s:.2f} s of {track.declared_s:.2f} s")
    if track.problem or not np.isfinite(wave.samples).all():
        raise MediaError("audio_undecodable", f"{kind}: {track.problem or 'samples that are no numbers'}")
    if not len(wave.samples):
        raise MediaError("audio_empty", kind)
    return wave


def resample(wave: Waveform, sample_rate: int) -> Waveform:
    """The same sound at another rate (soxr's high quality: linear phase, what the new rate cannot hold is removed)."""
    samples = soxr.resample(wave.samples, wave.sample_rate, sample_rate)
    return Waveform(samples=samples, sample_rate=sample_rate)


def encode_flac(wave: Waveform) -> bytes:
    """16-bit FLAC bytes that depend on the samples alone; beyond full scale is cut."""
    pcm = np.round(np.clip(wave.samples, -1.0, 1.0) * 32767).astype(np.int16)
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=wave.sample_rate, layout="mono")
        frame = AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = wave.sample_rate
        frame.pts = 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return file.getvalue()


@dataclass(frozen=True, kw_only=True)
class _Track:
    """What a decoder made of a file: `problem` says what was wrong with too many packets, and is empty otherwise."""

    samples: NDArray[np.float32]
    demuxer: str
    declared_s: float
    problem: str


def _open(data: bytes) -> InputContainer:
    """By libav's own probing. What it takes for none of those allowed may still be MPEG audio behind junk."""
    options = {"format_whitelist": _DEMUXERS}
    try:
        return av.open(io.BytesIO(data), "r", metadata_errors="replace", container_options=options)
    except (av.FFmpegError, ValueError):
        start = mp3_start(data)
        if start is None:
            raise
        return av.open(io.BytesIO(data[start:]), "r", format="mp3", metadata_errors="replace")


def _decode(
    data: bytes, sample_rate: int, max_duration_s: float, speaks: Callable[[str], bool] | None, downmix: Downmix
) -> _Track:
    chunks: list[NDArray[np.float32]] = []
    errors: list[str] = []
    length = 0
    packets = 0
    with _open(data) as container:
        stream = _choose(container, speaks)
        demuxer = container.format.name.partition(",")[0]
        declared = _declared_s(container, stream, data, demuxer)

        def frames() -> Iterator[AudioFrame]:
            nonlocal packets
            for packet in container.demux(stream):
                packets += 1
                try:
                    yield from packet.decode()
                except av.FFmpegError as error:  # one packet's worth of sound is lost, and counted
                    errors.append(plain(error))

        for chunk in _resampled(frames(), sample_rate, downmix):
            chunks.append(chunk)
            length += len(chunk)
            if length > max_duration_s * sample_rate:
                raise MediaError("audio_too_long", f"more than {max_duration_s:g} s")
    samples = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
    too_many = len(errors) > max(1, _MAX_BAD_PACKETS_SHARE * packets) or (errors and not length)
    problem = f"{len(errors)} of {packets} packets broken{errors[0]}" if too_many else ""
    return _Track(samples=samples, demuxer=demuxer, declared_s=declared, problem=problem)


def _choose(container: InputContainer, speaks: Callable[[str], bool] | None) -> AudioStream:
    """The track that a listener of this language would hear; those beside the point (comments, descriptions) last."""
    best = container.streams.best("audio")
    if not isinstance(best, AudioStream):
        raise ValueError("no audio track")

    def rank(track: AudioStream) -> tuple[bool, bool, bool, bool]:
        is_spoken = speaks is not None and bool(track.language) and speaks(str(track.language))
        is_default = bool(track.disposition & Disposition.default)
        return not track.disposition & _ASIDE, is_spoken, is_default, track.index == best.index

    return max(container.streams.audio, key=rank)


def _declared_s(container: InputContainer, stream: AudioStream, data: bytes, demuxer: str) -> float:
    """How long the file says it is; 0 where it says nothing."""
    if demuxer not in _DECLARING:
        return declared_s(data, demuxer) or 0.0
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    # Of the whole container, which a longer video may set.
    return container.duration / av.time_base if container.duration and len(container.streams) == 1 else 0.0


def _resampled(frames: Iterator[AudioFrame], sample_rate: int, downmix: Downmix) -> Iterator[NDArray[np.float32]]:
    """Mono at one rate, in chunks (t,).

    Frames are laid end to end whatever their time stamps say. A stream whose format changes on the way (spliced-in
    advertisements do that) gets a new converter and resampler there.
    """
    convert: AudioResampler | None = None
    stream: soxr.ResampleStream | None = None
    layout: Layout = ()
    current = None
    for frame in frames:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if convert is None or stream is None or kind != current:
            if stream is not None:
                yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
            convert, stream, layout = _converter(frame, sample_rate)
            current = kind
        frame.pts = None
        for part in convert.resample(frame):
            samples = np.asarray(part.to_ndarray(), np.float32).reshape(-1, len(layout))  # (1, t C) -> (t, C)
            yield stream.resample_chunk(downmix.mix(samples, layout))
    if stream is not None:
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _converter(frame: AudioFrame, sample_rate: int) -> tuple[AudioResampler, soxr.ResampleStream, Layout]:
    """To packed floats (PyAV reads no more than eight planes safely), and from mono at its rate to ours."""
    channels, rate_hz = frame.layout.nb_channels, frame.sample_rate
    if not 1 <= channels <= MAX_CHANNELS:
        raise ValueError(f"{channels} channels")
    if not _RATES_HZ[0] <= rate_hz <= _RATES_HZ[1]:
        raise ValueError(f"{rate_hz} samples a second")
    convert = AudioResampler(format="flt", layout=frame.layout, rate=rate_hz)
    layout = tuple(channel.name for channel in frame.layout.channels)
    return convert, soxr.ResampleStream(rate_hz, sample_rate, 1, dtype="float32"), layout
