"""Log-mel spectrograms, as neural vocoders read them, and a waveform back from one.

T samples, N frames, F = n_fft / 2 + 1 frequency bins, M = n_mels. Guarantees: N = T / hop_length, rounded down; a frame
depends on the n_fft samples around it alone; nothing is drawn anew, so the same input gives the same output.
The definition is HiFi-GAN's (Kong et al. 2020, arXiv:2010.05646), which is Tacotron 2's but for the edges. Cost: an
FFT of n_fft a frame forward; backward two of them a frame and iteration.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from pipeline.ranges import check_range

Floats = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class MelSpec:
    """What a log-mel spectrogram is; the defaults are those of HiFi-GAN and Tacotron 2 for 22,050 Hz speech."""

    sample_rate_hz: int = 22_050
    n_fft: int = 1024
    """Samples of a frame and of its Hann window; a multiple of the hop."""
    hop_length: int = 256
    """Samples from one frame to the next."""
    n_mels: int = 80
    """Mel bands."""
    f_min_hz: float = 0.0
    """Where the lowest band begins."""
    f_max_hz: float = 8000.0
    """Where the highest band ends."""
    floor: float = 1e-5
    """The least magnitude of a band, so that silence has a logarithm."""

    def __post_init__(self) -> None:
        check_range(self, "sample_rate_hz", "n_fft", "hop_length", "n_mels", low=1)
        check_range(self, "f_min_hz", low=0)
        check_range(self, "floor", above=0)
        check_range(self, "f_max_hz", above=self.f_min_hz, high=self.sample_rate_hz / 2)
        # Whole hops make overlap-add a sum of shifted blocks; an even rest pads both ends alike.
        if self.n_fft % self.hop_length or (self.n_fft - self.hop_length) % 2:
            raise ValueError(f"n_fft is {self.n_fft}; use an even multiple of hop_length, {self.hop_length}")


def log_mel(samples: Floats, spec: MelSpec) -> Floats:
    """Natural logarithm of the mel magnitudes of mono `samples` (T,), full scale 1.0, as (M, N).

    ValueError if T is less than one hop.
    """
    if len(samples) < spec.hop_length:
        raise ValueError(f"{len(samples)} samples have no frame; use {spec.hop_length} or more")
    # Reflected at both ends, so that N = T // hop and a frame is centred in its hop; Tacotron 2 pads hop / 2 more.
    pad = (spec.n_fft - spec.hop_length) // 2
    padded = np.pad(np.asarray(samples, np.float32), pad, mode="reflect")  # (T + 2 pad,)
    magnitude = np.abs(_stft(padded, spec))  # (N, F)
    bands = magnitude @ mel_filters(spec).T  # (N, F) @ (F, M) -> (N, M)
    return np.log(np.maximum(bands, np.float32(spec.floor))).T  # (M, N)


def invert_log_mel(mel: Floats, spec: MelSpec, iterations: int = 32) -> Floats:
    """A waveform (N * hop_length,) whose log-mel spectrogram is close to `mel` (M, N).

    Phases come from the fast Griffin-Lim algorithm (Perraudin, Balazs and Sondergaard 2013, "A fast Griffin-Lim
    algorithm", with their alpha = 0.99). Pitch and rhythm are right, the voice sounds like one in a tube: a vocoder
    does better.
    """
    alpha = np.float32(0.99)
    magnitude = _magnitude(np.exp(mel.T), spec)  # (N, F), their s
    frames, bins = magnitude.shape
    # Random but fixed phases: from zero phases the iteration stays near a train of pulses.
    phase = np.random.default_rng(0).uniform(-np.pi, np.pi, (frames, bins)).astype(np.float32)
    accelerated = magnitude * np.exp(1j * phase)  # t_0
    consistent = np.zeros_like(accelerated)  # c_0
    for _ in range(iterations):
        # P_C2: the wanted magnitudes, the phases kept. P_C1: the nearest spectrogram that a signal has.
        projected = magnitude * np.exp(1j * np.angle(accelerated))
        previous = consistent
        consistent = _stft(_istft(projected, spec), spec)
        accelerated = consistent + alpha * (consistent - previous)
    pad = (spec.n_fft - spec.hop_length) // 2
    signal = _istft(magnitude * np.exp(1j * np.angle(accelerated)), spec)
    return signal[pad : pad + frames * spec.hop_length]


@functools.lru_cache(maxsize=8)
def mel_filters(spec: MelSpec) -> Floats:
    """Triangles (M, F) on Slaney's scale, each of area 1 over Hz, as `librosa.filters.mel` makes them. Read-only."""
    edges_hz = _mel_to_hz(np.linspace(_hz_to_mel(spec.f_min_hz), _hz_to_mel(spec.f_max_hz), spec.n_mels + 2))
    bins_hz = np.linspace(0, spec.sample_rate_hz / 2, spec.n_fft // 2 + 1)
    low, centre, high = (edges_hz[i : i + spec.n_mels, None] for i in range(3))  # (M, 1) each
    rising = (bins_hz - low) / (centre - low)  # (M, F)
    falling = (high - bins_hz) / (high - centre)
    filters = (np.maximum(0, np.minimum(rising, falling)) * 2 / (high - low)).astype(np.float32)
    filters.flags.writeable = False
    return filters


# Slaney 1998, Auditory Toolbox: linear up to 1 kHz, which is mel 15; above it 27 mel are a factor of 6.4.
_LINEAR_HZ = 200 / 3
_BREAK_MEL = 15.0
_BREAK_HZ = 1000.0
_STEP = np.log(6.4) / 27


def _hz_to_mel(hz: float) -> float:
    return hz / _LINEAR_HZ if hz < _BREAK_HZ else _BREAK_MEL + float(np.log(hz / _BREAK_HZ)) / _STEP


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = np.maximum(mel - _BREAK_MEL, 0)  # clipped: the branch that is not taken must not overflow
    return np.where(mel < _BREAK_MEL, mel * _LINEAR_HZ, _BREAK_HZ * np.exp(above * _STEP))


def _magnitude(bands: Floats, spec: MelSpec, updates: int = 50) -> Floats:
    """Magnitudes (N, F), none negative, whose mel bands come close to (N, M): more bins than bands, so one of many."""
    filters = mel_filters(spec)  # (M, F)
    # Multiplicative updates for least squares (Lee and Seung 2001, theorem 1) keep signs and need no solver.
    target = bands @ filters  # (N, M) @ (M, F) -> (N, F)
    gram = filters.T @ filters  # (F, F)
    magnitude = target.copy()
    for _ in range(updates):
        magnitude *= target / np.maximum(magnitude @ gram, np.float32(1e-12))
    return magnitude


def _window(spec: MelSpec) -> Floats:
    """Hann, periodic: its shifts by a hop that divides it add up to a constant."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(spec.n_fft) / spec.n_fft)).astype(np.float32)


def _stft(signal: Floats, spec: MelSpec) -> NDArray[np.complex64]:
    """(T,) -> (N, F), frames as they lie, without padding."""
    frames = sliding_window_view(signal, spec.n_fft)[:: spec.hop_length]  # (N, n_fft), a view
    # A cast for the type alone: numpy transforms float32 in single precision.
    return np.fft.rfft(frames * _window(spec)).astype(np.complex64, copy=False)  # (N, F)


def _istft(spectrum: NDArray[np.complex64], spec: MelSpec) -> Floats:
    """(N, F) -> ((N - 1) hop + n_fft,): the signal whose `_stft` is nearest (Griffin and Lim 1984, eq. 6)."""
    window = _window(spec)
    frames = np.fft.irfft(spectrum, spec.n_fft).astype(np.float32, copy=False) * window  # (N, n_fft)
    weight = _overlap_add(np.broadcast_to(window**2, frames.shape), spec.hop_length)
    signal = _overlap_add(frames, spec.hop_length)
    signal /= np.maximum(weight, np.float32(1e-8))  # the window is 0 at the first sample
    return signal


def _overlap_add(frames: Floats, hop: int) -> Floats:
    """(N, n_fft) -> ((N - 1) hop + n_fft,): the sum of frames, each a hop later than the one before."""
    blocks = frames.reshape(len(frames), -1, hop)  # (N, R, hop)
    ratio = blocks.shape[1]
    signal = np.zeros((len(frames) + ratio - 1, hop), np.float32)
    for i in range(ratio):  # block i of frame n lies in hop n + i
        signal[i : i + len(frames)] += blocks[:, i]
    return signal.ravel()
