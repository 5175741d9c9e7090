"""Filters of clips; they read scores that `CutClips` stored and let episodes pass."""

from dataclasses import dataclass

from pipeline.curate.stage import Filter, Row, score


@dataclass(frozen=True, kw_only=True)
class DropClipDuration(Filter):
    """Drop as `clip_too_short` or `clip_too_long`."""

    min_s: float = 1.0
    max_s: float = 20.0

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        if row["unit"] != "clip":
            return None
        duration_s = score(row, "duration_s")
        return "clip_too_short" if duration_s < self.min_s else "clip_too_long" if duration_s > self.max_s else None


@dataclass(frozen=True, kw_only=True)
class DropNoSpeech(Filter):
    """Drop as `clip_no_speech` what holds less speech than this share of its time."""

    min_speech_ratio: float = 0.3

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        is_mute = row["unit"] == "clip" and score(row, "speech_ratio") < self.min_speech_ratio
        return "clip_no_speech" if is_mute else None


@dataclass(frozen=True, kw_only=True)
class DropQuiet(Filter):
    """Drop as `clip_too_quiet` what stays below this level (decibels below full scale)."""

    min_rms_db: float = -50.0

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        return "clip_too_quiet" if row["unit"] == "clip" and score(row, "rms_db") < self.min_rms_db else None


@dataclass(frozen=True, kw_only=True)
class DropClipped(Filter):
    """Drop as `clip_clipped` what has more than this share of samples at full scale."""

    max_clipped_ratio: float = 0.01

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        is_clipped = row["unit"] == "clip" and score(row, "clipped_ratio") > self.max_clipped_ratio
        return "clip_clipped" if is_clipped else None


@dataclass(frozen=True, kw_only=True)
class DropTextRate(Filter):
    """Drop as `text_too_fast` or `text_too_slow` what nobody would say in that time: its text belongs elsewhere."""

    min_chars_per_s: float = 2.0
    max_chars_per_s: float = 30.0

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        if row["unit"] != "clip":
            return None
        rate = score(row, "chars_per_s")
        if rate < self.min_chars_per_s:
            return "text_too_slow"
        return "text_too_fast" if rate > self.max_chars_per_s else None
