"""Filters of pictures."""

import pytest

from pipeline.curate.image.filters import DropAspect, DropFlat, DropSmallImage
from pipeline.curate.stage import Leave


def test_reasons():
    small = DropSmallImage(min_side_px=16)
    assert [small.reason({"width": w, "height": h}) for w, h in ((1, 1), (100, 15), (16, 16))] == [
        "image_too_small"
    ] * 2 + [None]
    aspect = DropAspect(max_ratio=3)
    assert [aspect.reason({"aspect_ratio": ratio}) for ratio in (1.0, 3.0, 3.01)] == [None, None, "image_aspect"]
    flat = DropFlat(min_entropy_bits=1)
    assert [flat.reason({"entropy_bits": bits}) for bits in (0.0, 0.99, 1.0)] == ["image_flat", "image_flat", None]


@pytest.mark.parametrize("stage", [DropSmallImage(), DropAspect(), DropFlat()])
def test_a_missing_score_is_unknown(stage):
    with pytest.raises(Leave, match="unknown: .*_missing"):
        stage.reason({"width": None, "height": 3, "aspect_ratio": None, "entropy_bits": None})
