"""From the bytes of an audio file to samples, and from samples to FLAC.

libav gets bytes only and the one demuxer that the first bytes call for, so no file can make it open another. Cost:
one decode, and eight bytes per sample of the result (three hours at 24 kHz: 2 GB) while it is put together.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.container import InputContainer
from numpy.typing import NDArray

from pipeline.curate.audio.container import breaks_off, mp3_duration_s, sniff
from pipeline.curate.stage import Leave

# Codec delay and padding explain this much; more that is missing was cut off.
_SLACK_S, _SLACK = 0.25, 0.001
_MAX_BAD_PACKETS = 0.001


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

    Leaves as failed `audio_truncated` (the container breaks off, or gives clearly less than its header declares),
    `audio_undecodable` (another format, no audio stream, more than one broken packet in a thousand), `audio_empty`;
    as dropped `audio_too_long`. An MP3 without a Xing or VBRI header declares no length: cut at a frame, it is
    whole for all that anybody can tell.
    """
    name = sniff(data)
    if name is None:
        raise Leave("failed", "audio_undecodable", detail=f"starts with {data[:8].hex()}, which no allowed format does")
    is_cut = breaks_off(data, name)
    try:
        samples, declared_s, problem = _decode(data, name, sample_rate, max_duration_s)
    except (av.FFmpegError, ValueError, IndexError, EOFError, OverflowError) as error:
        reason = "audio_truncated" if is_cut else "audio_undecodable"
        raise Leave("failed", reason, detail=f"{name}: {error}"[:200]) from error
    wave = Waveform(samples=samples, sample_rate=sample_rate)
    if is_cut or declared_s - wave.duration_s > _SLACK_S + _SLACK * declared_s:
        raise Leave("failed", "audio_truncated", detail=f"{name}: {wave.duration_s:.2f} s of {declared_s:.2f} s")
    if problem or not np.isfinite(samples).all():
        raise Leave("failed", "audio_undecodable", detail=f"{name}: {problem or 'samples that are no numbers'}"[:200])
    if not len(samples):
        raise Leave("failed", "audio_empty", detail=name)
    return wave


def encode_flac(wave: Waveform) -> bytes:
    """16-bit FLAC bytes that depend on the samples alone; beyond full scale is cut."""
    pcm = np.round(np.clip(wave.samples, -1.0, 1.0) * 32767).astype(np.int16)
    out = io.BytesIO()
    with av.open(out, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=wave.sample_rate, layout="mono")
        frame = AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        frame.sample_rate = wave.sample_rate
        frame.pts = 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return out.getvalue()


def _decode(data: bytes, name: str, sample_rate: int, max_duration_s: float) -> tuple[NDArray[np.float32], float, str]:
    """Samples, the duration that the container declares (0 if none), and what was wrong with too many packets."""
    chunks: list[NDArray[np.float32]] = []
    length, errors = 0, []
    with av.open(io.BytesIO(data), "r", format=name, metadata_errors="replace") as container:
        declared_s = _declared_s(container, data, name)
        stream = container.streams.audio[0]
        packets = 0

        def frames() -> Iterator[AudioFrame]:
            nonlocal packets
            for packet in container.demux(stream):
                packets += 1
                try:
                    yield from packet.decode()
                except av.FFmpegError as error:
                    errors.append(str(error))

        for chunk in _resample(frames(), sample_rate):
            chunks.append(chunk)
            length += len(chunk)
            if length > max_duration_s * sample_rate:
                raise Leave("dropped", "audio_too_long", detail=f"more than {max_duration_s:g} s")
    samples = np.concatenate(chunks) if chunks else np.zeros(0, np.float32)
    too_many = len(errors) > max(1, _MAX_BAD_PACKETS * packets) or (errors and not length)
    return samples, declared_s, f"{len(errors)} of {packets} packets broken, first: {errors[0]}" if too_many else ""


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


def _resample(frames: Iterator[AudioFrame], sample_rate: int) -> Iterator[NDArray[np.float32]]:
    """Mono (the mean of all channels) at one rate, in chunks (t,).

    Frames are laid end to end whatever their time stamps say. A stream whose format changes on the way (spliced-in
    advertisements do that) gets a new converter and resampler there.
    """
    convert: AudioResampler | None = None
    resample: Any = None
    current = None
    for frame in frames:
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if convert is None or kind != current:
            if resample is not None:
                yield resample.resample_chunk(np.zeros(0, np.float32), last=True)
            # To float, at its own rate: libswresample's downmix is louder than a mean and could clip.
            convert = AudioResampler(format="fltp", layout=frame.layout, rate=frame.sample_rate)
            resample = soxr.ResampleStream(frame.sample_rate, sample_rate, 1, dtype="float32")
            current = kind
        frame.pts = None
        for part in convert.resample(frame):
            mono = part.to_ndarray().mean(axis=0, dtype=np.float32)  # (channels, t) -> (t,)
            yield resample.resample_chunk(mono)
    if resample is not None:
        yield resample.resample_chunk(np.zeros(0, np.float32), last=True)
