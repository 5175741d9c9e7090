import io
import re

import pytest
import webvtt

from pipeline.demo import transcripts
from pipeline.demo.speech import Cue

CUES = [
    Cue(start_s=0.4, end_s=3.4996, text="Bread & butter, she said, isn't a “meal” at all."),
    Cue(start_s=3599.9, end_s=3661.25, text="It's a habit; and habits, like 3 < 4, are hard to argue with."),
]


def _read_vtt(text: str) -> webvtt.WebVTT:
    return webvtt.from_buffer(io.BytesIO(text.encode()), format="vtt")


def test_vtt_is_read_back_by_another_parser():
    found = _read_vtt(transcripts.vtt(CUES, note="by hand"))
    assert [(cue.start, cue.end) for cue in found] == [
        ("00:00:00.400", "00:00:03.500"),
        ("00:59:59.900", "01:01:01.250"),
    ]
    assert [cue.text.replace("\n", " ") for cue in found] == [
        cue.text.replace("&", "&amp;").replace("<", "&lt;") for cue in CUES
    ]
    assert all(len(line) <= transcripts.LINE_CHARS + 6 for cue in found for line in cue.lines)


def test_srt_is_read_back_by_another_parser():
    text = transcripts.srt(CUES)
    assert "\n" not in text.replace("\r\n", "")
    found = webvtt.from_buffer(io.BytesIO(text.encode()), format="srt")
    assert [(cue.start, cue.end) for cue in found] == [
        ("00:00:00.400", "00:00:03.500"),
        ("00:59:59.900", "01:01:01.250"),
    ]
    assert [cue.text.replace("\n", " ") for cue in found] == [cue.text for cue in CUES]


def test_machine_kinds():
    assert [cue.text for cue in transcripts.lower_case(CUES)] == [
        "bread butter she said isn't a meal at all",
        "it's a habit and habits like 3 4 are hard to argue with",
    ]
    assert transcripts.upper_case(CUES)[0].text == "BREAD & BUTTER, SHE SAID, ISN'T A “MEAL” AT ALL."
    french = transcripts.in_words(CUES, ["Du pain.", "Une habitude."])
    assert [(cue.start_s, cue.text) for cue in french] == [(0.4, "Du pain."), (3599.9, "Une habitude.")]
    with pytest.raises(ValueError):
        transcripts.in_words(CUES, ["Du pain."])


def test_rolling_captions_roll():
    text = transcripts.rolling(CUES)
    found = list(_read_vtt(text))
    timing = [line for line in text.splitlines() if "-->" in line]
    assert all(line.endswith(" align:start position:0%") for line in timing)
    assert len(found) == len(timing) >= 6
    shown = [re.sub(r"<[^>]*>", "", cue.raw_text).strip("\n") for cue in found]
    assert shown[0].split() == "bread butter she said isn't a".split()
    for previous, cue in zip(found[1::2], found[2::2], strict=False):  # each finished line is repeated above the next
        assert cue.raw_text.splitlines()[0].strip() == previous.raw_text.strip()
    spoken = " ".join(cue.raw_text.strip() for cue in found[1::2])
    assert spoken == " ".join(cue.text for cue in transcripts.lower_case(CUES))


def test_rolling_word_times_lie_inside_their_cues_and_rise():
    for cue in _read_vtt(transcripts.rolling(CUES)):
        times = re.findall(r"<([\d:.]+)>", cue.raw_text)
        assert times == sorted(times) and all(cue.start < time < cue.end for time in times)
