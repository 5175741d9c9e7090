"""Was this transcript typed by a person? Scores of machine-likeness, and the filters that read them.

A model trained on transcripts of another recogniser learns its habits: no case, no punctuation, rolling lines
(Radford et al. 2022, arXiv:2212.04356, 2.1). Every score is a rate, so that a long episode is not condemned for one
echo, and looks at letter case only where the script has any.

The filters judge episodes. Order them as `machine_filters` does: rolling captions are mostly lower
case as well, and the most specific reason should stand in the ledger.
"""

import re
from dataclasses import dataclass

from pipeline.curate.stage import Filter, Map, Row, score
from pipeline.curate.text.cues import Cue
from pipeline.curate.text.spoken import spoken
from pipeline.curate.text.transcripts import read_file
from pipeline.curate.text.words import shape

_WORD_TIME = re.compile(r"<\d+:\d\d(:\d\d)?[.,]\d+>")


@dataclass(frozen=True, kw_only=True)
class ScoreTranscript(Map):
    """Parse `transcript` and score it; leaves as failed `transcript_unreadable`.

    What only a recogniser writes is of `transcript_kind` auto, whoever names it; cues that could not be read are told.
    """

    def map(self, row: Row) -> Row:
        """The row with num_cues, num_words, and the scores of case, punctuation, rolling and word times."""
        found = read_file(row["transcript"])
        if found.is_machine:
            row = row | {"transcript_kind": "auto"}
        if found.skipped:
            told = f"{found.form}: {found.skipped} cues without times were skipped"
            row = row | {"detail": f"{row['detail']}; {told}" if row.get("detail") else told}
        return row | score_cues(found.cues)


def score_cues(cues: list[Cue]) -> Row:
    """Scores of a transcript; case and punctuation are None where the script or the length says nothing."""
    text = " ".join(spoken(line) for cue in cues for line in cue.lines)
    seen = shape(text)
    filled = [cue for cue in cues if cue.lines]
    timed = sum(bool(_WORD_TIME.search(cue.text)) for cue in filled)
    return {
        "num_cues": len(filled),
        "num_words": seen.num_words,
        "lower_ratio": seen.lower_ratio,
        "upper_ratio": seen.upper_ratio,
        "punctuation_per_100_words": seen.punctuation_per_100_words,
        "rolling_ratio": rolling_ratio(cues),
        "word_timed_ratio": timed / max(len(filled), 1),
    }


def rolling_ratio(cues: list[Cue]) -> float:
    """Share of cues that carry on the line that the cue before ended with.

    Live captions scroll: the last line moves up and a new one is added below, or a line grows word by word. A cue
    that repeats the whole cue before it (a chorus, an echo) does not scroll and does not count.
    """
    shown = [cue.lines for cue in cues if cue.lines]
    rolling = 0
    for before, now in zip(shown, shown[1:], strict=False):
        scrolls = now[0] == before[-1] and len(before) + len(now) > 2
        old, new = " ".join(before), " ".join(now)
        grows = len(before) == 1 and " " in old and new.startswith(f"{old} ")
        rolling += scrolls or grows
    return rolling / max(len(shown) - 1, 1)


@dataclass(frozen=True, kw_only=True)
class DropAutoTranscript(Filter):
    """Drop as `transcript_auto` or `transcript_translated` what its source calls recognised or machine-translated."""

    def reason(self, row: Row) -> str | None:
        """The code, or None; a source that says nothing proves nothing."""
        kinds = {"auto": "transcript_auto", "translated": "transcript_translated"}
        return kinds.get(row["transcript_kind"] or "unknown")


@dataclass(frozen=True, kw_only=True)
class DropRollingTranscript(Filter):
    """Drop as `transcript_rolling_captions` scrolling lines, or cues with a time on each word."""

    max_rolling_ratio: float = 0.5  # share of cues that repeat a line of the one before
    max_word_timed_ratio: float = 0.5  # share of cues with a time on each word

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        is_rolling = score(row, "rolling_ratio") > self.max_rolling_ratio
        is_timed = score(row, "word_timed_ratio") > self.max_word_timed_ratio
        return "transcript_rolling_captions" if is_rolling or is_timed else None


@dataclass(frozen=True, kw_only=True)
class DropUpperTranscript(Filter):
    """Drop as `transcript_upper_case` what is written in capitals."""

    max_upper_ratio: float = 0.8  # share of letters that are capitals

    def reason(self, row: Row) -> str | None:
        """The code, or None, also where the script has no case."""
        return "transcript_upper_case" if _form(row, "upper_ratio", 0.0) > self.max_upper_ratio else None


@dataclass(frozen=True, kw_only=True)
class DropLowerTranscript(Filter):
    """Drop as `transcript_lower_case` what has next to no capitals: not at sentences, not in names."""

    max_lower_ratio: float = 0.99  # share of letters that are not

    def reason(self, row: Row) -> str | None:
        """The code, or None, also where the script has no case."""
        return "transcript_lower_case" if _form(row, "lower_ratio", 0.0) > self.max_lower_ratio else None


@dataclass(frozen=True, kw_only=True)
class DropUnpunctuatedTranscript(Filter):
    """Drop as `transcript_unpunctuated` what has next to no commas, full stops or question marks."""

    min_per_100_words: float = 1.0  # marks in 100 words

    def reason(self, row: Row) -> str | None:
        """The code, or None, also where the script does without."""
        rate = _form(row, "punctuation_per_100_words", float("inf"))
        return "transcript_unpunctuated" if rate < self.min_per_100_words else None


def machine_filters() -> tuple[Filter, ...]:
    """All of these filters with their defaults, the most specific reason first."""
    return (
        DropAutoTranscript(),
        DropRollingTranscript(),
        DropUpperTranscript(),
        DropLowerTranscript(),
        DropUnpunctuatedTranscript(),
    )


def _form(row: Row, name: str, silent: float) -> float:
    """A score of form; `silent` where it says nothing of the text, unknown where it was not computed."""
    score(row, "num_words")
    value = row[name]
    return silent if value is None else value
