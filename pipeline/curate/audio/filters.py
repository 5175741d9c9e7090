"""Filters of clips; they read scores that `CutClips` stored."""

from dataclasses import dataclass

from pipeline.curate.stage import Filter, Row, score


@dataclass(frozen=True, kw_only=True)
class DropClipDuration(Filter):
    """Drop as `clip_too_short` or `clip_too_long`."""

    # Ours: shorter is a word or two, with no melody to learn.
    min_s: float = 1.0
    """Seconds of a clip, at least."""
    # Ours: above `CutClips.max_s`, for a long cue; well below the 30 s that Whisper hears at once.
    max_s: float = 20.0
    """Seconds of a clip, at most."""

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        duration_s = score(row, "duration_s")
        if duration_s < self.min_s:
            return "clip_too_short"
        return "clip_too_long" if duration_s > self.max_s else None


@dataclass(frozen=True, kw_only=True)
class DropNoSpeech(Filter):
    """Drop as `clip_no_speech` what holds less speech than this share of its time."""

    # Ours, and low: the detector tells silence from sound, and takes noise for speech.
    min_speech_ratio: float = 0.3
    """Share of the time in which somebody speaks."""

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        return "clip_no_speech" if score(row, "speech_ratio") < self.min_speech_ratio else None


@dataclass(frozen=True, kw_only=True)
class DropQuiet(Filter):
    """Drop as `clip_too_quiet` what stays below this level (decibels below full scale)."""

    # Ours: 30 dB below the quietest that podcasts are mastered to (AES TD1004: -20 LUFS).
    min_rms_db: float = -50.0
    """Decibels, of which 0 is full scale."""

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        return "clip_too_quiet" if score(row, "rms_db") < self.min_rms_db else None


@dataclass(frozen=True, kw_only=True)
class DropClipped(Filter):
    """Drop as `clip_clipped` what has more than this share of samples at full scale."""

    # Ours: limiters touch full scale with single samples, distortion with runs.
    max_clipped_ratio: float = 0.01
    """Share of samples at full scale."""

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        return "clip_clipped" if score(row, "clipped_ratio") > self.max_clipped_ratio else None


@dataclass(frozen=True, kw_only=True)
class DropTextRate(Filter):
    """Drop as `text_too_fast` or `text_too_slow` what nobody would say in that time: its text belongs elsewhere."""

    # English at 150 words a minute is about 15 characters a second: an eighth of it, and twice. NeMo's curators call
    # more than 40 a hallucination.
    min_chars_per_s: float = 2.0
    """Characters a second, at least."""
    max_chars_per_s: float = 30.0
    """Characters a second, at most."""

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        chars_per_s = score(row, "chars_per_s")
        if chars_per_s < self.min_chars_per_s:
            return "text_too_slow"
        return "text_too_fast" if chars_per_s > self.max_chars_per_s else None
