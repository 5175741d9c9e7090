"""Filters of clips."""

import pytest

from pipeline.curate.audio.filters import DropClipDuration, DropClipped, DropNoSpeech, DropQuiet, DropTextRate
from pipeline.curate.stage import Leave

CASES = [
    (
        DropClipDuration(min_s=1, max_s=20),
        "duration_s",
        {0.99: "clip_too_short", 1.0: None, 20.0: None, 20.01: "clip_too_long"},
    ),
    (
        DropNoSpeech(min_speech_ratio=0.3),
        "speech_ratio",
        {0.0: "clip_no_speech", 0.29: "clip_no_speech", 0.3: None, 1.0: None},
    ),
    (DropQuiet(min_rms_db=-50), "rms_db", {-120.0: "clip_too_quiet", -50.1: "clip_too_quiet", -50.0: None, 0.0: None}),
    (DropClipped(max_clipped_ratio=0.01), "clipped_ratio", {0.0: None, 0.01: None, 0.011: "clip_clipped"}),
    (
        DropTextRate(min_chars_per_s=2, max_chars_per_s=30),
        "chars_per_s",
        {1.9: "text_too_slow", 2.0: None, 30.0: None, 30.1: "text_too_fast"},
    ),
]


@pytest.mark.parametrize(("stage", "name", "expected"), CASES)
def test_reasons(stage, name, expected):
    assert {value: stage.reason({name: value}) for value in expected} == expected


@pytest.mark.parametrize(("stage", "name", "expected"), CASES)
def test_a_missing_score_is_unknown(stage, name, expected):
    with pytest.raises(Leave, match=f"unknown: {name}_missing"):
        stage.reason({name: None})
