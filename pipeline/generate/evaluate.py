"""How good the networks are, on pictures they have not seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.models.gpt import GPT, gpt_loss
from pipeline.tokenize.grammar import Grammar, Segment
from pipeline.tokenize.packing import pack
from pipeline.tokenize.text import TextTokenizer


def psnr_db(images: Tensor, truth: Tensor) -> float:
    """Peak signal-to-noise ratio of pictures in [-1, 1] in dB, from the mean squared error of the whole set.

    Infinite for equal pictures; ValueError if the shapes differ, which broadcasting would hide.
    """
    if images.shape != truth.shape:
        raise ValueError(f"pictures of shape {tuple(images.shape)} cannot be compared with {tuple(truth.shape)}")
    mse = F.mse_loss(images.double(), truth.double()).item()
    return 10 * math.log10(4 / mse) if mse else math.inf


@dataclass(frozen=True, kw_only=True)
class CodebookUse:
    """How a set of pictures uses the codebook."""

    usage: float
    """Share of the codes that occur at all."""
    perplexity: float
    """exp of the entropy: how many equally likely codes would carry as much."""


def codebook_use(codes: Tensor, codebook_size: int) -> CodebookUse:
    """Over all codes of a set at once: an average over batches would depend on the batch size."""
    counts = torch.bincount(codes.flatten(), minlength=codebook_size).double()
    p = counts / counts.sum()
    return CodebookUse(usage=(counts > 0).double().mean().item(), perplexity=torch.special.entr(p).sum().exp().item())


@torch.inference_mode()
def bits_per_code(
    gpt: GPT, grammar: Grammar, text: TextTokenizer, rows: Sequence[dict[str, Any]], batch_rows: int = 32
) -> float:
    """Mean of -log2 p(code | text, codes before it) over the codes of CODES rows: log2(codebook) for a blind model."""
    device = gpt.embedding.weight.device
    nats, num_codes = 0.0, 0.0
    for start in range(0, len(rows), batch_rows):
        sequences, weights = [], []
        for row in rows[start : start + batch_rows]:
            shape = tuple(row["shape"]) if row["modality"] == "image" else None
            media = Segment(row["modality"], tuple(row["codes"]), shape)
            ids = grammar.build([Segment("text", text.encode(row["text"]) if row["text"] else None), media])
            first = grammar.offset(row["modality"])
            sequences.append(ids)
            weights.append(((ids >= first) & (ids < first + grammar.size(row["modality"]))).astype(np.float32))
        batch = {k: torch.from_numpy(v).to(device) for k, v in pack(sequences, weights, gpt.config.seq_len).items()}
        _, weight, sums = gpt_loss(gpt, batch)
        nats, num_codes = nats + sums["nats"].item(), num_codes + weight.item()
    return nats / num_codes / math.log(2)


class DigitJudge:
    """Reads handwritten digits with a support-vector machine, at the 8x8 pixels of scikit-learn's digits."""

    def __init__(self, images: Tensor, labels: np.ndarray) -> None:
        from sklearn.svm import SVC  # only the demo needs scikit-learn

        self._svm = SVC().fit(_eight(images), labels)

    def read(self, images: Tensor) -> np.ndarray:
        """The digits (N,) that pictures (N, 1, H, W) in [-1, 1] show."""
        return self._svm.predict(_eight(images))

    def accuracy(self, images: Tensor, labels: np.ndarray) -> float:
        """Share of pictures that are read as `labels` (N,)."""
        return float((self.read(images) == np.asarray(labels)).mean())


def _eight(images: Tensor) -> np.ndarray:
    """(N, 1, H, W) in [-1, 1] -> (N, 64) from 0 to 16, each the mean over its area."""
    return F.interpolate((images.float() + 1) * 8, size=8, mode="area").flatten(1).numpy()
