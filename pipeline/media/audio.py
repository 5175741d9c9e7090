"""Bytes of an audio file to samples, and samples to FLAC.

Guarantees: libav gets bytes only and the one demuxer that the first bytes call for, so no file can make it open
another; the same samples give the same FLAC. Cost: one decode, and eight bytes per sample of the result (three hours
at 24 kHz: 2 GB) while it is put together.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer
from numpy.typing import NDArray

from pipeline.media.container import breaks_off, mp3_duration_s, sniff
from pipeline.media.error import MediaError

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


def decode_audio(data: bytes, sample_rate: int, max_duration_s: float = 3 * 3600.0) -> Waveform:
    """Decode mp3, wav, flac, ogg, m4a/mp4 or webm to mono at `sample_rate`.

    MediaError `audio_truncated` (the container breaks off, or gives clearly less than its header declares),
    `audio_undecodable` (another format, no audio stream, more than one broken packet in a thousand), `audio_empty` or
    `audio_too_long` (noticed on the way, before all of it is in memory). An MP3 without a Xing or VBRI header declares
    no length: cut at a frame, it is whole for all that anybody can tell.
    """
    name = sniff(data)
    if name is None:
        raise MediaError("audio_undecodable", f"starts with {data[:8].hex()}, which no allowed format does")
    is_cut = breaks_off(data, name)
    try:
        track = _decode(data, name, sample_rate, max_duration_s)
    except MediaError:
        raise
    except (av.FFmpegError, ValueError, IndexError, EOFError, OverflowError) as error:
        reason = "audio_truncated" if is_cut else "audio_undecodable"
        raise MediaError(reason, f"{name}: {error}"[:200]) from error
    wave = Waveform(samples=track.samples, sample_rate=sample_rate)
    missing_s = track.declared_s - wave.duration_s
    # Truncation first: a cut file breaks packets as well, and the more telling reason should stand.
    if is_cut or missing_s > _SLACK_S + _SLACK_SHARE * track.declared_s:
        raise MediaError("audio_truncated", f"{name}: {wave.duration_s:.2f} s of {track.declared_s:.2f} s")
    if track.problem or not np.isfinite(wave.samples).all():
        raise MediaError("audio_undecodable", f"{name}: {track.problem or 'samples that are no numbers'}"[:200])
    if not len(wave.samples):
        raise MediaError("audio_empty", name)
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
    declared_s: float
    problem: str


def _decode(data: bytes, name: str, sample_rate: int, max_duration_s: float) -> _Track:
    chunks: list[NDArray[np.float32]] = []
    errors: list[str] = []
    length = 0
    packets = 0
    with av.open(io.BytesIO(data), "r", format=name, metadata_errors="replace") as container:
        declared_s = _declared_s(container, data, name)
        stream = container.streams.audio[0]

        def frames() -> Iterator[AudioFrame]:
            nonlocal packets
            for packet in container.demux(stream):
                packets += 1
                try:
                    yield from packet.decode()
                except av.FFmpegError as error:  # one packet's worth of sound is lost, and counted
                    errors.append(str(error))

        for chunk in _resampled(frames(), sample_rate):
            chunks.append(chunk)
            length += len(chunk)
            if length > max_duration_s * sample_rate:
                raise MediaError("audio_too_long", f"more than {max_duration_s:g} s")
    samples = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
    too_many = len(errors) > max(1, _MAX_BAD_PACKETS_SHARE * packets) or (errors and not length)
    problem = f"{len(errors)} of {packets} packets broken, first: {errors[0]}" if too_many else ""
    return _Track(samples=samples, declared_s=declared_s, problem=problem)


def _declared_s(container: InputContainer, data: bytes, name: str) -> float:
    """How long the file says it is; 0 where it says nothing. libav's own figure may be a guess from the file's size."""
    if not container.streams.audio:
        raise ValueError("no audio stream")
    if name == "mp3":
        return mp3_duration_s(data) or 0.0
    if name == "ogg":
        return 0.0  # its last page says it, and `breaks_off` has looked at that
    stream = container.streams.audio[0]
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    # Of the whole container, which a longer video may set.
    return container.duration / av.time_base if container.duration and len(container.streams) == 1 else 0.0


def _resampled(frames: Iterator[AudioFrame], sample_rate: int) -> Iterator[NDArray[np.float32]]:
    """Mono (the mean of all channels) at one rate, in chunks (t,).

    Frames are laid end to end whatever their time stamps say. A stream whose format changes on the way (spliced-in
    advertisements do that) gets a new converter and resampler there.
    """
    convert: AudioResampler | None = None
    stream: soxr.ResampleStream | None = None
    current = None
    for frame in frames:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if convert is None or stream is None or kind != current:
            if stream is not None:
                yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
            # To float, at its own rate: libswresample's downmix is louder than a mean and could clip.
            convert = AudioResampler(format="fltp", layout=frame.layout, rate=frame.sample_rate)
            stream = soxr.ResampleStream(frame.sample_rate, sample_rate, 1, dtype="float32")
            current = kind
        frame.pts = None
        for part in convert.resample(frame):
            mono = part.to_ndarray().mean(axis=0, dtype=np.float32)  # (channels, t) -> (t,)
            yield stream.resample_chunk(mono)
    if stream is not None:
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)
