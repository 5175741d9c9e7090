"""Damage of every kind, and how an episode leaves for it."""

import io
import struct
import wave

import numpy as np
import pytest
import soundfile

from pipeline.curate.audio.decode import decode_episode
from pipeline.curate.stage import Leave
from tests.media.audio_kinds import tracks
from tests.media.sounds import tone


def outcome(data: bytes, max_duration_s: float = 3 * 3600.0) -> tuple[str, str]:
    with pytest.raises(Leave) as leave:
        decode_episode(data, 16_000, max_duration_s)
    return leave.value.state, leave.value.reason


@pytest.mark.parametrize("kind", ["mp3", "flac", "wav", "ogg", "mp4", "webm"])
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.85])
def test_truncated_files_are_called_truncated(files, kind, keep):
    data = files[kind]
    assert outcome(data[: int(len(data) * keep)]) == ("failed", "audio_truncated")


def test_junk_is_called_undecodable(files):
    noise = np.random.default_rng(0).bytes(20_000)
    for data in (
        b"",
        b"not audio",
        b"#EXTM3U\nhttp://10.0.0.1/x.ts\n",
        noise,
        b"fLaC" + noise,
        b"\x1a\x45\xdf\xa3" + noise,
        b"RIFF\x08\0\0\0WAVE",
        b"ID3\x04\0\0\0\0\0\0" + b"\0" * 100,
    ):
        assert outcome(data) == ("failed", "audio_undecodable"), data[:8]


def test_damage_in_the_middle_is_not_passed_over(files):
    data = bytearray(files["flac"])
    middle = len(data) // 2
    data[middle : middle + 20_000] = np.random.default_rng(1).bytes(20_000)
    assert outcome(bytes(data))[1] in ("audio_undecodable", "audio_truncated")


def test_no_samples_and_too_many(files):
    silence = io.BytesIO()
    soundfile.write(silence, np.zeros(0), 16_000, format="WAV")
    assert outcome(silence.getvalue()) == ("failed", "audio_empty")
    assert outcome(files["mp3"], max_duration_s=3) == ("dropped", "audio_too_long")


def test_samples_that_are_no_numbers():
    out = io.BytesIO()
    soundfile.write(out, np.array([0.1, np.nan, 0.2] * 100, np.float32), 16_000, subtype="FLOAT", format="WAV")
    assert outcome(out.getvalue()) == ("failed", "audio_undecodable")


def named(data: bytes, url: bytes) -> bytes:
    """An MP4 whose data reference (ISO/IEC 14496-12, `dref`) names another file."""
    at = data.index(b"dref") + 12
    entry = struct.pack(">I", 13 + len(url)) + b"url " + bytes(4) + url + b"\0"
    out = bytearray(data[:at] + entry + data[at + 12 :])
    for kind in (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref"):
        start = data.index(kind) - 4
        out[start : start + 4] = struct.pack(">I", int.from_bytes(data[start : start + 4], "big") + len(entry) - 12)
    return bytes(out)


def test_no_other_file_is_opened(tmp_path, files):
    secret = tmp_path / "secret.wav"
    with wave.open(str(secret), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(32_000))
    for text in (
        f"ffconcat version 1.0\nfile '{secret}'\n",
        f"#EXTM3U\n#EXTINF:1,\nfile://{secret}\n",
        f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        f"<?xml version='1.0'?><MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><BaseURL>file://{secret}</BaseURL></MPD>",
        f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=audio 1 RTP/AVP 0\na=control:file://{secret}\n",
        f"[playlist]\nFile1={secret}\nNumberOfEntries=1\n",
    ):
        assert outcome(text.encode()) == ("failed", "audio_undecodable")
    own = decode_episode(files["mp4"], 16_000, 9).samples
    other = decode_episode(named(files["mp4"], f"file://{secret}".encode()), 16_000, 9).samples
    assert np.array_equal(own, other) and np.abs(own).max() > 0.2, "the sound is the file's own, not the silence named"


def test_the_track_in_the_language_of_the_row_is_taken():
    quiet, loud = np.zeros(48_000, np.float32), tone(1, 48_000)
    data = tracks("matroska", "libopus", (quiet, "ger", "default"), (loud, "eng", ""))
    for language, is_loud in (("en-GB", True), ("de", False), ("fr", False), (None, False)):
        loudest = float(np.abs(decode_episode(data, 16_000, 9, language).samples).max())
        assert (loudest > 0.2) == is_loud
