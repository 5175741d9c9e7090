"""Machine transcripts of several families, and human ones that look like them."""

import random

import pytest

from pipeline.curate.stage import Leave
from pipeline.curate.text.forensics import (
    DropAutoTranscript,
    DropLowerTranscript,
    DropRollingTranscript,
    DropUnpunctuatedTranscript,
    DropUpperTranscript,
    ScoreTranscript,
    machine_filters,
)
from pipeline.curate.work import to_table
from pipeline.records import CLIP

SENTENCES = [
    "Good evening, and welcome to the programme.",
    "Tonight we look at the river Thames, from its source to the sea.",
    "Where does it begin?",
    "In a meadow near Kemble, in Gloucestershire, you will find a stone.",
    "It says that this is the place; the water, however, is often missing.",
    "I went there in May, with Anna and her dog.",
    "We walked for an hour, and then it began to rain.",
    "That, said Anna, is how rivers start!",
]


def vtt(texts: list[str]) -> str:
    return "WEBVTT\n\n" + "\n\n".join(
        f"{n // 60:02}:{n % 60:02}.000 --> {n // 60:02}:{n % 60:02}.900\n{text}" for n, text in enumerate(texts)
    )


def rolling(lines: list[str], word_times: bool) -> str:
    """As a platform shows recognised speech: a line appears, moves up, and a new one comes below."""
    cues, before = [], " "
    for n, line in enumerate(lines):
        first, *rest = line.split()
        shown = (
            first + "".join(f"<00:00:{n:02}.{i:03}><c> {word}</c>" for i, word in enumerate(rest))
            if word_times
            else line
        )
        cues += [f"{before}\n{shown}", f"{line}\n "]
        before = line
    return vtt(cues)


def scored(transcript: str, **columns: str) -> dict:
    row = dict.fromkeys(CLIP.names) | {"key": "k", "unit": "episode", "transcript": transcript} | columns
    out = ScoreTranscript().map(row)
    to_table([out], CLIP)
    return out


def verdict(transcript: str, **columns: str) -> str | None:
    row = scored(transcript, **columns)
    return next(filter(None, (stage.reason(row) for stage in machine_filters())), None)


def bare(text: str) -> str:
    return "".join(c for c in text.lower() if c.isalnum() or c == " ")


HUMAN = vtt(SENTENCES * 3)


@pytest.mark.parametrize(
    ("transcript", "reason"),
    [
        (HUMAN, None),
        (vtt([bare(s) for s in SENTENCES]), "transcript_lower_case"),
        (vtt([s.lower() for s in SENTENCES]), "transcript_lower_case"),
        (vtt([s.upper() for s in SENTENCES]), "transcript_upper_case"),
        (vtt([s.translate({ord(c): None for c in ".,;?!"}) for s in SENTENCES]), "transcript_unpunctuated"),
        (rolling([bare(s) for s in SENTENCES], word_times=True), "transcript_rolling_captions"),
        (rolling([bare(s) for s in SENTENCES], word_times=False), "transcript_rolling_captions"),
        (rolling(SENTENCES, word_times=False), "transcript_rolling_captions"),
        (
            vtt([" ".join(s.split()[: n + 1]) for s in SENTENCES for n in range(len(s.split()))]),
            "transcript_rolling_captions",
        ),
        # people sing choruses, echo one another, continue a sentence, shout, and write two lines at once
        (vtt(SENTENCES + ["La la la, la la.", "La la la, la la."] * 8), None),
        (
            vtt(
                [f"{a}\n{b}" for a, b in zip(SENTENCES[::2], SENTENCES[1::2], strict=True)] * 2
                + ["Oh no,\nnot again."] * 4
            ),
            None,
        ),
        (vtt([*SENTENCES, "STOP! STOP RIGHT THERE!", *SENTENCES]), None),
        (vtt([part for s in SENTENCES for part in (s[: len(s) // 2], s[len(s) // 2 :])]), None),
        # scripts without case
        (vtt(["これは日本語の字幕です", "テムズ川を見ます", "雨が降り始めました"] * 8), None),
        (vtt(["هذا نص عربي مكتوب بيد إنسان", "وهو بدون أحرف كبيرة"] * 8), None),
        (
            vtt(
                ["Сегодня, друзья, мы говорим о реке Темзе.", "Где она начинается?", "Анна сказала, что пошёл дождь."]
                * 4
            ),
            None,
        ),
        (vtt(["сегодня друзья мы говорим о реке темзе", "где она начинается"] * 4), "transcript_lower_case"),
        (vtt(["Der Fluss, sagte Anna, beginnt bei Kemble.", "Dort liegt ein Stein in der Wiese."] * 4), None),
    ],
)
def test_families(transcript, reason):
    assert verdict(transcript) == reason


def test_one_echo_in_a_long_episode_flags_nothing():
    texts = [f"{SENTENCES[n % 8]}\nNumber {n}, he said." for n in range(2000)]
    texts[1000] = f"Number 999, he said.\n{SENTENCES[0]}"
    row = scored(vtt(texts))
    assert row["num_cues"] == 2000 and 0 < row["rolling_ratio"] < 0.001 and verdict(vtt(texts)) is None


def test_scores_do_not_depend_on_length():
    rng = random.Random(0)
    for make in (lambda s: s, bare):
        pool = [make(s) for s in SENTENCES]
        short, long = (scored(vtt([rng.choice(pool) for _ in range(n)])) for n in (100, 3000))
        for name in ("lower_ratio", "upper_ratio", "rolling_ratio", "word_timed_ratio"):
            assert short[name] == pytest.approx(long[name], abs=0.03), name


def test_exact_scores():
    row = scored(rolling(["one two", "three four"], word_times=True))
    assert (row["num_cues"], row["rolling_ratio"], row["word_timed_ratio"]) == (4, 2 / 3, 0.5)
    assert row["num_words"] == 10
    assert (row["lower_ratio"], row["upper_ratio"], row["punctuation_per_100_words"]) == (None, None, None)
    assert scored(HUMAN)["word_timed_ratio"] == scored(HUMAN)["rolling_ratio"] == 0


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("auto", "transcript_auto"),
        ("translated", "transcript_translated"),
        ("manual", None),
        ("unknown", None),
        (None, None),
    ],
)
def test_what_the_source_says(kind, reason):
    assert verdict(HUMAN, transcript_kind=kind) == reason


def test_sounds_in_brackets_are_no_capitals():
    assert (
        verdict(vtt(["[MUSIC PLAYING]", *[bare(s) for s in SENTENCES], "[APPLAUSE AND LAUGHTER]"]))
        == "transcript_lower_case"
    )


@pytest.mark.parametrize(
    "stage", [DropRollingTranscript(), DropUpperTranscript(), DropLowerTranscript(), DropUnpunctuatedTranscript()]
)
def test_what_was_never_scored_is_unknown(stage):
    with pytest.raises(Leave, match="unknown: .*_missing"):
        stage.reason(dict.fromkeys(CLIP.names) | {"unit": "episode"})


def test_thresholds_count():
    row = scored(HUMAN)
    assert DropLowerTranscript(max_lower_ratio=0.5).reason(row) == "transcript_lower_case"
    assert DropUnpunctuatedTranscript(min_per_100_words=50).reason(row) == "transcript_unpunctuated"
    assert DropAutoTranscript().reason(row) is None


def test_a_broken_transcript_fails():
    with pytest.raises(Leave, match="failed: transcript_unreadable"):
        scored("nothing like it")
