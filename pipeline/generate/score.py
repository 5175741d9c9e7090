"""What a transformer thinks of given sequences: exact log-likelihoods, in any direction that its grammar allows.

Guarantees: a pair's score does not depend on the pairs beside it, up to the last bits of float arithmetic.

Letters: B batch, T tokens.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.models.gpt import GPT
from pipeline.tokenize.grammar import PAD, Grammar, Segment


@torch.inference_mode()
def log_likelihoods(
    gpt: GPT, grammar: Grammar, pairs: Sequence[tuple[Segment, Segment]], batch_rows: int = 64
) -> NDArray[np.float64]:
    """log p(second | first) of each pair of segments, in nats, float64 (len(pairs),): over all ids of the second, its
    markers included.

    ValueError for a pair that is too long for the model.
    """
    scores = [
        score
        for start in range(0, len(pairs), batch_rows)
        for score in _batch(gpt, grammar, pairs[start : start + batch_rows])
    ]
    return np.asarray(scores, np.float64)


def _batch(gpt: GPT, grammar: Grammar, pairs: Sequence[tuple[Segment, Segment]]) -> list[float]:
    sequences = [grammar.build(pair) for pair in pairs]
    longest = max(map(len, sequences))
    ids = np.full((len(pairs), longest), PAD, np.int64)  # padded behind the end, where causality hides it
    is_scored = np.zeros((len(pairs), longest), bool)
    for row, (sequence, (first, second)) in enumerate(zip(sequences, pairs, strict=True)):
        ids[row, : len(sequence)] = sequence
        start = 1 + len(grammar.build_segment(first))  # behind <bos>
        is_scored[row, start : start + len(grammar.build_segment(second))] = True
    tokens = torch.from_numpy(ids).to(gpt.embedding.weight.device)  # (B, T)
    nats, _ = gpt(tokens[:, :-1], targets=tokens[:, 1:])  # (B, T - 1)
    kept = torch.where(torch.from_numpy(is_scored[:, 1:]).to(nats.device), nats.double(), 0.0)
    return (-kept.sum(1)).tolist()


def likeliest(
    gpt: GPT, grammar: Grammar, conditions: Sequence[Segment], candidates: Sequence[Segment]
) -> NDArray[np.int64]:
    """Which candidate each condition makes likeliest, as its place, int64 (len(conditions),)."""
    pairs = [(condition, candidate) for condition in conditions for candidate in candidates]
    scores = log_likelihoods(gpt, grammar, pairs)
    return scores.reshape(len(conditions), len(candidates)).argmax(1)
