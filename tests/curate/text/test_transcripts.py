"""Reading transcripts, compared with webvtt-py where the file is in order."""

import io
import json

import pytest
import webvtt
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.curate.stage import Leave
from pipeline.curate.text.transcripts import Cue, plain, read_transcript, spoken

VTT = """WEBVTT - made by hand
Kind: captions

STYLE
::cue { color: white }

NOTE a comment
on two lines

intro
00:01.000 --> 00:02.500 align:start position:0%
<v Ann>Hello &amp; <i>welcome</i>
to the show

01:02:03.004 --> 01:02:04.000
two<00:00:01.500><c> words</c>

3
00:00:05.000 --> 00:00:06.000
\u2013 caf\u00e9
"""


def test_webvtt():
    first, second, third = read_transcript("\ufeff" + VTT.replace("\n", "\r\n"))
    assert (first.start_s, first.end_s, first.settings) == (1.0, 2.5, "align:start position:0%")
    assert first.text == "<v Ann>Hello &amp; <i>welcome</i>\nto the show" and first.lines == [
        "Hello & welcome",
        "to the show",
    ]
    assert second.lines == ["\u2013 café"] and third.lines == ["two words"] and third.start_s == 3723.004


times = st.integers(0, 36_000_000)
words = st.lists(st.text("abc é&<>.", min_size=1, max_size=12).filter(str.strip).map(str.strip), min_size=1, max_size=3)


def stamp(ms: int, comma: bool = False) -> str:
    text = f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}.{ms % 1000:03}"
    return text.replace(".", ",") if comma else text


@settings(deadline=None)
@given(st.lists(st.tuples(times, st.integers(0, 10_000), words), min_size=1, max_size=8))
def test_the_same_cues_as_webvtt_py(items):
    items.sort(key=lambda item: item[0])
    vtt = "WEBVTT\n\n" + "\n\n".join(
        f"{stamp(at)} --> {stamp(at + length)}\n" + "\n".join(lines) for at, length, lines in items
    )
    srt = (
        "\n\n".join(
            f"{n}\n{stamp(at, True)} --> {stamp(at + length, True)}\n" + "\n".join(lines)
            for n, (at, length, lines) in enumerate(items, 1)
        )
        + "\n"
    )
    theirs = [(c.start_in_seconds, c.end_in_seconds, c.raw_text) for c in webvtt.from_buffer(io.StringIO(vtt))]
    whole = [(int(start), int(end), text) for start, end, text in theirs]
    for text in (vtt, srt):
        ours = read_transcript(text)
        assert [(int(c.start_s), int(c.end_s), c.text) for c in ours] == whole
        assert [round(c.start_s * 1000) for c in ours] == [at for at, _, _ in items]


def test_srt_as_it_is_found():
    srt = """1
0:00:01,5 --> 0:00:02,500 X1:40 Y1:20
{\\an8}<font color="#fff">One</font>

still one

2

00:00:03,000 --> 00:00:04,000
Two
42
5
00:00:05.000 --> 00:00:06.000
"""
    assert [(cue.start_s, cue.lines) for cue in read_transcript(srt)] == [
        (1.5, ["One", "still one"]),
        (3.0, ["Two", "42"]),
        (5.0, []),
    ]


def test_blank_lines_of_rolling_captions_are_text():
    rolling = (
        "WEBVTT\n\n00:01.000 --> 00:02.000\n \nfirst<00:01.500><c> line</c>\n\n00:02.000 --> 00:02.010\nfirst line\n \n"
    )
    assert [cue.text for cue in read_transcript(rolling)] == [" \nfirst<00:01.500><c> line</c>", "first line\n "]


def test_podcast_json():
    segments = [
        {"speaker": "Ann", "startTime": 0.5, "endTime": 2, "body": "Tom & <Jerry>"},
        {"startTime": "3", "endTime": 4, "body": "x"},
    ]
    found = read_transcript(json.dumps({"version": "1.0.0", "segments": segments}))
    assert [(cue.start_s, cue.end_s, cue.lines) for cue in found] == [(0.5, 2, ["Tom & <Jerry>"]), (3, 4, ["x"])]


def test_slips_of_an_editors_hand_are_forgiven():
    cues = "".join(f"{n}\n00:00:{n:02},000 --> 00:00:{n + 1:02},000\nw{n}\n\n" for n in range(30))
    odd = cues.replace("00:00:07,000 --> 00:00:08,000", "00:00:08,400 --> 00:00:08,000").replace(
        "20,000 -->", "20,0004.12 -->"
    )
    found = read_transcript(odd)
    assert len(found) == 30 and (found[7].start_s, found[7].end_s, found[7].text) == (8.0, 8.4, "w7")
    assert any(cue.start_s == 20.0 and cue.text == "w20" for cue in found)
    with pytest.raises(Leave, match="2 of 30 cues run backwards"):
        read_transcript(odd.replace("00:00:09,000 --> 00:00:10,000", "00:00:10,000 --> 00:00:09,000"))


def test_cues_come_in_order_of_time():
    found = read_transcript("WEBVTT\n\n00:05.000 --> 00:06.000\nb\n\n00:01.000 --> 00:02.000\na\n")
    assert [cue.text for cue in found] == ["a", "b"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "WEBVTT\n",
        "hello",
        "<html>404</html>",
        "WEBVTT\n\n00:01.000 --> 00:0x.000\ntext\n",
        "WEBVTT\n\n00:05.000 --> 00:01.000\nback\n",
        "1\n00:00:01,000 to 00:00:02,000\nx\n",
        '{"segments": [{"startTime": 1}]}',
        '{"segments": "x"}',
        "{",
        "[1, 2]",
        '{"segments": []}',
        '{"segments": [{"startTime": NaN, "endTime": 2, "body": "x"}]}',
        '{"segments": [{"startTime": -1, "endTime": 2, "body": "x"}]}',
        "[" * 100_000,
    ],
)
def test_what_is_no_transcript_leaves(text):
    with pytest.raises(Leave) as leave:
        read_transcript(text)
    assert (leave.value.state, leave.value.reason) == ("failed", "transcript_unreadable") and len(
        leave.value.detail
    ) <= 300


@settings(deadline=None)
@given(st.text(max_size=200) | st.text(" 0123456789:.,->\nWEBVT", max_size=200))
def test_any_text_gives_cues_or_leaves(text):
    try:
        assert all(0 <= cue.start_s <= cue.end_s for cue in read_transcript(text))
    except Leave as leave:
        assert leave.reason == "transcript_unreadable"


def test_plain_and_spoken():
    assert plain("<c.yellow>a</c>&nbsp;b &lt;i&gt; \u200bc") == "a b <i> c"
    assert spoken(">> [Music] hello ♪ there [LAUGHTER]") == "hello there"
    assert Cue(start_s=0, end_s=1, text="<b></b>\n&nbsp;").lines == []
