"""Sequences of unequal length into rows of equal length, as next-token prediction.

Guarantees: the last token of one sequence never predicts the first of the next; each target is counted once, with its
own weight; padding has weight 0 and a document number of its own.
"""

from collections.abc import Sequence

import numpy as np

from pipeline.tokenize.grammar import PAD


def pack(sequences: Sequence[np.ndarray], weights: Sequence[np.ndarray], seq_len: int) -> dict[str, np.ndarray]:
    """First fit, in the order given: tokens, targets, documents (rows, seq_len) int64, weights (rows, seq_len) float32.

    `weights[i]` (T,) belongs to `sequences[i]` (T,); the weight of the first token is unused, since nothing predicts
    it. Documents are numbered from 1 in each row, padding is 0. ValueError if a sequence needs more than a row.
    """
    places, rows = _first_fit([len(sequence) - 1 for sequence in sequences], seq_len)
    tokens = np.full((rows, seq_len), PAD, np.int64)
    targets = np.full((rows, seq_len), PAD, np.int64)
    row_weights = np.zeros((rows, seq_len), np.float32)
    documents = np.zeros((rows, seq_len), np.int64)
    for sequence, weight, (row, start) in zip(sequences, weights, places, strict=True):
        span = slice(start, start + len(sequence) - 1)
        tokens[row, span] = sequence[:-1]
        targets[row, span] = sequence[1:]
        row_weights[row, span] = weight[1:]
        documents[row, span] = documents[row].max() + 1
    return {"tokens": tokens, "targets": targets, "weights": row_weights, "documents": documents}


def _first_fit(lengths: Sequence[int], seq_len: int) -> tuple[list[tuple[int, int]], int]:
    """(row, column) of each sequence, whose targets number `lengths`, and the number of rows."""
    free: list[int] = []  # columns left in each row
    places: list[tuple[int, int]] = []
    for length in lengths:
        if length > seq_len:
            raise ValueError(f"a sequence of {length + 1} tokens needs seq_len {length} or more, not {seq_len}")
        row = next((i for i, room in enumerate(free) if room >= length), len(free))
        if row == len(free):
            free.append(seq_len)
        places.append((row, seq_len - free[row]))
        free[row] -= length
    return places, len(free)
