"""Log-mel spectrograms against other implementations, and what comes back from one."""

import dataclasses

import numpy as np
import pytest
import torch
from transformers.audio_utils import mel_filter_bank

from pipeline.media.mel import MelSpec, _hz_to_mel, _istft, _mel_to_hz, _stft, invert_log_mel, log_mel, mel_filters
from tests.media.sounds import tone, voice

SPEC = MelSpec()
RATE = SPEC.sample_rate_hz
# As librosa's documentation of `mel_frequencies(n_mels=40)` prints them.
LIBROSA_HZ = """
    0.     85.317  170.635  255.952  341.269  426.586  511.904  597.221  682.538  767.855  853.173  938.49  1024.856
 1119.114 1222.042 1334.436 1457.167 1591.187 1737.532 1897.337 2071.84  2262.393 2470.47  2697.686 2945.799 3216.731
 3512.582 3835.643 4188.417 4573.636 4994.285 5453.621 5955.205 6502.92  7101.009 7754.107 8467.272 9246.028 10096.408
11025.   """


def noisy_voice(seconds: float) -> np.ndarray:
    samples = voice(seconds, RATE)
    return samples + np.random.default_rng(1).normal(0, 0.01, len(samples)).astype(np.float32)


def test_the_scale_is_librosas():
    assert [_hz_to_mel(hz) for hz in (60, 110, 220, 440)] == pytest.approx([0.9, 1.65, 3.3, 6.6])
    hz = _mel_to_hz(np.linspace(0, _hz_to_mel(11_025), 40))
    assert hz == pytest.approx([float(word) for word in LIBROSA_HZ.split()], abs=6e-4)


@pytest.mark.parametrize(
    "spec",
    [SPEC, MelSpec(sample_rate_hz=24_000, n_fft=2048, hop_length=512, n_mels=128, f_min_hz=40, f_max_hz=12_000)],
)
def test_filters_are_those_of_another_implementation(spec):
    theirs = mel_filter_bank(
        num_frequency_bins=spec.n_fft // 2 + 1,
        num_mel_filters=spec.n_mels,
        min_frequency=spec.f_min_hz,
        max_frequency=spec.f_max_hz,
        sampling_rate=spec.sample_rate_hz,
        norm="slaney",
        mel_scale="slaney",
    ).T
    assert np.abs(mel_filters(spec) - theirs).max() < 1e-7 * theirs.max()


def test_a_wide_filter_has_area_one():
    spec = MelSpec(n_fft=16_384, hop_length=4096)
    area = mel_filters(spec).sum(1) * spec.sample_rate_hz / spec.n_fft
    assert area == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("length", [256, 257, 1000, 20_000])
def test_the_spectrogram_is_hifi_gans(length):
    samples = noisy_voice(1)[:length]
    padded = torch.from_numpy(np.pad(samples, 384, mode="reflect"))
    spectrum = torch.stft(padded, 1024, 256, window=torch.hann_window(1024), center=False, return_complex=True)
    bands = torch.from_numpy(mel_filters(SPEC).copy()) @ spectrum.abs()
    expected = bands.clamp(min=1e-5).log().numpy()
    mel = log_mel(samples, SPEC)
    assert mel.shape == (80, length // 256) and mel.dtype == np.float32
    assert np.abs(mel - expected).max() < 1e-3


def test_silence_and_full_scale_have_closed_forms():
    assert np.all(log_mel(np.zeros(2048, np.float32), SPEC) == np.float32(np.log(1e-5)))
    # A sine in the middle of bin 100: the Hann window's gain of 1/2, half of it in the positive frequency.
    hz = 100 * RATE / SPEC.n_fft
    middle = log_mel(tone(1, RATE, hz=hz, amplitude=1.0), SPEC)[:, 40]
    line = np.zeros(513)
    line[99:102] = SPEC.n_fft / 4 * np.array([0.5, 1.0, 0.5])
    loud = mel_filters(SPEC) @ line > 1e-3
    assert np.exp(middle[loud]) == pytest.approx((mel_filters(SPEC) @ line)[loud], rel=1e-3)


def test_a_frame_depends_on_its_own_samples_alone():
    samples = noisy_voice(1)
    whole = log_mel(samples, SPEC)
    part = log_mel(samples[10 * 256 : 40 * 256], SPEC)
    assert np.abs(whole[:, 12:38] - part[:, 2:28]).max() < 1e-4


def test_the_transforms_are_inverse_of_each_other():
    samples = noisy_voice(1)[: 1024 + 60 * 256]
    again = _istft(_stft(samples, SPEC), SPEC)
    assert again.dtype == np.float32 and len(again) == len(samples)
    assert np.abs(again - samples)[256:-256].max() < 1e-5


@pytest.mark.parametrize(
    ("samples", "error"),
    [(tone(2, RATE), 0.15), (tone(2, RATE) + tone(2, RATE, hz=1500), 0.2), (voice(2, RATE), 0.15)],
)
def test_the_mel_survives_its_inversion(samples, error):
    mel = log_mel(samples, SPEC)
    again = invert_log_mel(mel, SPEC)
    assert again.dtype == np.float32 and len(again) == mel.shape[1] * 256
    assert np.abs(log_mel(again, SPEC) - mel).mean() < error  # nepers; 0.15 is 1.3 dB
    assert np.array_equal(again, invert_log_mel(mel, SPEC))


def test_a_tone_comes_back_in_its_band():
    again = invert_log_mel(log_mel(tone(2, RATE), SPEC), SPEC)
    spectrum = np.abs(np.fft.rfft(again * np.hanning(len(again))))
    hz = np.argmax(spectrum) * RATE / len(again)
    band = mel_filters(SPEC)[:, round(440 / RATE * 1024)] > 0
    assert abs(hz - 440) < 22, "within a bin of the transform, which is all that the bands know"
    assert log_mel(again, SPEC)[band].mean() == pytest.approx(log_mel(tone(2, RATE), SPEC)[band].mean(), abs=0.15)


def test_more_iterations_come_closer_than_none():
    mel = log_mel(noisy_voice(1), SPEC)
    errors = [np.abs(log_mel(invert_log_mel(mel, SPEC, n), SPEC) - mel).mean() for n in (0, 8, 32)]
    assert errors[0] > 4 * errors[1] > 4 * errors[2]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"n_fft": 1000}, "n_fft is 1000"),
        ({"hop_length": 0}, "hop_length is 0"),
        ({"f_max_hz": 20_000.0}, "f_max_hz is 20000"),
        ({"f_min_hz": 9000.0}, "f_max_hz is 8000"),
        ({"floor": 0.0}, "floor is 0"),
    ],
)
def test_bad_settings_are_named(bad, words):
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(SPEC, **bad)


def test_less_than_a_hop_is_refused():
    with pytest.raises(ValueError, match="255 samples"):
        log_mel(np.zeros(255, np.float32), SPEC)
