"""Filters of pictures; they read scores that `DecodeImage` stored."""

from dataclasses import dataclass

from pipeline.curate.stage import Filter, Row, score


@dataclass(frozen=True, kw_only=True)
class DropSmallImage(Filter):
    """Drop as `image_too_small` what is shorter than `min_side_px` on its shorter side."""

    # Ours: icons and thumbnails of galleries end below it. DataComp (arXiv:2304.14108) asks for 200.
    min_side_px: int = 64
    """Pixels of the shorter side, at least."""

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        side_px = min(score(row, "width"), score(row, "height"))
        return "image_too_small" if side_px < self.min_side_px else None


@dataclass(frozen=True, kw_only=True)
class DropAspect(Filter):
    """Drop as `image_aspect` what is longer than `max_ratio` times its shorter side."""

    # DataComp (arXiv:2304.14108) and Data-Juicer: beyond it are banners and rulers.
    max_ratio: float = 3.0
    """Times the shorter side, at most."""

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        return "image_aspect" if score(row, "aspect_ratio") > self.max_ratio else None


@dataclass(frozen=True, kw_only=True)
class DropFlat(Filter):
    """Drop as `image_flat` what has less than `min_entropy_bits` of entropy in its grey levels (0 to 8)."""

    # Two grey levels, equally often, have 1 bit: less is a blank page, a spacer or a placeholder.
    min_entropy_bits: float = 1.0
    """Bits of each pixel's grey level, of 8."""

    def reason(self, row: Row) -> str | None:
        """The code, or None."""
        return "image_flat" if score(row, "entropy_bits") < self.min_entropy_bits else None
