"""What the bytes of a file say of its kind and its end."""

import pytest

from pipeline.media.container import declared_s, id3_bytes, missing, mp3_duration_s, mp3_start
from tests.media.sounds import encode, tone

DEMUXERS = {"wav": "wav", "ogg": "ogg", "mp4": "mov"}


@pytest.mark.parametrize("kind", ["wav", "ogg", "mp4"])
def test_every_cut_shows(files, kind):
    data, name = files[kind], DEMUXERS[kind]
    assert missing(data, name) is None
    for cut in (0.02, 0.3, 0.6, 0.9, 0.99):
        assert missing(data[: int(len(data) * cut)], name), cut
    assert missing(data[:-1], name)


def test_a_wav_of_unknown_length_is_whole(files):
    data = bytearray(files["wav"])
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    assert missing(bytes(data), "wav") is None


def test_tags_are_counted_one_after_another():
    tag = b"ID3\x04\0\0\0\0\1\0" + bytes(128)
    assert id3_bytes(tag + tag + b"fLaC") == 2 * len(tag) and id3_bytes(b"fLaC") == id3_bytes(b"ID3") == 0
    assert id3_bytes(tag[:50]) == 50


def test_a_first_frame_is_one_that_others_follow(files):
    data = files["mp3"]
    start = mp3_start(data)
    assert start is not None and data[start] == 0xFF
    junk = b"\xff\xfb\x90\0" + bytes(5)  # looks like the head of a frame, and no frame follows it
    assert mp3_start(junk + data) == len(junk) + start
    assert mp3_start(bytes(9) + data[start:]) == 9 and mp3_start(bytes(99)) is mp3_start(b"") is None


def test_only_what_a_header_says_is_declared(files):
    assert declared_s(files["flac"], "flac") == pytest.approx(4) and declared_s(files["wav"], "wav") is None
    assert declared_s(b"fLaC" + bytes(40), "flac") is None and declared_s(b"fLaC", "flac") is None


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
