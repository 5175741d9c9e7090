import io
import subprocess
import sys

import av
import numpy as np
import pytest
import webrtcvad

from pipeline.demo import speech, texts

# a sentence's first and last sounds may be too soft for the detector
EDGE_S = 0.15


@pytest.fixture(scope="module")
def episodes() -> dict[str, speech.Episode]:
    return speech.episodes()


def _decoded_s(data: bytes) -> float:
    with av.open(io.BytesIO(data)) as container:
        return sum(frame.samples / frame.sample_rate for frame in container.decode(audio=0))


def _stated_s(data: bytes) -> float:
    with av.open(io.BytesIO(data)) as container:
        return container.duration / av.time_base


def test_good_episodes_have_the_length_of_a_short_piece(episodes):
    assert len(texts.GOOD) == 12
    for script in texts.GOOD:
        assert 30 < episodes[script.name].duration_s < 45, script.name
    assert len({script.voice for script in texts.GOOD}) == 12


def test_audio_is_audible_and_never_clips(episodes):
    for name, episode in episodes.items():
        wave = episode.pcm / 32768
        assert -30 < 20 * np.log10(np.sqrt(np.mean(wave**2))) < -15, name
        assert np.abs(wave).max() < 0.999, name


def test_cues_are_where_the_speech_is(episodes):
    detector = webrtcvad.Vad(2)
    for script in texts.GOOD[:4]:
        episode = episodes[script.name]
        count = int(episode.duration_s * 16_000)
        at = np.arange(count) / 16_000
        pcm = np.interp(at, np.arange(len(episode.pcm)) / speech.SAMPLE_RATE, episode.pcm).astype("<i2")
        for before, cue in zip((None, *episode.cues), (*episode.cues, None), strict=True):
            gap_start, gap_end = before.end_s if before else 0.0, cue.start_s if cue else episode.duration_s
            gap = episode.pcm[round(gap_start * speech.SAMPLE_RATE) : round(gap_end * speech.SAMPLE_RATE)]
            assert gap_end - gap_start > 0.39 and np.abs(gap).max() == 0
            if cue:
                inside = pcm[int((cue.start_s + EDGE_S) * 16_000) : int((cue.end_s - EDGE_S) * 16_000)]
                frames = [inside[i : i + 480].tobytes() for i in range(0, len(inside) - 480, 480)]
                assert np.mean([detector.is_speech(frame, 16_000) for frame in frames]) > 0.85, cue.text


def test_texts_share_no_sentence():
    sentences = [sentence for script in texts.SCRIPTS for sentence in script.sentences]
    assert len(set(sentences)) == len(sentences)
    assert len({script.name for script in texts.SCRIPTS}) == len(texts.SCRIPTS)
    assert len(texts.FRENCH_LINES) == len(texts.FRENCH.sentences)


def test_two_processes_read_the_same_samples(episodes):
    again = speech.episodes.__wrapped__()
    assert again.keys() == episodes.keys()
    for name, episode in episodes.items():
        assert np.array_equal(again[name].pcm, episode.pcm) and again[name].cues == episode.cues, name


@pytest.mark.parametrize("kind", ["mp3", "opus", "wav"])
def test_encoded_files_decode_to_their_full_length(episodes, kind):
    episode = episodes["bread"]
    data = speech.encode(episode.pcm, kind)
    assert data == speech.encode(episode.pcm, kind)
    assert _decoded_s(data) == pytest.approx(episode.duration_s, abs=0.02)
    assert _stated_s(data) == pytest.approx(episode.duration_s, abs=0.08)


def test_wav_keeps_every_sample(episodes):
    pcm = episodes["hum"].pcm
    with av.open(io.BytesIO(speech.encode(pcm, "wav"))) as container:
        decoded = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    assert np.array_equal(decoded, pcm)


def test_a_cut_mp3_still_states_its_full_length(episodes):
    whole = speech.encode(episodes["truncated"].pcm, "mp3")
    cut = whole[: len(whole) // 2]
    assert b"Info" in whole[:200]
    assert _stated_s(cut) == pytest.approx(_stated_s(whole), abs=0.01)
    with av.open(io.BytesIO(cut)) as container:
        decoded_s = 0.0
        try:
            for frame in container.decode(audio=0):
                decoded_s += frame.samples / frame.sample_rate
        except av.error.InvalidDataError:
            pass
    assert decoded_s < 0.6 * _stated_s(whole)


def test_a_voice_that_does_not_exist_is_named():
    script = "texts.Script(name='x', title='x', voice='xx-nowhere', speed_wpm=170, pitch=50, sentences=('Hello.',))"
    code = f"from pipeline.demo import speech, texts; speech._Voice().say('Hello.', {script})"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert child.returncode == 1 and "no voice 'xx-nowhere'" in child.stderr


def test_a_failing_child_is_reported(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RuntimeError, match="status 1"):
        speech.episodes.__wrapped__()
