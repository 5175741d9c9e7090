"""The contract: how a row leaves, and what a filter may decide on."""

import csv
import io
import pickle
import re
import struct
import zlib

import pytest

from pipeline.curate.stage import Leave, failure, score


def test_leave_survives_pickling() -> None:
    leave = pickle.loads(pickle.dumps(Leave("failed", "http_503", retryable=True, detail="d")))
    assert (leave.state, leave.reason, leave.retryable, leave.detail) == ("failed", "http_503", True, "d")


def test_a_missing_score_is_unknown_and_zero_is_a_score() -> None:
    assert score({"x": 0}, "x") == 0 and score({"x": False}, "x") is False
    for row in ({}, {"x": None}):
        with pytest.raises(Leave) as leave:
            score(row, "x")
        assert (leave.value.state, leave.value.reason) == ("unknown", "x_missing")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (csv.Error("line contains NUL"), "csv_error"),
        (zlib.error("incorrect header check"), "zlib_error"),
        (struct.error("unpack requires a buffer of 4 bytes"), "struct_error"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "unicode_decode_error"),
        (OSError(f"cannot identify {io.BytesIO()!r}"), "os_error"),
        (SyntaxError("broken chunk b'\\x00\\x01ab'"), "syntax_error"),
        (MemoryError(), "out_of_memory"),
    ],
)
def test_what_nobody_expected_has_a_name_and_words(error: Exception, reason: str) -> None:
    leave = failure(error)
    assert (leave.state, leave.reason) == ("failed", reason)
    assert leave.detail and not re.search(r"0x|\\x", leave.detail)
