"""From logits to tokens: guidance, temperature, top-k, top-p, and sampling with a KV cache under a constraint.

Nothing here draws random numbers: the caller passes one uniform number per token, so a row's tokens depend on its own
numbers and never on its neighbours in the batch.

Letters: B batch, T tokens, V vocabulary.
"""

from typing import Protocol

import torch
from torch import Tensor

from pipeline.models.config import SamplingConfig
from pipeline.models.gpt import GPT


class Constraint(Protocol):
    """Which tokens may come next in each row."""

    def allowed(self) -> Tensor:
        """(B, V) bool; at least one True in every row."""
        ...

    def advance(self, tokens: Tensor) -> None:
        """Take note of the tokens (B,) that were drawn."""
        ...


def guide(cond: Tensor, null: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance on logits (..., V): log p = log p(null) + scale * (log p(cond) - log p(null)).

    Both are normalised first: raw logits carry an arbitrary constant each, which scaling would not cancel.
    """
    cond, null = cond.float().log_softmax(-1), null.float().log_softmax(-1)
    return null + scale * (cond - null)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """All but the k highest of (..., V) set to -inf, ties with the k-th kept; 0 keeps all."""
    if k == 0 or k >= logits.shape[-1]:
        return logits
    return logits.masked_fill(logits < logits.topk(k).values[..., -1:], -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """The smallest set of (..., V) whose probability reaches p stays, never less than one; the rest becomes -inf."""
    if p >= 1:
        return logits
    ordered, order = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
    before = ordered.cumsum(-1) - ordered  # probability of everything likelier
    drop = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= p)
    return logits.masked_fill(drop, -torch.inf)


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """One token per row of logits (B, V) by inverting the distribution at `uniform` (B,) in [0, 1): (B,) int64.

    A token of probability 0 is never drawn.
    """
    cdf = logits.double().softmax(-1).cumsum(-1)
    # Scaled by the rounded total, so that the inverse exists for every number below 1.
    token = torch.searchsorted(cdf, (uniform.double()[:, None] * cdf[:, -1:]), right=True).squeeze(1)
    return token.clamp(max=logits.shape[-1] - 1)


def choose(logits: Tensor, uniform: Tensor, config: SamplingConfig) -> Tensor:
    """One token per row of logits (B, V): temperature, then top-k, then top-p, then a draw at `uniform` (B,)."""
    if config.temperature == 0:
        return logits.argmax(-1)
    return draw(keep_top_p(keep_top_k(logits / config.temperature, config.top_k), config.top_p), uniform)


@torch.inference_mode()
def sample_tokens(
    model: GPT,
    prompt: Tensor,
    documents: Tensor,
    null_prompt: Tensor | None,
    null_documents: Tensor | None,
    constraint: Constraint,
    uniforms: Tensor,
    config: SamplingConfig,
) -> Tensor:
    """Continue each row of prompt (B, T) by as many tokens as `uniforms` (B, N) has columns: (B, N) int64.

    Prompts of unequal length are padded on the left, under a document number of their own in `documents` (B, T). With
    a null prompt, (B, T) as well, both are read in one batch and the logits are guided.
    """
    rows = len(prompt)
    if null_prompt is not None:
        prompt, documents = torch.cat([prompt, null_prompt]), torch.cat([documents, null_documents])
    cache = model.cache(len(prompt))
    logits = model(prompt, documents, cache)[:, -1].float()
    out = []
    for i in range(uniforms.shape[1]):
        if null_prompt is not None:
            logits = guide(logits[:rows], logits[rows:], config.guidance)
        tokens = choose(logits.masked_fill(~constraint.allowed(), -torch.inf), uniforms[:, i], config)
        constraint.advance(tokens)
        out.append(tokens)
        if i + 1 < uniforms.shape[1]:
            fed = tokens if null_prompt is None else tokens.repeat(2)
            logits = model(fed[:, None], cache=cache)[:, -1].float()
    return torch.stack(out, dim=1)
