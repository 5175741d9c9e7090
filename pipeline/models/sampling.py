"""From logits to tokens: guidance, temperature, top-k, top-p, and sampling with a KV cache under a constraint.

Nothing here draws random numbers: the caller passes one uniform number per token, so a row's tokens depend on its own
numbers and never on its neighbours in the batch.

Letters: B batch, T tokens, V vocabulary.
"""

from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """What is continued, one prompt a row."""

    tokens: Tensor
    """(B, T) int64; shorter prompts are padded on the left."""
    documents: Tensor
    """(B, T) int64; padding has a number of its own, so that no prompt sees it."""


def guide(cond: Tensor, null: Tensor, scale: float) -> Tensor:
    """Classifier-free guidance on logits (..., V): log p = log p(null) + scale * (log p(cond) - log p(null)).

    Both are normalised first: raw logits carry an arbitrary constant each, which scaling would not cancel.
    """
    cond = cond.float().log_softmax(-1)
    null = null.float().log_softmax(-1)
    return null + scale * (cond - null)


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """All but the k highest of (..., V) set to -inf, ties with the k-th kept; 0 keeps all."""
    if k == 0 or k >= logits.shape[-1]:
        return logits
    least = logits.topk(k).values[..., -1:]  # (..., 1)
    return logits.masked_fill(logits < least, -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """The smallest set of (..., V) whose probability reaches p stays, never less than one; the rest becomes -inf."""
    if p >= 1:
        return logits
    ordered, order = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)  # (..., V) each
    before = ordered.cumsum(-1) - ordered  # probability of everything likelier; 0 for the likeliest, which so stays
    drop = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, order, before >= p)  # back in the order of the ids
    return logits.masked_fill(drop, -torch.inf)


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """One token per row of logits (B, V) by inverting the distribution at `uniform` (B,) in [0, 1): (B,) int64.

    A token of probability 0 is never drawn.
    """
    cdf = logits.double().softmax(-1).cumsum(-1)  # (B, V)
    # Scaled by the rounded total, so that the inverse exists for every number below 1.
    place = uniform.double()[:, None] * cdf[:, -1:]  # (B, 1)
    # From the right: a token of probability 0 has the sum of the one before it, and is passed over.
    token = torch.searchsorted(cdf, place, right=True).squeeze(1)  # (B,)
    return token.clamp(max=logits.shape[-1] - 1)


def choose(logits: Tensor, uniform: Tensor, config: SamplingConfig) -> Tensor:
    """One token per row of logits (B, V): temperature, then top-k, then top-p, then a draw at `uniform` (B,)."""
    if config.temperature == 0:
        return logits.argmax(-1)
    logits = keep_top_k(logits / config.temperature, config.top_k)
    logits = keep_top_p(logits, config.top_p)
    return draw(logits, uniform)


@torch.inference_mode()
def sample_tokens(
    model: GPT,
    prompts: Prompts,
    null: Prompts | None,
    constraint: Constraint,
    uniforms: Tensor,
    config: SamplingConfig,
) -> Tensor:
    """Continue each of B prompts by as many tokens as `uniforms` (B, N) has columns: (B, N) int64.

    With null prompts, as many and as long, both are read in one batch and the logits are guided.
    """
    rows, steps = uniforms.shape
    tokens = prompts.tokens  # (B, T)
    documents = prompts.documents  # (B, T)
    if null is not None:  # one forward of 2 B rows takes hardly longer than one of B: the weights are read once
        tokens = torch.cat([tokens, null.tokens])  # (2 B, T)
        documents = torch.cat([documents, null.documents])  # (2 B, T)
    is_padded = bool((documents != documents[:, :1]).any())  # if not, causality is enough, and faster
    cache = model.cache(len(tokens), tokens.shape[1] + steps)
    # Of a prompt only the last token has a successor to draw: with a large vocabulary the logits of all would be
    # the largest tensor by far.
    last = model.hidden(tokens, documents if is_padded else None, cache)[:, -1:]  # (B or 2 B, 1, E)
    logits = model.head(last)[:, -1].float()  # (B or 2 B, V)
    drawn: list[Tensor] = []
    for i in range(steps):
        if null is not None:
            logits = guide(logits[:rows], logits[rows:], config.guidance)  # (B, V)
        legal = logits.masked_fill(~constraint.allowed(), -torch.inf)  # (B, V)
        token = choose(legal, uniforms[:, i], config)  # (B,)
        constraint.advance(token)
        drawn.append(token)
        if i + 1 < steps:
            read = token if null is None else token.repeat(2)  # both prompts go on with the same token
            logits = model(read[:, None], cache=cache)[:, -1].float()
    return torch.stack(drawn, dim=1)  # (B, N)
