"""Synthesised sound, encoded into every container that we read."""

import functools
import io

import av
import numpy as np

CODECS = {"mp3": "libmp3lame", "flac": "flac", "wav": "pcm_s16le", "ogg": "libopus", "mp4": "aac", "webm": "libopus"}


def tone(seconds: float, rate: int, hz: float = 440.0, amplitude: float = 0.3) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def voice(seconds: float, rate: int) -> np.ndarray:
    """A vowel: a pulse train at 120 Hz through three resonances, in syllables of a quarter of a second."""
    t = np.arange(round(seconds * rate)) / rate
    out = np.zeros_like(t)
    for n in range(1, int(3500 / 120)):
        hz = 120 * n
        gain = sum(np.exp(-(((hz - formant) / 120) ** 2)) for formant in (700, 1200, 2600)) + 0.05
        out += gain * np.sin(2 * np.pi * hz * t)
    out *= 0.6 + 0.4 * np.sin(2 * np.pi * 4 * t)
    return (0.3 * out / np.abs(out).max()).astype(np.float32)


def encode(kind: str, samples: np.ndarray, rate: int, channels: int = 1, **options: str) -> bytes:
    """Samples (T,) or (channels, T) as a file."""
    out = io.BytesIO()
    with av.open(out, "w", format=kind, options=options) as container:
        layout = {1: "mono", 2: "stereo"}[channels]
        stream = container.add_stream(CODECS[kind], rate=rate, layout=layout)
        planes = np.atleast_2d(samples).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(planes), format="fltp", layout=layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            for packet in stream.encode(part):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return out.getvalue()


@functools.cache
def files() -> dict[str, bytes]:
    """Four seconds of a 440 Hz tone at 48 kHz in each container."""
    return {kind: encode(kind, tone(4, 48_000), 48_000) for kind in CODECS}
