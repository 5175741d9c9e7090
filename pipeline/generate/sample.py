"""Text to codes to samples of a medium.

Guarantees: sample i of a seed depends on its prompt, the seed and i alone, not on how many are drawn beside it (up to
the last bits of float arithmetic); only what the grammar allows is ever sampled.

Letters: B batch, T tokens, V vocabulary, C channels, H, W pixels, h, w codes, K components of a code vector.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.generate.load import Stack
from pipeline.log import Progress
from pipeline.models.config import NUM_TIMESTEPS, DecodingConfig, SamplingConfig
from pipeline.models.diffusion import alpha_bar
from pipeline.models.sampling import Prompts, sample_tokens
from pipeline.tokenize.grammar import BOS, PAD, START, Grammar, Segment


class GrammarConstraint:
    """The grammar as a sampler sees it: one state per row, from the prompt's last token on."""

    def __init__(self, grammar: Grammar, prompts: Sequence[np.ndarray], device: torch.device) -> None:
        self.grammar = grammar
        self.device = device
        self.states = [START] * len(prompts)
        for row, prompt in enumerate(prompts):
            for token in prompt:
                self.states[row] = grammar.step(self.states[row], int(token))

    def allowed(self) -> Tensor:
        """(B, V) bool."""
        masks = np.stack([self.grammar.mask(state) for state in self.states])
        return torch.from_numpy(masks).to(self.device)

    def advance(self, tokens: Tensor) -> None:
        """One step in every row."""
        self.states = [self.grammar.step(s, t) for s, t in zip(self.states, tokens.tolist(), strict=True)]


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What became of the prompts, in their order."""

    codes: Tensor
    """(B, h, w) int64."""
    recon: Tensor
    """(B, C, H, W) in [-1, 1], decoded by the DVAE alone."""
    samples: Tensor
    """The same through the diffusion decoder."""


def generate(
    stack: Stack,
    prompts: Sequence[str],
    *,
    sampling: SamplingConfig,
    decoding: DecodingConfig,
    seed: int = 0,
    batch_rows: int = 64,
) -> Generated:
    """One sample per prompt; ValueError for an empty prompt or one that is too long for the transformer."""
    for prompt in prompts:
        if not prompt.strip():
            raise ValueError("a prompt is empty; say what to draw")
    noun = stack.tokenizer.medium.noun
    # In batches, for the memory of the cache alone: what comes out does not depend on their size.
    parts = [
        sample_codes(stack, prompts[rows.start : rows.stop], sampling=sampling, seed=seed, first_row=rows.start)
        for rows in _chunks("sample codes", noun, len(prompts), batch_rows)
    ]
    codes = torch.cat(parts)
    recon = stack.tokenizer.decode(codes)
    samples = decode(stack, recon, codes, decoding, seed=seed, batch_rows=batch_rows)
    return Generated(codes=codes, recon=recon, samples=samples)


def sample_codes(
    stack: Stack, prompts: Sequence[str], *, sampling: SamplingConfig, seed: int = 0, first_row: int = 0
) -> Tensor:
    """Codes (B, h, w) of one sample per prompt, all in one batch; `first_row` is the number of the first."""
    gpt, grammar, shape = stack.gpt, stack.grammar, stack.tokenizer.code_shape
    modality = stack.tokenizer.medium.modality
    device, num_codes = gpt.embedding.weight.device, math.prod(shape)
    # What every prompt ends with: the ids up to where the codes begin.
    head = grammar.build_head(modality, shape)
    cond = [_prompt(grammar, Segment("text", stack.text.encode(prompt)), head) for prompt in prompts]
    longest = max(len(ids) for ids in cond)
    # The last code is drawn and never read, so a row may be one longer.
    if longest + num_codes > gpt.config.seq_len + 1:
        raise ValueError(
            f"a prompt of {longest} tokens leaves no room for {num_codes} codes in the model's seq_len "
            f"{gpt.config.seq_len}; shorten it"
        )
    null = None
    # At 1 the caption-free half would be multiplied by 0; it costs as much as the other.
    if sampling.guidance != 1:
        null = _pad_left([_prompt(grammar, Segment("text", None), head)] * len(prompts), longest, device)
    # Drawn before, by row: a code depends on its row's numbers alone, whatever is sampled beside it.
    uniforms = np.stack([_random(seed, "codes", first_row + i).random(num_codes) for i in range(len(prompts))])
    tokens = sample_tokens(
        gpt,
        _pad_left(cond, longest, device),
        null,
        GrammarConstraint(grammar, cond, device),
        torch.from_numpy(uniforms).to(device),
        sampling,
    )  # (B, h * w)
    return (tokens - grammar.offset(modality)).view(-1, *shape).cpu()


def decode(
    stack: Stack, recon: Tensor, codes: Tensor, config: DecodingConfig, *, seed: int = 0, batch_rows: int = 64
) -> Tensor:
    """Samples (B, C, H, W) in [-1, 1] behind reconstructions (B, C, H, W) and their codes (B, h, w)."""
    device = next(stack.denoiser.parameters()).device
    vectors = stack.tokenizer.vectors(codes)  # (B, K, h, w)
    parts: list[Tensor] = []
    for rows in _chunks("denoise", stack.tokenizer.medium.noun, len(codes), batch_rows):
        # By the number of the row, as above.
        noise = np.stack([_random(seed, "noise", i).standard_normal(recon.shape[1:], np.float32) for i in rows])
        here = slice(rows.start, rows.stop)
        part = denoise(
            stack.denoiser,
            recon[here].to(device),
            vectors[here].to(device),
            torch.from_numpy(noise).to(device),
            config,
        )
        parts.append(part.cpu())
    return torch.cat(parts)


@torch.inference_mode()
def denoise(denoiser: nn.Module, recon: Tensor, vectors: Tensor, noise: Tensor, config: DecodingConfig) -> Tensor:
    """DPM-Solver++ 2M (arXiv 2211.01095) from `noise` (B, C, H, W) down to samples like it, clipped to [-1, 1].

    `denoiser` takes what a `Denoiser` takes; vectors (B, K, h, w) are those of the codes behind `recon` (B, C, H, W).
    """
    from diffusers import DPMSolverMultistepScheduler  # seconds to import, and needed here alone

    shares = alpha_bar().numpy()  # (T,)
    scheduler: Any = DPMSolverMultistepScheduler(
        num_train_timesteps=NUM_TIMESTEPS,
        trained_betas=1 - shares / np.concatenate([[1.0], shares[:-1]]),
        # As the loss trains it, see `pipeline.models.denoiser`.
        prediction_type="v_prediction",
        algorithm_type="dpmsolver++",
        solver_order=2,
        timestep_spacing="trailing",
        final_sigmas_type="zero",
    )
    scheduler.set_timesteps(config.num_steps, device=noise.device)
    corruption = noise.new_full((len(noise),), config.corruption)
    x = noise * config.noise_scale
    for t in scheduler.timesteps:
        v = denoiser(x, t.expand(len(x)), recon, vectors, corruption)
        x = scheduler.step(v, t, x).prev_sample
    return x.clamp(-1, 1)


def _prompt(grammar: Grammar, condition: Segment, head: Sequence[int]) -> np.ndarray:
    """Ids (T,) up to where the codes of a sample begin."""
    return np.concatenate([[BOS], grammar.build_segment(condition), head])


def _pad_left(prompts: Sequence[np.ndarray], length: int, device: torch.device) -> Prompts:
    """Prompts of one length: padding is document 0, the prompt document 1."""
    # On the left, so that all rows come to their codes at once.
    tokens = np.full((len(prompts), length), PAD, np.int64)
    documents = np.zeros((len(prompts), length), np.int64)
    for row, ids in enumerate(prompts):
        tokens[row, length - len(ids) :] = ids
        documents[row, length - len(ids) :] = 1
    return Prompts(tokens=torch.from_numpy(tokens).to(device), documents=torch.from_numpy(documents).to(device))


def _random(seed: int, purpose: str, row: int) -> np.random.Generator:
    return np.random.default_rng([seed, row, *purpose.encode()])


def _chunks(name: str, noun: str, total: int, rows: int) -> Iterator[range]:
    """Rows to work on together; progress is shown under `name`."""
    with Progress(name, total, noun) as progress:
        for start in range(0, total, rows):
            part = range(start, min(start + rows, total))
            yield part
            progress.advance(len(part))
