"""How good the networks are, on samples they have not seen; see also the metrics of each medium."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.models.gpt import GPT, gpt_loss
from pipeline.tokenize.collate import CodesRow
from pipeline.tokenize.grammar import Grammar
from pipeline.tokenize.packing import pack
from pipeline.tokenize.text import TextTokenizer


@dataclass(frozen=True, kw_only=True)
class CodebookUse:
    """How a set of samples uses the codebook."""

    usage: float
    """Share of the codes that occur at all."""
    perplexity: float
    """exp of the entropy: how many equally likely codes would carry as much."""


def codebook_use(codes: Tensor, codebook_size: int) -> CodebookUse:
    """Over all codes of a set at once: an average over batches would depend on the batch size."""
    counts = torch.bincount(codes.flatten(), minlength=codebook_size).double()
    # Over the whole codebook: a code that never occurs has entropy 0, and lowers the usage.
    p = counts / counts.sum()
    return CodebookUse(usage=(counts > 0).double().mean().item(), perplexity=torch.special.entr(p).sum().exp().item())


@torch.inference_mode()
def bits_per_code(
    gpt: GPT, grammar: Grammar, text: TextTokenizer, rows: Sequence[CodesRow], batch_rows: int = 32
) -> float:
    """Mean of -log2 p(code | text, codes before it) over the codes of rows: log2(codebook) for a blind model."""
    device = gpt.embedding.weight.device
    nats = 0.0
    num_codes = 0.0
    for start in range(0, len(rows), batch_rows):
        sequences: list[np.ndarray] = []
        weights: list[np.ndarray] = []
        for row in rows[start : start + batch_rows]:
            ids = grammar.build(row.segments(text))  # (T,)
            first = grammar.offset(row.modality)
            is_code = (ids >= first) & (ids < first + grammar.size(row.modality))
            sequences.append(ids)
            # Codes alone: text and control tokens are no part of the figure.
            weights.append(is_code.astype(np.float32))
        packed = pack(sequences, weights, gpt.config.seq_len)
        batch = {name: torch.from_numpy(value).to(device) for name, value in packed.items()}
        _, weight, sums = gpt_loss(gpt, batch)
        nats += sums["nats"].item()
        num_codes += weight.item()
    return nats / num_codes / math.log(2)
