"""Cutting clips where words and voices are."""

import io

import numpy as np
import pytest
import soundfile

from pipeline.curate import revoke
from pipeline.curate.audio.segment import CutClips, join_cues, loudness, speech_frames, trim
from pipeline.curate.stage import Leave
from pipeline.curate.text.transcripts import Cue
from pipeline.curate.work import apply, to_table
from pipeline.media.audio import Waveform
from pipeline.records import CLIP, CONTENT, key_of
from tests.media.sounds import encode, tone, voice

RATE = 16_000


def cue(start_s: float, end_s: float, text: str = "word") -> Cue:
    return Cue(start_s=start_s, end_s=end_s, text=text)


def spans(cues: list[Cue], max_s: float = 10, max_gap_s: float = 0.5) -> list[tuple[float, float, str]]:
    return [(span.start_s, span.end_s, span.text) for span in join_cues(cues, max_s=max_s, max_gap_s=max_gap_s)]


def test_neighbouring_cues_are_joined_up_to_the_limit():
    assert spans([cue(0, 4, "a"), cue(4, 8, "b"), cue(8.2, 10, "c"), cue(10, 11, "d")]) == [
        (0, 10, "a b c"),
        (10, 11, "d"),
    ]
    assert spans([cue(0, 1, "a"), cue(1.6, 2, "b")]) == [(0, 1, "a"), (1.6, 2, "b")]
    assert spans([cue(0, 30, "long")]) == [(0, 30, "long")]


def test_overlapping_cues_are_never_parted():
    assert spans([cue(0, 6, "a"), cue(5, 12, "b"), cue(11, 11.5, "c"), cue(12, 13, "d")]) == [
        (0, 12, "a b c"),
        (12, 13, "d"),
    ]


def test_cues_without_words_are_passed_over():
    assert spans([cue(0, 1, "[Music]"), cue(1, 2, "<i>a</i> &amp;"), cue(2, 2.2, " \n "), cue(2.2, 3, "♪ b")]) == [
        (1, 2, "a &")
    ]
    assert spans([cue(0, 1, "\n")]) == []


def test_every_word_ends_in_exactly_one_span():
    rng = np.random.default_rng(0)
    for _ in range(50):
        starts = np.sort(rng.uniform(0, 100, 40))
        cues = [cue(float(s), float(s + rng.uniform(0, 4)), f"w{n}") for n, s in enumerate(starts)]
        found = join_cues(cues, max_s=10, max_gap_s=0.5)
        assert " ".join(span.text for span in found).split() == [f"w{n}" for n in range(40)]
        assert all(a.end_s <= b.start_s for a, b in zip(found, found[1:], strict=False))


def test_the_detector_hears_voices_and_no_silence():
    quiet = np.zeros(RATE, np.float32)
    for rate in (16_000, 22_050, 24_000):
        sound = np.concatenate([np.zeros(rate, np.float32), voice(1, rate), np.zeros(rate, np.float32)])
        frames = speech_frames(Waveform(samples=sound, sample_rate=rate), 2)
        assert abs(len(frames) - 100) <= 1
        assert frames[36:64].mean() > 0.9 and frames[:30].mean() == 0 and frames[80:].mean() == 0
    assert not speech_frames(Waveform(samples=quiet, sample_rate=RATE), 0).any()
    assert len(speech_frames(Waveform(samples=quiet[:100], sample_rate=RATE), 2)) == 0


def test_trimming_keeps_padding_and_never_widens():
    frames = np.zeros(100, bool)
    frames[40:50] = True  # 1.2 s to 1.5 s
    assert trim(frames, 0.5, 2.5, 0.1) == pytest.approx((1.1, 1.6))
    assert trim(frames, 1.19, 1.52, 0.1) == pytest.approx((1.19, 1.52))
    assert trim(frames, 2.0, 2.5, 0.1) == (2.0, 2.5)
    assert trim(frames, 2.9, 99.0, 0.1) == (2.9, 99.0)


def test_loudness_of_known_signals():
    assert loudness(Waveform(samples=tone(1, RATE, amplitude=1.0), sample_rate=RATE))["rms_db"] == pytest.approx(
        -3.0103, abs=0.01
    )
    square = np.where(np.arange(1000) % 4 < 1, 1.0, 0.5).astype(np.float32)
    assert loudness(Waveform(samples=square, sample_rate=RATE)) == {
        "rms_db": pytest.approx(10 * np.log10(0.25 * 1 + 0.75 * 0.25)),
        "clipped_ratio": 0.25,
    }
    assert loudness(Waveform(samples=np.zeros(9, np.float32), sample_rate=RATE)) == {"rms_db": -120, "clipped_ratio": 0}


def episode(transcript: str, audio: bytes) -> dict:
    return dict.fromkeys(CLIP.names) | {
        "key": "k",
        "input_key": "k",
        "unit": "episode",
        "url": "http://e/a.wav",
        "source": "s",
        "page_url": "http://e/",
        "transcript_url": "http://t/a.vtt",
        "more_transcripts": "srt http://t/a.srt",
        "license": "CC0",
        "language": "en",
        "audio": audio,
        "sha256": "ab" * 32,
        "transcript": transcript,
        "transcript_type": "vtt",
        "num_words": 9,
    }


@pytest.fixture(scope="module")
def sound() -> bytes:
    """Silence, voice from 1 s to 3 s, silence, voice from 5 s to 7 s, silence to 9 s."""
    gap = np.zeros(2 * RATE, np.float32)
    return encode("wav", np.concatenate([gap[:RATE], voice(2, RATE), gap, voice(2, RATE), gap]), RATE)


VTT = (
    "WEBVTT\n\n00:00.500 --> 00:02.000\nhello\n\n00:02.000 --> 00:03.800\nthere &amp; then\n\n"
    "00:04.800 --> 00:07.200\nmore\n\n00:07.900 --> 00:08.300\nnothing said\n\n00:08.950 --> 00:20.000\nafter the end\n"
)


def test_an_episode_and_its_clips(sound):
    stage = CutClips(sample_rate=RATE, pad_s=0.1)
    first, one, two, three, four = stage.split(episode(VTT, sound))
    assert (first["unit"], first["key"], first["audio"], first["state"]) == ("episode", "k", None, None)
    assert first["duration_s"] == pytest.approx(9) and first["num_words"] == 9 and first["transcript"] == VTT
    assert first["speech_ratio"] == pytest.approx(4 / 9, abs=0.06)
    assert [clip["text"] for clip in (one, two, three, four)] == [
        "hello there & then",
        "more",
        "nothing said",
        "after the end",
    ]
    assert (one["start_s"], one["end_s"]) == (pytest.approx(0.9, abs=0.07), pytest.approx(3.1, abs=0.17))
    assert (two["start_s"], two["end_s"]) == (pytest.approx(4.9, abs=0.07), pytest.approx(7.1, abs=0.17))
    assert one["speech_ratio"] > 0.85 and three["speech_ratio"] == 0 and three["rms_db"] == -120
    assert (four["state"], four["reason"], four["audio"]) == ("dropped", "clip_outside_audio", None)
    for clip in (one, two, three, four):
        assert (
            clip["unit"] == "clip"
            and clip["input_key"] == "k"
            and clip["license"] == "CC0"
            and clip["transcript"] is None
        )
        by = [name for name in revoke.COLUMNS if name not in ("key", *CONTENT)]
        assert all(clip[name] and clip[name] == first[name] for name in by), "who revokes it revokes its clips"
        span = f"{round(clip['start_s'] * 1000)}-{round(clip['end_s'] * 1000)}"
        assert clip["key"] == key_of("k", "ab" * 32, span)
    samples, rate = soundfile.read(io.BytesIO(one["audio"]), dtype="float32")
    assert rate == RATE and len(samples) / rate == pytest.approx(one["duration_s"], abs=0.002)
    original = soundfile.read(io.BytesIO(sound), dtype="float32")[0]
    start = round(one["start_s"] * RATE)
    shifts = [np.abs(original[start + d : start + d + len(samples)] - samples).max() for d in range(-9, 10)]
    assert min(shifts) < 1e-4
    assert one["chars_per_s"] == pytest.approx(18 / one["duration_s"], rel=0.01)
    to_table([first, one, two, three, four], CLIP)


def test_the_same_episode_gives_the_same_rows(sound):
    stage = CutClips(sample_rate=24_000)
    assert list(stage.split(episode(VTT, sound))) == list(stage.split(episode(VTT, sound)))


def test_clips_share_no_sample():
    sound = encode("wav", voice(10, RATE), RATE)
    vtt = "WEBVTT\n\n" + "\n\n".join(f"00:0{n}.000 --> 00:0{n}.950\nw{n}" for n in range(9))
    clips = list(CutClips(sample_rate=RATE, max_s=2, pad_s=0.5).split(episode(vtt, sound)))[1:]
    assert len(clips) == 5
    assert all(a["end_s"] <= b["start_s"] for a, b in zip(clips, clips[1:], strict=False))


def test_an_endless_cue_is_left_without_its_audio(sound):
    rows = list(
        CutClips(sample_rate=RATE, max_s=2).split(episode("WEBVTT\n\n00:00.000 --> 00:08.500\nall of it\n", sound))
    )
    assert (rows[1]["reason"], rows[1]["audio"], rows[1]["duration_s"]) == ("clip_too_long", None, 8.5)


def test_errors_cost_the_episode(sound):
    stage = CutClips(sample_rate=RATE)
    rows = [episode("no cues", sound), episode(VTT, sound[: len(sound) // 2]), episode(VTT, b"junk")]
    assert [row["reason"] for row in apply(stage, rows)] == [
        "transcript_unreadable",
        "audio_truncated",
        "audio_undecodable",
    ]
    with pytest.raises(Leave, match="audio_too_long"):
        list(CutClips(sample_rate=RATE, max_duration_s=5).split(episode(VTT, sound)))


def test_bad_settings_are_named():
    for bad, word in (({"vad_mode": 4}, "vad_mode"), ({"sample_rate": 0}, "sample_rate"), ({"max_s": -1.0}, "max_s")):
        with pytest.raises(ValueError, match=word):
            CutClips(**bad)
