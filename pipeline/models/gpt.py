"""The causal transformer over text and codes: a Llama block with grouped queries and QK-norm.

Without documents a row is one causal sequence. With them, `documents` (B, T) numbers the sequences packed into a row
(equal neighbours belong together): attention stays inside a document and positions restart at 0 in each, so a document
reads exactly as if it were alone.

Letters: B batch, T tokens, S tokens read so far and these, V vocabulary, E model width, F hidden width, L layers,
H heads, K key-value heads, D head width.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.models.config import MODALITIES, GPTConfig
from pipeline.models.layers import Attention, RMSNorm, SwiGLU, rotary


@dataclass(kw_only=True)
class KVCache:
    """Keys and values of the tokens read so far, for sampling; `GPT.cache` makes one."""

    keys: Tensor
    """(L, B, K, S, D), of whose S tokens the first `length` are filled; `values` likewise."""
    values: Tensor
    length: int = 0
    documents: Tensor | None = None
    """(B, length) if the prompt came with documents; tokens after it belong to the last one."""


class Block(nn.Module):
    """One layer: attention, then feed-forward, each on a normalised copy of the stream."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.d_model, config.norm_eps)
        self.attention = Attention(config.d_model, config.n_head, config.n_kv_head, config.norm_eps)
        self.mlp_norm = RMSNorm(config.d_model, config.norm_eps)
        self.mlp = SwiGLU(config.d_model, config.d_ff)

    def forward(
        self, x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None, cache: tuple[Tensor, Tensor] | None, past: int
    ) -> Tensor:
        """(B, T, E) -> (B, T, E)."""
        x = x + self.attention(self.attention_norm(x), cos, sin, mask, cache, past)  # (B, T, E)
        return x + self.mlp(self.mlp_norm(x))  # (B, T, E)


class Head(nn.Linear):
    """The last layer: to logits, or to the two numbers a token that a loss needs of them.

    The second way is one function of the module, so that what compiles or checkpoints a module spares the logits their
    many trips through memory: with a large vocabulary they are the largest tensor of a step.
    """

    def forward(self, input: Tensor, targets: Tensor | None = None) -> Tensor:
        """(B, T, E) -> logits (B, T, V); with targets (B, T) -> (2, B, T) float32, cross entropy in nats and
        logsumexp."""
        logits = super().forward(input)
        if targets is None:
            return logits
        logits = logits.float()  # bf16 has 8 bits: too few for a sum over the vocabulary
        nats = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none").view_as(targets)
        # logsumexp = logit of the target + its nats: a third of the cost of a second pass over the vocabulary.
        hit = logits.gather(-1, targets[..., None]).squeeze(-1)  # (B, T)
        return torch.stack([nats, hit + nats])


class GPT(nn.Module):
    """The network. Token ids in, logits out."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.norm = RMSNorm(config.d_model, config.norm_eps)
        self.head = Head(config.d_model, config.vocab_size, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
        # What each block adds to the stream shrinks with the depth, so that their sum does not grow with it (GPT-2).
        std = 0.02 / (2 * config.n_layer) ** 0.5
        for module in self.modules():
            if isinstance(module, Block):
                nn.init.normal_(module.attention.o.weight, std=std)
                nn.init.normal_(module.mlp.down.weight, std=std)
        if config.tie_embedding:
            self.head.weight = self.embedding.weight

    def forward(
        self,
        tokens: Tensor,
        documents: Tensor | None = None,
        cache: KVCache | None = None,
        targets: Tensor | None = None,
    ) -> Tensor:
        """Tokens (B, T) int64 -> logits (B, T, V) of the next token, or what `Head` makes of them and the targets."""
        return self.head(self.hidden(tokens, documents, cache), targets)

    def hidden(self, tokens: Tensor, documents: Tensor | None = None, cache: KVCache | None = None) -> Tensor:
        """Tokens (B, T) -> what the head reads, (B, T, E). A cache is extended by these tokens.

        ValueError if the row grows longer than seq_len.
        """
        past = cache.length if cache else 0
        length = past + tokens.shape[1]
        if length > self.config.seq_len:
            raise ValueError(f"{length} tokens are more than the model's seq_len {self.config.seq_len}")
        if cache is not None:
            documents = _continue_documents(cache, tokens, documents)
        positions, mask = _positions_and_mask(documents, past, length, tokens.device)
        cos, sin = rotary(
            positions, self.config.d_head, self.config.rope_base
        )  # (B or 1, 1, T, D) each, for all layers
        x = self.embedding(tokens)  # (B, T, E)
        for i, block in enumerate(self.blocks):
            layer_cache = (cache.keys[i], cache.values[i]) if cache else None  # (B, K, S, D) each
            x = block(x, cos, sin, mask, layer_cache, past)  # (B, T, E)
        if cache is not None:
            cache.length = length
            cache.documents = documents
        return self.norm(x)

    def cache(self, batch: int, length: int) -> KVCache:
        """An empty cache for `batch` rows of up to `length` tokens, in the model's dtype and on its device."""
        config, weight = self.config, self.embedding.weight
        shape = (config.n_layer, batch, config.n_kv_head, length, config.d_head)
        return KVCache(keys=weight.new_zeros(shape), values=weight.new_zeros(shape))


def _continue_documents(cache: KVCache, tokens: Tensor, documents: Tensor | None) -> Tensor | None:
    """Documents (B, S) of all tokens that the cache will hold; None where there are none."""
    if cache.length == 0:
        return documents
    if cache.documents is None:
        if documents is not None:
            raise ValueError("the prompt was read without documents, so what follows can have none")
        return None
    if documents is None:  # what is sampled belongs to the prompt's last document
        documents = cache.documents[:, -1:].expand(-1, tokens.shape[1])  # (B, T)
    return torch.cat([cache.documents, documents], dim=1)


def _positions_and_mask(
    documents: Tensor | None, past: int, length: int, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """Positions (B or 1, T) of tokens past ... length - 1; a mask (B or 1, 1, T, S), S = length, where causality is not
    enough."""
    index = torch.arange(length, device=device)  # (S,)
    causal = index[past:, None] >= index  # (T, S)
    if documents is None:
        plain = past == 0 or length - past == 1  # one new token sees all that came before
        return index[None, past:], None if plain else causal[None, None]
    starts = torch.ones_like(documents, dtype=torch.bool)  # (B, S): where a document begins
    starts[:, 1:] = documents[:, 1:] != documents[:, :-1]
    begin = torch.where(starts, index, 0).cummax(dim=1).values  # (B, S): where the document of each token began
    positions = index - begin  # (B, S)
    # Compared by the start of the run, not by its number, so that a number used twice in a row names two documents.
    runs = starts.cumsum(dim=1)  # (B, S)
    same = runs[:, past:, None] == runs[:, None, :]  # (B, T, S)
    return positions[:, past:], (same & causal)[:, None]  # (B, 1, T, S): one mask for all heads


def gpt_loss(
    model: nn.Module, batch: dict[str, Tensor], *, z_weight: float = 1e-4
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Weighted next-token cross entropy, in nats, plus z-loss, both in float32; the weight is the sum of the tokens'.

    `batch` holds tokens, targets (B, T) int64, weights (B, T) float and perhaps documents (B, T). The z-loss
    `z_weight * logsumexp(logits)^2` keeps logits from drifting (PaLM, arXiv 2204.02311, section 5). Where it holds
    `modality` (B, T), of each target 0 or 1 + a place in MODALITIES, the nats of each are summed as well.
    """
    nats, logsumexp = model(batch["tokens"], batch.get("documents"), targets=batch["targets"])  # (B, T) each
    weights = batch["weights"].float()  # (B, T)
    nats_sum = (nats * weights).sum()
    z_sum = (logsumexp.square() * weights).sum()
    sums = {"nats": nats_sum.detach(), "z": z_sum.detach(), "tokens": (weights > 0).sum()}
    if "modality" in batch:
        for place, name in enumerate(MODALITIES, start=1):
            share = weights * (batch["modality"] == place)  # (B, T)
            sums[f"nats/{name}"] = (nats.detach() * share).sum()
            sums[f"nats/{name}/weight"] = share.sum()
    return nats_sum + z_weight * z_sum, weights.sum(), sums


def gpt_flops(config: GPTConfig, batch: Mapping[str, Tensor]) -> float:
    """Operations of a forward pass over batch["tokens"] (B, T); see `networks.flops`."""
    rows, seq_len = batch["tokens"].shape
    heads = 2 * config.n_head + 2 * config.n_kv_head  # of q and o, k and v
    projections = 2 * config.d_model * config.d_head * heads
    attention = 4 * seq_len * config.n_head * config.d_head  # q k^T, and its product with v
    layer = projections + attention + 6 * config.d_model * config.d_ff  # a gate, up and down
    head = 2 * config.d_model * config.vocab_size
    return float(rows * seq_len * (config.n_layer * layer + head))
