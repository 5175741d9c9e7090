"""The demo's figures: what the three networks make of digits that they have not seen, and of captions.

A judge of pictures rewards copies, so no accuracy stands alone: beside it are its ceiling and interval, the share of
copies, the distance from held-out digits as a set, and what counting would have made of the held-out codes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.demo import corpus
from pipeline.demo.judge import DigitJudge, features
from pipeline.generate import baseline
from pipeline.generate.evaluate import bits_per_code, codebook_use
from pipeline.generate.load import Stack
from pipeline.generate.sample import Generated, decode, generate
from pipeline.generate.score import likeliest
from pipeline.models.config import DecodingConfig, SamplingConfig
from pipeline.storage import Store
from pipeline.tokenize.collate import CodesRow
from pipeline.tokenize.grammar import Segment

Figures = dict[str, float]

SHOWN = 12
"""Reconstructions that are kept to be looked at."""

_REAL_DRAWS = 5
_NEAR = 0.05  # of held-out digits are as near to a training digit as what counts as a near copy


@dataclass(frozen=True, kw_only=True)
class Samples:
    """What was drawn, and for what."""

    digits: np.ndarray
    prompts: list[str]
    drawn: Generated


def reconstructions(stack: Stack, decoding: DecodingConfig, seed: int, store: Store) -> dict[str, Figures]:
    """PSNR of the DVAE and of the decoder behind it, and use of the codebook, on held-out digits; the first of them go
    into `store` as pictures."""
    truth = torch.from_numpy(corpus.heldout()[0])
    medium = stack.tokenizer.medium
    codes = stack.tokenizer.encode(truth)
    blurry = stack.tokenizer.decode(codes)
    sharp = decode(stack, blurry, codes, decoding, seed=seed)
    for name, batch in (("original", truth), ("dvae", blurry), ("decoder", sharp)):
        for i, image in enumerate(batch[:SHOWN].numpy()):
            store.write(f"{i:02d}-{name}.png", medium.write(image))
    use = codebook_use(codes, stack.tokenizer.codebook_size)
    of_blurry = medium.measure(blurry, truth)
    of_sharp = medium.measure(sharp, truth)
    return {
        "dvae": of_blurry | {"codebook_usage": use.usage, "codebook_perplexity": use.perplexity},
        "decoder": of_sharp | {f"{name}_dvae": value for name, value in of_blurry.items()},
    }


def likelihood(stack: Stack, known: Sequence[CodesRow]) -> Figures:
    """Bits per code of held-out digits beside those of the best table of frequencies of the `known` codes, and the
    share of the digits that are named right: that are likeliest under their caption of ten."""
    images, labels = corpus.heldout()
    tokenizer = stack.tokenizer
    codes = tokenizer.encode(torch.from_numpy(images))  # (N, h, w)
    rows = [
        CodesRow(
            modality=tokenizer.medium.modality,
            text=corpus.prompt(int(label)),
            codes=grid.flatten().tolist(),
            shape=tuple(grid.shape),
        )
        for label, grid in zip(labels, codes, strict=True)
    ]
    captions = [Segment("text", stack.text.encode(corpus.prompt(digit))) for digit in range(10)]
    named = likeliest(stack.gpt, stack.grammar, [row.segments(stack.text)[1] for row in rows], captions)
    accuracy = float((named == labels).mean())
    low, high = baseline.wilson_interval(accuracy, len(rows))
    return {
        "bits_per_code": bits_per_code(stack.gpt, stack.grammar, stack.text, rows),
        "bits_per_code_table": baseline.table_bits(
            np.array([row.codes for row in known]),
            [corpus.digit_of(row.text or "") for row in known],
            codes.flatten(1).numpy(),
            labels.tolist(),
            tokenizer.codebook_size,
        ),
        "bits_per_code_uniform": math.log2(tokenizer.codebook_size),
        "picture_to_text": accuracy,
        "picture_to_text_low": low,
        "picture_to_text_high": high,
        "picture_to_text_chance": 1 / len(captions),
    }


def generated(stack: Stack, per_digit: int, sampling: SamplingConfig, decoding: DecodingConfig, seed: int) -> Samples:
    """Digits drawn from the templates of captions in turn."""
    digits = np.repeat(np.arange(10), per_digit)
    prompts = [corpus.prompt(int(digit), corpus.PROMPTS[i % len(corpus.PROMPTS)]) for i, digit in enumerate(digits)]
    drawn = generate(stack, prompts, sampling=sampling, decoding=decoding, seed=seed)
    return Samples(digits=digits, prompts=prompts, drawn=drawn)


def generation(stack: Stack, samples: Samples, known: Sequence[CodesRow], seed: int) -> Figures:
    """How well what was drawn is read, and how much of it is copied; names that end in `_real` are what real held-out
    digits get."""
    images, labels = (torch.from_numpy(part) for part in corpus.heldout())
    training, training_labels = corpus.training()
    judge = DigitJudge(torch.from_numpy(training), training_labels)
    accuracy = judge.accuracy(samples.drawn.samples, samples.digits)
    low, high = baseline.wilson_interval(accuracy, len(samples.digits))
    return {
        "digit_accuracy": accuracy,
        "digit_accuracy_low": low,
        "digit_accuracy_high": high,
        "digit_accuracy_dvae": judge.accuracy(samples.drawn.recon, samples.digits),
        "digit_accuracy_real": judge.accuracy(images, labels.numpy()),
        **_copies(samples.drawn.codes, stack.tokenizer.encode(images), known),
        **_distances(features(samples.drawn.samples), features(images), features(torch.from_numpy(training)), seed),
        "n": len(samples.digits),
    }


def _copies(drawn: torch.Tensor, real: torch.Tensor, known: Sequence[CodesRow]) -> Figures:
    """Of codes (N, h, w) that were drawn and of real ones, both held out: the share that is in the training set."""
    strings = [row.codes for row in known]
    return {
        "copies": baseline.copy_rate(drawn.flatten(1).tolist(), strings),
        "copies_real": baseline.copy_rate(real.flatten(1).tolist(), strings),
        "unique": len(drawn.flatten(1).unique(dim=0)) / len(drawn),
    }


def _distances(drawn: np.ndarray, real: np.ndarray, training: np.ndarray, seed: int) -> Figures:
    """Of features (N, D) of what was drawn, of real held-out digits and of those trained on."""
    near = np.quantile(baseline.nearest(real, training), _NEAR)
    random = np.random.default_rng(seed)
    # Of as many real digits as were drawn: the distance has a bias, which is that of small sets.
    halves = [training[random.permutation(len(training))[: len(drawn)]] for _ in range(_REAL_DRAWS)]
    return {
        "near_copies": float((baseline.nearest(drawn, training) < near).mean()),
        "near_copies_real": _NEAR,
        "frechet": baseline.frechet_distance(drawn, real),
        "frechet_real": float(np.mean([baseline.frechet_distance(half, real) for half in halves])),
    }
