"""A score that is missing is unknown, never good or bad; zero and False are scores."""
import pytest

from pipeline.curate.scores import score
from pipeline.curate.stage import Leave


def test_a_missing_score_is_unknown() -> None:
    assert score({"x": 0}, "x") == 0 and score({"x": False}, "x") is False
    for row in ({}, {"x": None}):
        with pytest.raises(Leave) as leave:
            score(row, "x")
        assert (leave.value.state, leave.value.reason) == ("unknown", "x_missing")
