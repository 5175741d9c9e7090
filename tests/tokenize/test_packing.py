import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.tokenize.packing import pack


@given(st.lists(st.integers(2, 13), min_size=1, max_size=20))
@settings(max_examples=200, deadline=None)
def test_each_target_is_there_once_behind_its_own_past(lengths: list[int]) -> None:
    rng = np.random.default_rng(0)
    sequences = [rng.integers(10, 10**9, n) for n in lengths]  # distinct, so a place says whose it is
    weights = [rng.random(n).astype(np.float32) + 1 for n in lengths]
    out = pack(sequences, weights, 12)
    expected = sorted(
        (s[:i].tolist(), s[i], w[i]) for s, w in zip(sequences, weights, strict=True) for i in range(1, len(s))
    )
    found = []
    for tokens, targets, weight, documents in zip(
        *(out[k] for k in ("tokens", "targets", "weights", "documents")), strict=True
    ):
        assert (weight[documents == 0] == 0).all() and (documents[weight > 0] > 0).all()
        for number in set(documents.tolist()) - {0}:
            places = np.flatnonzero(documents == number)
            assert (np.diff(places) == 1).all()
            found += [(tokens[places[: i + 1]].tolist(), targets[p], weight[p]) for i, p in enumerate(places)]
    assert sorted(found) == expected


def test_first_fit_fills_gaps() -> None:
    sequences = [np.arange(n) for n in (9, 11, 4, 3)]
    out = pack(sequences, [np.ones(len(s)) for s in sequences], 12)
    assert out["tokens"].shape == (2, 12)
    assert out["documents"].tolist() == [[1] * 8 + [2] * 3 + [0], [1] * 10 + [2] * 2]


def test_a_sequence_longer_than_a_row_is_refused() -> None:
    pack([np.arange(13)], [np.ones(13)], 12)
    with pytest.raises(ValueError, match="14 tokens needs seq_len 13"):
        pack([np.arange(14)], [np.ones(14)], 12)
