"""Transcripts of many kinds, each with the words that were said and their times, or the name of what it is instead.

`report` names the public issue in which a kind was met (https://github.com/REPO/issues/N).
"""

import json
from dataclasses import dataclass

import pytest

from pipeline.curate.stage import Leave
from pipeline.curate.text.labels import said
from pipeline.curate.text.transcripts import read_file


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A file: `words` of its cues; `times_s` of the first; or what the detail names; `is_machine` where it tells."""

    text: str
    words: list[str] | None = None
    times_s: tuple[float, float] | None = None
    named: str = ""
    skipped: int = 0
    is_machine: bool = False
    report: str = ""


def srt(*texts: str, blank: str = "\n", number: bool = True, arrow: str = "00:00:{:02},000 --> 00:00:{:02},500") -> str:
    return "".join(
        (f"{n + 1}\n" if number else "") + f"{arrow.format(n, n)}\n{text}\n{blank}" for n, text in enumerate(texts)
    )


def vtt(*texts: str, head: str = "WEBVTT\n\n", blank: str = "\n", name: str = "") -> str:
    cues = (
        (f"{name.format(n)}\n" if name else "") + f"00:{n:02}.000 --> 00:{n:02}.500\n{text}\n{blank}"
        for n, text in enumerate(texts)
    )
    return head + "".join(cues)


ABC = ["One.", "Two.", "Three."]
BAD = "00:00:01,000 --> 00:00:0x,000"
COUNTED = {
    "SRT": Kind(text=srt(*ABC), words=ABC, times_s=(0, 0.5)),
    "no blank lines": Kind(text=srt(*ABC, blank=""), words=ABC, report="tkarabela/pysubs2#11"),
    "two blank lines": Kind(text=srt(*ABC, blank="\n\n"), words=ABC, report="sandflow/ttconv#339"),
    "no counters": Kind(text=srt(*ABC, number=False), words=ABC, report="pbs/pycaption#31"),
    "blank line before": Kind(text="\n\n" + srt(*ABC), words=ABC, report="mozilla/popcorn-js#314"),
    "blank line after the counter": Kind(
        text=srt(*ABC).replace("1\n00", "1\n\n00"), words=ABC, report="France-ioi/codecast#132"
    ),
    "every line doubled": Kind(text=srt(*ABC).replace("\n", "\n\n"), words=ABC),
    "WebVTT, every line doubled": Kind(text=vtt(*ABC).replace("\n", "\n\n"), words=ABC),
    "a blank line in a cue": Kind(
        text=srt("One,\n\nand a half.", "Two."),
        words=["One, and a half.", "Two."],
        report="SubtitleEdit/subtitleedit#2147",
    ),
    "a number that is said": Kind(
        text=srt("Your bet?", "2", "Three."),
        words=["Your bet?", "2", "Three."],
        report="SubtitleEdit/subtitleedit#2147",
    ),
    "a number that is said, no blank lines": Kind(
        text=srt("Your bet?", "2", "Three.", blank=""), words=["Your bet?", "2", "Three."]
    ),
    "a year at the end of a cue": Kind(
        text=srt("It was in\n1984", "Two.", "Three.", blank=""), words=["It was in 1984", "Two.", "Three."]
    ),
    "numbers are said, nothing is counted": Kind(
        text=srt("Ten.", "9", "8", number=False, blank=""), words=["Ten.", "9", "8"]
    ),
    "all counters are 1": Kind(text=srt(*ABC, blank="").replace("2\n", "1\n", 1).replace("3\n", "1\n", 1), words=ABC),
    "counters with a point": Kind(
        text=srt(*ABC, blank="").replace("1\n0", "1.\n0").replace("2\n0", "2.\n0").replace("3\n0", "3.\n0"), words=ABC
    ),
    "cut after a counter": Kind(text=srt(*ABC) + "4\n", words=ABC),
    "an empty cue": Kind(text=srt("One.", "", "Three."), words=["One.", "", "Three."], report="clappr/clappr#1476"),
    "WebVTT, numbered": Kind(text=vtt(*ABC, name="{}"), words=ABC),
    "WebVTT, numbered, no blank lines": Kind(
        text=vtt(*ABC, name="{}", blank=""), words=ABC, report="stayallive/whisper-subtitles#1"
    ),
    "WebVTT, named, no blank lines": Kind(text=vtt(*ABC, name="cue-{}", blank=""), words=ABC),
    "WebVTT, named by digests": Kind(
        text=vtt(*ABC, name="0a1b2c3d-1111-2222-3333-44445555666{}/1-0", blank=""), words=ABC
    ),
    "WebVTT, named by words": Kind(
        text=vtt("One.", "Two.").replace("00:01.000", "intro\n00:01.000"), words=["One.", "Two."]
    ),
}
TIMES = {
    "no milliseconds": Kind(
        text=srt(*ABC, arrow="00:00:{:02} --> 00:01:{:02}"), words=ABC, times_s=(0, 60), report="byroot/pysrt#25"
    ),
    "milliseconds after a colon": Kind(
        text=srt(*ABC, arrow="00:00:{:02}:250 --> 00:00:{:02}:500"), words=ABC, times_s=(0.25, 0.5)
    ),
    "blanks within, as translators leave them": Kind(
        text=srt(*ABC, arrow="00: 00: {:02}, 000 --> 00: 00: {:02}, 500"), words=ABC, times_s=(0, 0.5)
    ),
    "no hours": Kind(text=srt(*ABC, arrow="00:{:02},000 --> 00:{:02},500"), words=ABC, report="osk/node-webvtt#10"),
    "a point": Kind(text=srt(*ABC, arrow="00:00:{:02}.000 --> 00:00:{:02}.500"), words=ABC),
    "one digit": Kind(text=srt(*ABC, arrow="0:0:{},0 --> 0:0:{},5"), words=ABC, times_s=(0, 0.5)),
    "no blanks at the arrow": Kind(text=srt(*ABC, arrow="00:00:{:02},000-->00:00:{:02},500"), words=ABC),
    "coordinates behind": Kind(text=srt(*ABC, arrow="00:00:{:02},000 --> 00:00:{:02},500 X1:1 Y1:2"), words=ABC),
    "100 hours": Kind(
        text=srt("One.", arrow="100:00:{:02},000 --> 100:00:{:02},500"), words=["One."], times_s=(360_000, 360_000.5)
    ),
    "carriage returns": Kind(text=srt(*ABC).replace("\n", "\r"), words=ABC),
    "one bad cue of six": Kind(
        text=srt(*"abcdef").replace("00:00:01,000", "00:00:0x,000", 1),
        words=list("acdef"),
        skipped=1,
        report="tkarabela/pysubs2#112",
    ),
    "an end is missing": Kind(text=srt(*"abcdef").replace("00:00:01,500", ""), words=list("acdef"), skipped=1),
    "two bad cues of six": Kind(
        text=srt(*"abcdef").replace("00:00:01,000", "x").replace("00:00:02,000", "x"), named="2 of 6 cues have no times"
    ),
    "two bad cues of sixty": Kind(
        text=srt(*map(str, range(100, 160))).replace("00:00:01,000", "x").replace("00:00:02,000", "x"),
        words=[str(n) for n in range(100, 160) if n not in (101, 102)],
        skipped=2,
    ),
    "all cues bad": Kind(text=srt(*ABC, arrow="00:0x --> 00:0x {}{}"), named="text without times"),
    "an arrow in the words": Kind(
        text=srt("From A --> B.", "10 --> 20"), words=["From A --> B.", "10 --> 20"], report="tkarabela/pysubs2#115"
    ),
    "an arrow in a style": Kind(
        text=vtt("One.", head="WEBVTT\n\nSTYLE\n/* 00:01 --> x */\n::cue { color: red }\n\n"),
        words=["One."],
        report="glut23/webvtt-py#19",
    ),
    "an arrow in a note": Kind(
        text=vtt("One.", head="WEBVTT\n\nNOTE\nuntil 00:01 --> 00:0x is noise\n00:0x --> 00:05\n\n"), words=["One."]
    ),
    "regions and notes": Kind(
        text=vtt("One.", head="WEBVTT - x\nKind: captions\n\nREGION\nid:a\n\nNOTE made by hand\n\n"),
        words=["One."],
        report="w3c/webvtt.js#27",
    ),
    "no header": Kind(text=vtt(*ABC, head=""), words=ABC),
    "a mark of byte order": Kind(text="\ufeff" + vtt(*ABC), words=ABC, report="captioning/captioning#10"),
}


def one(raw: str, *spoken: str, report: str = "") -> Kind:
    return Kind(text=srt(raw), words=list(spoken) or [raw], report=report)


TURNS = ["Ann Lee: Hello.", "Bo Ray: Hi.", "Ann Lee: A question: what is it?", "Note: this is a question."]
WORDS = {
    "x < 5 and y > 3": one("whether x < 5 and y > 3 here"),
    "a<b": one("if a<b, or c>d"),
    "I <3 you": one("I <3 you"),
    "->": one("so x -> y, and y -> z"),
    "a type in angles": one("a MyValue<String> like before", report="Chocobozzz/PeerTube#2116"),
    "a lone <": one("< and so it ends", report="Arrowar/StreamingCommunity#556"),
    "words in angles": one("<70 years ago>", report="rsimmons/voracious#11"),
    "braces": one("the set {x, y}", report="pculture/unisubs#2268"),
    "R&D": one("R&D at AT&T; Q&A", "R&D at AT&T; Q&A"),
    "entities": one("Tom &amp; Jerry&nbsp;&#39;s &lt;3", "Tom & Jerry 's <3", report="SubtitleEdit/subtitleedit#3721"),
    "an endless reference": one("a &#" + "9" * 5000 + "; b"),
    "minus five": one("-5 degrees, not 10"),
    "italics": one("<i>Hello</i> <b>you</b>", "Hello you", report="jsonzilla/vtt_to_srt3#30"),
    "a font": one('<font color="#fff">Hi</font> <FONT face=x>you</FONT>', "Hi you"),
    "an override": one("{\\an8}Hello {\\i1}you", "Hello you", report="byroot/pysrt#84"),
    "classes": one("<c.box><c.yellow.bg_black>Hello</c></c> you", "Hello you", report="jansenicus/vtt-to-srt.py#9"),
    "a voice": one("<v.loud Ann Lee>Hello</v> <v Bo>you", "Hello you"),
    "times of words": one("Hello<00:00:01.000><c> you</c><00:02.500> too", "Hello you too"),
    "a break": one("Hello<br>you<br />too", "Hello you too", report="UniversalMediaServer/UniversalMediaServer#1019"),
    "a reading": one("<ruby>漢<rt>かん</rt></ruby>字", "漢字"),
    "sound in brackets": one("[Music] Hello [door creaks]", "Hello"),
    "sound in parentheses": one("(upbeat music)\nHello (laughs) you", "Hello you"),
    "capitals in parentheses": one("(SIRENS WAIL)", "", report="nova-video-player/aos-AVP#651"),
    "sound in asterisks": one("*laughs* Hello", "Hello"),
    "an aside that is said": one("It was (or so I thought) over."),
    "an aside of its own": one("(and so he went home again)"),
    "a formula": one("so f(x) is (x, y) and 2*x*y"),
    "stress in asterisks": one("I *really* mean it"),
    "sung": one("♪ la la la ♪", "", report="nova-video-player/aos-AVP#651"),
    "sung, one note": one("♪ la la la", "", report="URUWorks/TeroSubtitler#148"),
    "sung, two lines": one("♪ la la\nla la ♪", ""),
    "notes in brackets": one("[♪♪♪]\nHello", "Hello", report="morpheus65535/bazarr#1281"),
    "notes alone": one("♪ ♪\nHello", "Hello", report="SubtitleEdit/subtitleedit#3768"),
    "two speakers by dashes": one("- Hello.\n- Hi.", "Hello. Hi."),
    "two speakers by arrows": one("&gt;&gt; Hello. &gt;&gt; Hi.", "Hello. Hi."),
    "full-width brackets": one("【拍手】こんにちは（笑）", "こんにちは", report="morpheus65535/bazarr#2987"),
    "Speaker N": Kind(
        text=srt("Speaker 1: One.", "SPEAKER_02: Two.", "Speaker 1:\nThree."),
        words=ABC,
        report="ggml-org/whisper.cpp#827",
    ),
    "capitals": Kind(text=srt("JOHN: One.", "DR. SMITH: Two.", "- JOHN: Three."), words=ABC),
    "names that come back": Kind(
        text=srt(*TURNS), words=["Hello.", "Hi.", "A question: what is it?", "Note: this is a question."]
    ),
    "names in brackets": Kind(text=srt("[Ann]: One.", "(Bo): Two.", "Three."), words=["One.", "Two.", "Three."]),
    "words that end in a colon": Kind(
        text=srt("Note: this is it.", "Note: that too.", "Chapter one: the end.", "10:30, then.", "I said: go."),
        words=["Note: this is it.", "Note: that too.", "Chapter one: the end.", "10:30, then.", "I said: go."],
    ),
    "a word that comes back in small letters": Kind(
        text=srt("Bread: flour and water.", "Bread: salt.", "We eat bread."),
        words=["Bread: flour and water.", "Bread: salt.", "We eat bread."],
    ),
    "all in capitals": Kind(
        text=srt("THE RULE IS: DO NOT RUN.", "AND THIS IS ALL OF IT."),
        words=["THE RULE IS: DO NOT RUN.", "AND THIS IS ALL OF IT."],
    ),
    "a speaker of Chinese": Kind(text=srt("主持人：你好", "他说：好"), words=["你好", "他说：好"]),
}

PIECES = [{"utf8": "One"}, {"utf8": ".", "tOffsetMs": 200}]
SPOKEN = {"word": "one", "punctuated_word": "One.", "start": 0.5, "end": 0.9}
EVENTS = "[Script Info]\n\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
SEGMENTS = [{"startTime": n, "endTime": n + 0.5, "body": text, "speaker": "Ann"} for n, text in enumerate(ABC)]
WHISPER = [
    {"id": n, "seek": 0, "start": n, "end": n + 0.5, "text": f" {text}", "avg_logprob": -0.2}
    for n, text in enumerate(ABC)
]
TTML = (
    '<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttp="http://www.w3.org/ns/ttml#parameter" {}>'
    "<body{}><div>{}</div></body></tt>"
)


def ttml(begin: str, end: str, root: str = "", body: str = "", more: str = "") -> str:
    return TTML.format(root, body, f'<p begin="{begin}" {end}>One, <br/>and <span>a half</span>.</p>{more}')


HALF = ["One, and a half."]
FORMATS = {
    "podcast JSON": Kind(text=json.dumps({"version": "1.0.0", "segments": SEGMENTS}), words=ABC, times_s=(0, 0.5)),
    "podcast JSON, a list": Kind(text=json.dumps(SEGMENTS), words=ABC),
    "podcast JSON without ends": Kind(
        text=json.dumps({"segments": [{"startTime": n, "body": text} for n, text in enumerate(ABC)]}),
        words=ABC,
        times_s=(0, 1),
        report="stevencrader/transcriptator#14",
    ),
    "podcast JSON, no words": Kind(
        text=json.dumps([*SEGMENTS, {"startTime": 9, "endTime": 10, "body": None}]), words=[*ABC, ""]
    ),
    "podcast JSON, one bad of thirty": Kind(
        text=json.dumps([{"startTime": n, "endTime": n + 1, "body": "a"} for n in range(29)] + [{"startTime": "x"}]),
        words=["a"] * 29,
        skipped=1,
    ),
    "Podlove JSON": Kind(
        text=json.dumps(
            {
                "transcripts": [
                    {"start": "00:01:00.500", "start_ms": 60500, "end": "00:01:01.000", "voice": "A", "text": "One."}
                ]
            }
        ),
        words=["One."],
        times_s=(60.5, 61),
    ),
    "start and duration": Kind(
        text=json.dumps([{"text": "One.", "start": 1.5, "duration": 2}]), words=["One."], times_s=(1.5, 3.5)
    ),
    "Whisper": Kind(text=json.dumps({"text": "x", "segments": WHISPER, "language": "en"}), words=ABC, is_machine=True),
    "whisperX": Kind(
        text=json.dumps(
            {"segments": [{"start": 0, "end": 1, "text": "One.", "words": [{"word": "One.", "score": 0.9}]}]}
        ),
        words=["One."],
        is_machine=True,
    ),
    "whisper.cpp": Kind(
        text=json.dumps({"model": {}, "transcription": [{"offsets": {"from": 500, "to": 900}, "text": " One."}]}),
        words=["One."],
        times_s=(0.5, 0.9),
        is_machine=True,
    ),
    "AWS": Kind(
        text=json.dumps(
            {
                "jobName": "x",
                "results": {
                    "items": [
                        {
                            "type": "pronunciation",
                            "start_time": "0.5",
                            "end_time": "0.9",
                            "alternatives": [{"content": "One"}],
                        },
                        {"type": "punctuation", "alternatives": [{"content": "."}]},
                    ]
                },
            }
        ),
        words=["One."],
        times_s=(0.5, 0.9),
        is_machine=True,
        report="SwiftCommunityPodcast/podcast#15",
    ),
    "Deepgram": Kind(
        text=json.dumps({"results": {"channels": [{"alternatives": [{"words": [SPOKEN]}]}]}}),
        words=["One."],
        times_s=(0.5, 0.9),
        is_machine=True,
        report="jjmaldonis/obsidian-audio-notes#35",
    ),
    "json3": Kind(
        text=json.dumps(
            {
                "wireMagic": "pb3",
                "events": [{"tStartMs": 0, "dDurationMs": 9}, {"tStartMs": 1500, "dDurationMs": 500, "segs": PIECES}],
            }
        ),
        words=["One."],
        times_s=(1.5, 2),
    ),
    "srv1": Kind(
        text='<transcript><text start="1.5" dur="0.5">It&amp;#39;s one.</text></transcript>',
        words=["It's one."],
        times_s=(1.5, 2),
    ),
    "srv3": Kind(
        text='<timedtext><body><p t="1500" d="500"><s>One</s><s t="200">.</s></p></body></timedtext>',
        words=["One."],
        times_s=(1.5, 2),
    ),
    "srv3 of a recogniser": Kind(
        text='<timedtext><body><p t="1500" d="500"><s ac="9">one</s></p></body></timedtext>',
        words=["one"],
        is_machine=True,
    ),
    "TTML": Kind(text=ttml("00:00:01.500", 'end="00:00:02"'), words=HALF, times_s=(1.5, 2)),
    "TTML, seconds and duration": Kind(
        text=ttml("1.5s", 'dur="500ms"'), words=HALF, times_s=(1.5, 2), report="pbs/pycaption#59"
    ),
    "TTML, ticks": Kind(
        text=ttml("15000000t", 'end="20000000t"', root='ttp:tickRate="10000000"'),
        words=HALF,
        times_s=(1.5, 2),
        report="shaka-project/shaka-player#3009",
    ),
    "TTML, frames": Kind(
        text=ttml("00:00:01:12", 'end="00:00:02:00"', root='ttp:frameRate="24"'),
        words=HALF,
        times_s=(1.5, 2),
        report="SubtitleEdit/subtitleedit#2334",
    ),
    "TTML, a body that begins later": Kind(
        text=ttml("1s", 'end="2s"', body=' begin="10s"'), words=HALF, times_s=(11, 12)
    ),
    "TTML with a bare &": Kind(
        text=ttml("1s", 'end="2s"', more='<p begin="3s" end="4s">R&D</p>'), words=[*HALF, "R&D"]
    ),
    "SBV": Kind(
        text="0:00:01.500,0:00:02.000\nOne.\n\n0:00:03.000,0:00:04.000\nTwo.\n",
        words=["One.", "Two."],
        times_s=(1.5, 2),
    ),
    "SubViewer": Kind(
        text="[INFORMATION]\n[TITLE]x\n\n00:00:01.50,00:00:02.00\nOne,[br]two.\n", words=["One, two."], times_s=(1.5, 2)
    ),
    "LRC": Kind(text="[ti:Song]\n[00:01.50]One.\n[00:02.00]Two.\n", words=["One.", "Two."], times_s=(1.5, 2)),
    "ASS": Kind(
        text=EVENTS + "Dialogue: 0,0:00:01.50,0:00:02.00,Default,Ann,0,0,0,,{\\i1}One,{\\i0}\\Nand {a remark}two.\n"
        "Dialogue: 0,0:00:01.50,0:00:02.00,Default,,0,0,0,,{\\p1}m 0 0 l 1 1\n"
        "Comment: 0,0:00:01.50,0:00:02.00,x,,0,0,0,,no\n",
        words=["One, and two."],
        times_s=(1.5, 2),
    ),
}

APPLE = (
    '<tt xmlns="http://www.w3.org/ns/ttml" xmlns:p="http://podcasts.apple.com/transcript-ttml-internal"><body><div>'
    '<p begin="0.500" end="2.000"><span p:unit="sentence" begin="0.500" end="2.000"><span begin="0.500" end="1">One'
    '</span> <span begin="1" end="2.000">more.</span></span></p><p begin="1:02.25" end="1:00:02">Two.</p></div>'
    "</body></tt>"
)
MS = [{"start": 250, "end": 65000, "text": "One, at some length."}, {"start": 65000, "end": 130000, "text": "Two."}]
ARROWS = ("-->", "->", "-- >", "\u2013>", "\u2014>", "--&gt;", "\u2192")
EXPORTS = {
    f"an arrow {arrow}": Kind(text=srt(*ABC).replace("-->", arrow), words=ABC, times_s=(0, 0.5)) for arrow in ARROWS
} | {
    "semicolons in times": Kind(text=srt(*ABC).replace(",", ";"), words=ABC, times_s=(0, 0.5)),
    "TTML of Apple": Kind(text=APPLE, words=["One more.", "Two."], times_s=(0.5, 2)),
    "TTML with names of HTML": Kind(
        text=ttml("1s", 'end="2s"', more='<p begin="3s" end="4s">Caf&eacute;&nbsp;&amp; I</p>'),
        words=[*HALF, "Café & I"],
    ),
    "Whisper, printed": Kind(
        text="[00:00.000 --> 00:02.500]  One.\n[00:02.500 --> 00:04.000]  Two.\n",
        words=["One.", "Two."],
        times_s=(0, 2.5),
        is_machine=True,
    ),
    "Whisper, table": Kind(
        text="start\tend\ttext\n500\t2500\tOne.\n2500\t4000\tTwo.\n",
        words=["One.", "Two."],
        times_s=(0.5, 2.5),
        is_machine=True,
    ),
    "LRC without hundredths": Kind(text="[00:00]One.\n[00:02]Two.\n", words=["One.", "Two."], times_s=(0, 2)),
    "JSON, milliseconds unsaid": Kind(
        text=json.dumps({"subtitles": MS}), words=["One, at some length.", "Two."], times_s=(0.25, 65)
    ),
    "JSON, startMs": Kind(
        text=json.dumps(
            [{"startMs": 500, "endMs": 900, "text": "One."}, {"startMs": 900, "endMs": 990, "text": "Two."}]
        ),
        words=["One.", "Two."],
        times_s=(0.5, 0.9),
    ),
    "JSON of transformers": Kind(
        text=json.dumps(
            {"chunks": [{"timestamp": [0, 1.5], "text": " One."}, {"timestamp": [1.5, None], "text": " 2."}]}
        ),
        words=["One.", "2."],
        times_s=(0, 1.5),
        is_machine=True,
    ),
    "JSON, words alone": Kind(
        text=json.dumps({"words": [{"word": "One", "start": 0, "end": 0.5}]}), words=["One"], is_machine=True
    ),
    "JSON, an object a line": Kind(
        text='{"start": 0, "end": 1, "text": "One."}\n{"start": 1, "end": 2, "text": "Two."}\n', words=["One.", "Two."]
    ),
    "escaped twice": Kind(text=vtt("Tom &amp;amp; I", "It&amp;#39;s."), words=["Tom & I", "It's."]),
    "breaks of ASS in SRT": Kind(
        text=srt("One,\\Nand a half.", "Two\\hthree."), words=["One, and a half.", "Two three."]
    ),
    "font with an open quote": Kind(text=srt('<font color="#ff0>One.</font>', "Two."), words=["One.", "Two."]),
    "Markdown": Kind(
        text=vtt("**Ann:** It is **very** good.", "**Bo:** Hi. **laughs**", "**Ann:** Two*3*4."),
        words=["It is very good.", "Hi.", "Two*3*4."],
    ),
    "speakers who are named once": Kind(text=vtt("Ann Lee: Hello.", "Bo Ray: Hi."), words=["Hello.", "Hi."]),
    "a title is no speaker": Kind(
        text=vtt("Star Wars: A New Hope.", "We saw it."), words=["Star Wars: A New Hope.", "We saw it."]
    ),
}
NAMED = {
    "nothing": Kind(text="", named="empty"),
    "blanks": Kind(text=" \n\n", named="blank"),
    "a page": Kind(
        text="<!DOCTYPE html><html><body>Log in</body></html>", named="HTML page", report="podverse/podverse-web#1168"
    ),
    "a page in capitals": Kind(text="<HTML><BODY>404", named="HTML page"),
    "an HLS playlist": Kind(text="#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:6,\na.vtt\n", named="HLS playlist"),
    "a feed": Kind(text="<rss><channel/></rss>", named="RSS feed"),
    "prose": Kind(text="Ann: Hello.\n\nBo: Hi, and welcome.\n", named="text without times"),
    "prose with coarse times": Kind(text="Ann [00:12]\nHello.\n\nBo [00:20]\nHi.\n", named="text without times"),
    "WebVTT alone": Kind(text="WEBVTT\n", named="WebVTT without a cue"),
    "MicroDVD": Kind(text="{0}{25}Hello.\n{30}{50}Hi.\n", named="MicroDVD"),
    "SAMI": Kind(text="<SAMI><BODY><SYNC Start=0><P>Hello.</BODY></SAMI>", named="SAMI"),
    "broken JSON": Kind(text='{"segments": [', named="JSON that is broken"),
    "JSON of something else": Kind(text='{"a": 1}', named="JSON without timed segments"),
    "an error in JSON": Kind(text='{"error": "not found"}', named="error message in JSON"),
    "Rev": Kind(text='{"monologues": [{"elements": []}]}', named="Rev JSON"),
    "Google": Kind(text='{"results": [{"alternatives": [{"transcript": "x"}]}]}', named="Google"),
    "an entity": Kind(text='<!DOCTYPE a [<!ENTITY b "c">]><tt><body/></tt>', named="not safe"),
    "TTML without cues": Kind(text="<tt><body/></tt>", named="TTML without a cue"),
}
KINDS = COUNTED | TIMES | WORDS | FORMATS | EXPORTS | NAMED


@pytest.mark.parametrize("name", KINDS)
def test_a_kind_of_transcript(name):
    kind = KINDS[name]
    if kind.words is None:
        with pytest.raises(Leave, match="transcript_unreadable") as leave:
            read_file(kind.text)
        assert kind.named in leave.value.detail
        return
    found = read_file(kind.text)
    assert said(found.cues) == kind.words
    assert (found.skipped, found.is_machine) == (kind.skipped, kind.is_machine)
    if kind.times_s is not None:
        assert (found.cues[0].start_s, found.cues[0].end_s) == pytest.approx(kind.times_s, abs=1e-6)


def test_what_a_file_says_of_itself_is_kept():
    text = "WEBVTT - by hand\nKind: captions\nLanguage: en\n\nNOTE Confidence: 0.9\n\n00:01.000 --> 00:02.000\nx\n"
    assert read_file(text).declared == ("WEBVTT - by hand", "Kind: captions", "Language: en", "NOTE Confidence: 0.9")


@pytest.mark.parametrize(
    "text",
    [
        "WEBVTT\n\n" + "00:01.000 --> 00:02.000\n<" * 20_000,
        srt("<a " * 100_000),
        srt("<a b=c " * 50_000),
        srt("(" * 100_000),
        srt("(a)" * 50_000),
        srt("♪ a" * 50_000),
        srt("[" * 100_000),
        srt("A b: " * 50_000),
        srt("&#" * 100_000),
        "00:00:01" + " " * 100_000 + "-->",
        " " * 100_000 + "-->" + " " * 100_000,
        "<tt>" + "<p>" * 50_000,
        "[" * 100_000,
        "[00:01.00]" * 20_000,
        srt("*a" * 100_000),
    ],
    ids=range(15),
)
def test_hostile_transcripts_cost_little(text):
    try:
        said(read_file(text).cues)
    except Leave as leave:
        assert leave.reason == "transcript_unreadable"
