"""Sound against what was encoded, and against another decoder."""

import io
import pickle

import numpy as np
import pytest
import soundfile

from pipeline.media.audio import Waveform, decode_audio, encode_flac, resample
from pipeline.media.error import MediaError
from tests.media.sounds import encode, tone


def level(samples: np.ndarray, hz: float, rate: int) -> float:
    """Amplitude of one frequency, by correlation, away from the edges."""
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    return float(2 * abs(np.mean(middle * np.exp(-2j * np.pi * hz * np.arange(len(middle)) / rate))))


@pytest.mark.parametrize(
    ("kind", "tolerance"),
    [("wav", 0.001), ("flac", 0.001), ("mp3", 0.02), ("ogg", 0.02), ("mp4", 0.02), ("webm", 0.02)],
)
def test_a_tone_keeps_its_length_pitch_and_level(files, kind, tolerance):
    for rate in (16_000, 24_000, 48_000):
        found = decode_audio(files[kind], rate)
        assert found.samples.dtype == np.float32 and found.sample_rate == rate
        assert abs(found.duration_s - 4) < 0.06
        assert abs(level(found.samples, 440, rate) - 0.3) < tolerance


def test_lossless_files_come_back_sample_for_sample(files):
    for kind in ("wav", "flac"):
        assert np.abs(decode_audio(files[kind], 48_000).samples - tone(4, 48_000)).max() < 1e-4


def test_the_same_samples_as_libsndfile(files):
    theirs, rate = soundfile.read(io.BytesIO(files["flac"]), dtype="float32")
    assert rate == 48_000 and np.array_equal(decode_audio(files["flac"], rate).samples, theirs)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT"])
def test_wav_is_sample_for_sample_libsndfiles(subtype):
    out = io.BytesIO()
    soundfile.write(out, np.random.default_rng(0).uniform(-1, 1, (9000, 2)), 24_000, subtype=subtype, format="WAV")
    theirs, _ = soundfile.read(io.BytesIO(out.getvalue()), dtype="float32")
    found = decode_audio(out.getvalue(), 24_000).samples
    assert np.array_equal(found, theirs.mean(axis=1, dtype=np.float32))


def test_what_the_new_rate_cannot_hold_is_filtered_out():
    data = encode("wav", tone(2, 44_100, hz=10_000), 44_100)
    found = decode_audio(data, 16_000).samples
    assert np.sqrt(np.mean(found[1000:-1000] ** 2)) < 0.3 * 10 ** (-50 / 20)


def test_stereo_is_mixed():
    left, right = tone(1, 16_000, amplitude=0.4), tone(1, 16_000, hz=1000, amplitude=0.2)
    found = decode_audio(encode("wav", np.stack([left, right]), 16_000, channels=2), 16_000).samples
    assert np.abs(found - (left + right) / 2).max() < 1e-3


def test_a_stream_that_changes_its_format_on_the_way():
    first, second = (
        encode("mp3", tone(2, 44_100), 44_100),
        encode("mp3", np.stack([tone(2, 44_100)] * 2), 44_100, channels=2),
    )
    found = decode_audio(first + second, 16_000)  # as an advertisement is spliced into an episode
    assert 3.8 < found.duration_s < 4.2 and abs(level(found.samples[:30_000], 440, 16_000) - 0.3) < 0.02


def test_an_mp3_without_a_length_can_only_be_taken_as_it_is(files):
    data = files["mp3"].replace(b"Info", b"\0\0\0\0").replace(b"Xing", b"\0\0\0\0")
    assert abs(decode_audio(data[: len(data) // 2], 16_000).duration_s - 2) < 0.2


def test_flac_round_trip_is_exact_and_repeatable():
    samples = np.random.default_rng(0).uniform(-1.2, 1.2, 5000).astype(np.float32)
    data = encode_flac(Waveform(samples=samples, sample_rate=24_000))
    assert data == encode_flac(Waveform(samples=samples, sample_rate=24_000))
    theirs, rate = soundfile.read(io.BytesIO(data), dtype="int16")
    assert rate == 24_000 and np.array_equal(theirs, np.round(np.clip(samples, -1, 1) * 32767))
    assert len(decode_audio(data, 24_000).samples) == 5000


def test_a_very_short_clip_can_be_encoded():
    for length in (1, 15, 100):
        data = encode_flac(Waveform(samples=np.zeros(length, np.float32), sample_rate=16_000))
        assert len(soundfile.read(io.BytesIO(data))[0]) == length


def test_resampling_is_that_of_the_decoder(files):
    wave = decode_audio(files["wav"], 48_000)
    other = resample(wave, 22_050)
    assert other.sample_rate == 22_050 and other.samples.dtype == np.float32
    theirs = decode_audio(files["wav"], 22_050).samples
    assert len(other.samples) == len(theirs) and np.abs(other.samples - theirs).max() < 1e-4


def test_errors_are_values_of_a_user_with_a_code_and_survive_pickling(files):
    with pytest.raises(ValueError, match=r"audio_undecodable: text") as caught:
        decode_audio(b"junk", 16_000)
    again = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(again, MediaError) and str(again) == str(caught.value)
    assert (again.reason, again.detail) == (caught.value.reason, caught.value.detail)
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros(0), 16_000, format="WAV")
    for data, limit_s, reason in (
        (files["wav"][:-100], 9, "audio_truncated"),
        (files["mp3"], 3, "audio_too_long"),
        (silence.getvalue(), 9, "audio_empty"),
    ):
        with pytest.raises(MediaError) as caught:
            decode_audio(data, 16_000, limit_s)
        assert caught.value.reason == reason
