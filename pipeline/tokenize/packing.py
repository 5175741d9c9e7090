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
    free: list[int] = []
    places: list[tuple[int, int]] = []
    for sequence in sequences:
        need = len(sequence) - 1
        if need > seq_len:
            raise ValueError(f"a sequence of {len(sequence)} tokens needs seq_len {need} or more, not {seq_len}")
        row = next((i for i, room in enumerate(free) if room >= need), len(free))
        if row == len(free):
            free.append(seq_len)
        places.append((row, seq_len - free[row]))
        free[row] -= need
    shape = (len(free), seq_len)
    out = {
        "tokens": np.full(shape, PAD, np.int64),
        "targets": np.full(shape, PAD, np.int64),
        "weights": np.zeros(shape, np.float32),
        "documents": np.zeros(shape, np.int64),
    }
    for sequence, weight, (row, start) in zip(sequences, weights, places, strict=True):
        span = slice(start, start + len(sequence) - 1)
        out["tokens"][row, span] = sequence[:-1]
        out["targets"][row, span] = sequence[1:]
        out["weights"][row, span] = weight[1:]
        out["documents"][row, span] = out["documents"][row].max() + 1
    return out
