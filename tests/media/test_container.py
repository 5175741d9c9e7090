"""What the bytes of a file say of its kind and its end."""

import pytest

from pipeline.media.container import breaks_off, mp3_duration_s, sniff
from tests.media.sounds import encode, tone

DEMUXERS = {"mp3": "mp3", "flac": "flac", "wav": "wav", "ogg": "ogg", "mp4": "mov", "webm": "matroska"}


@pytest.mark.parametrize(("kind", "demuxer"), DEMUXERS.items())
def test_kinds(files, kind, demuxer):
    assert sniff(files[kind]) == demuxer


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"#EXTM3U\n",
        b"ffconcat version 1.0",
        b"<?xml",
        b"RIFF\0\0\0\0AVI ",
        b"\xff",
        b"\xff\xf1\x50\x80",
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        bytes(64),
    ],
)
def test_anything_else_is_no_audio(data):
    assert sniff(data) is None


def test_a_bare_mpeg_frame_is_mp3():
    assert sniff(b"\xff\xfb\x90\x00") == sniff(b"\xff\xf3\x40\xc0") == "mp3"


@pytest.mark.parametrize("kind", ["wav", "ogg", "mp4"])
def test_every_cut_shows(files, kind):
    data, name = files[kind], DEMUXERS[kind]
    assert not breaks_off(data, name)
    for cut in (0.02, 0.3, 0.6, 0.9, 0.99):
        assert breaks_off(data[: int(len(data) * cut)], name), cut
    assert breaks_off(data[:-1], name)


def test_a_wav_of_unknown_length_is_whole(files):
    data = bytearray(files["wav"])
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    assert not breaks_off(bytes(data), "wav")


def test_only_some_mp3_declare_their_length(files):
    data = files["mp3"]
    assert mp3_duration_s(data) == pytest.approx(4, abs=0.06)
    assert mp3_duration_s(data[: len(data) // 3]) == mp3_duration_s(data)
    assert mp3_duration_s(data + data) == mp3_duration_s(data)
    frames = data[data.index(b"\xff\xfb") :]
    tagged = b"ID3\x04\0\0" + bytes([0, 0, 8, 0]) + bytes(1024) + frames
    assert mp3_duration_s(tagged) == mp3_duration_s(frames) == mp3_duration_s(data)
    plain = data.replace(b"Info", bytes(4)).replace(b"Xing", bytes(4))
    for without in (plain, b"", b"ID3", b"\xff\xfb", b"\xff\xfb\x90\x00" + bytes(100), b"\xff\xff\xff\xff" * 20):
        assert mp3_duration_s(without) is None


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 32_000, 44_100])
def test_mp3_lengths_at_every_rate(rate):
    assert mp3_duration_s(encode("mp3", tone(3, rate), rate)) == pytest.approx(3, abs=0.2)


def test_vbri():
    header = b"\xff\xfb\x90\x00" + bytes(32) + b"VBRI" + bytes(10) + (1000).to_bytes(4, "big") + bytes(100)
    assert mp3_duration_s(header) == pytest.approx(1000 * 1152 / 44_100)
