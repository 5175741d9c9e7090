"""The contract: how a row leaves, and what a filter may decide on."""

import pickle

import pytest

from pipeline.curate.stage import Leave, score


def test_leave_survives_pickling() -> None:
    leave = pickle.loads(pickle.dumps(Leave("failed", "http_503", retryable=True, detail="d")))
    assert (leave.state, leave.reason, leave.retryable, leave.detail) == ("failed", "http_503", True, "d")


def test_a_missing_score_is_unknown_and_zero_is_a_score() -> None:
    assert score({"x": 0}, "x") == 0 and score({"x": False}, "x") is False
    for row in ({}, {"x": None}):
        with pytest.raises(Leave) as leave:
            score(row, "x")
        assert (leave.value.state, leave.value.reason) == ("unknown", "x_missing")
