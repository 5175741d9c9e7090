"""Log-likelihoods against the chain rule, one prediction at a time."""

import math

import numpy as np
import pytest
import torch

from pipeline.generate.score import likeliest, log_likelihoods
from pipeline.tokenize.grammar import Segment
from tests.generate.test_evaluate import GRAMMAR, TEXT, model

torch.set_num_threads(1)
RANDOM = np.random.default_rng(0)


def image(height: int, width: int) -> Segment:
    return Segment.of_codes("image", RANDOM.integers(0, 24, height * width).tolist(), (height, width))


def text(words: str) -> Segment:
    return Segment("text", tuple(TEXT.encode(words)))


PAIRS = [
    (text("a small picture"), image(2, 3)),
    (image(4, 4), text("a large one")),
    (Segment("text", None), image(1, 2)),
    (image(2, 2), text("a")),
]


def chain(gpt: torch.nn.Module, first: Segment, second: Segment) -> float:
    ids = GRAMMAR.build([first, second])
    start = 1 + len(GRAMMAR.build_segment(first))
    total = 0.0
    for place in range(start, start + len(GRAMMAR.build_segment(second))):
        with torch.no_grad():
            logits = gpt(torch.from_numpy(ids[None, :place].astype(np.int64)))[0, -1]
        total += logits.double().log_softmax(-1)[ids[place]].item()
    return total


@pytest.mark.parametrize("batch_rows", [1, 3, 64])
def test_scores_are_sums_of_single_predictions_in_both_directions(batch_rows: int) -> None:
    gpt = model()
    expected = [chain(gpt, *pair) for pair in PAIRS]
    assert log_likelihoods(gpt, GRAMMAR, PAIRS, batch_rows) == pytest.approx(expected, rel=1e-5)


def test_a_blind_model_gives_every_id_the_same() -> None:
    gpt = model()
    with torch.no_grad():
        gpt.embedding.weight.zero_()
    (score,) = log_likelihoods(gpt, GRAMMAR, PAIRS[:1])
    assert score == pytest.approx(-len(GRAMMAR.build_segment(PAIRS[0][1])) * math.log(GRAMMAR.vocab_size), rel=1e-6)


def test_the_likeliest_candidate_is_that_of_the_highest_score() -> None:
    gpt, candidates = model(), [text("a"), text("a large one"), text("one")]
    conditions = [image(2, 2), image(3, 3)]
    expected = [np.argmax([chain(gpt, condition, one) for one in candidates]) for condition in conditions]
    assert likeliest(gpt, GRAMMAR, conditions, candidates).tolist() == expected
