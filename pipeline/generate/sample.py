"""Text to codes to pictures.

Guarantees: picture i of a seed depends on its prompt, the seed and i alone, not on how many are drawn beside it (up to
the last bits of float arithmetic); only what the grammar allows is ever sampled.

Letters: B batch, T tokens, C channels, H, W pixels, h, w codes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.log import Progress
from pipeline.models.config import NUM_TIMESTEPS, DecodingConfig, SamplingConfig
from pipeline.models.denoiser import Denoiser, alpha_bar
from pipeline.models.gpt import GPT
from pipeline.models.sampling import sample_tokens
from pipeline.tokenize.grammar import BOS, PAD, START, Grammar, Segment
from pipeline.tokenize.package import Tokenizer
from pipeline.tokenize.text import TextTokenizer


class GrammarConstraint:
    """The grammar as a sampler sees it: one state per row, from the prompt's last token on."""

    def __init__(self, grammar: Grammar, prompts: Sequence[np.ndarray], device: torch.device) -> None:
        self.grammar, self.device = grammar, device
        self.states = []
        for prompt in prompts:
            state = START
            for token in prompt:
                state = grammar.step(state, int(token))
            self.states.append(state)

    def allowed(self) -> Tensor:
        """(B, V) bool."""
        return torch.from_numpy(np.stack([self.grammar.mask(state) for state in self.states])).to(self.device)

    def advance(self, tokens: Tensor) -> None:
        """One step in every row."""
        self.states = [self.grammar.step(s, t) for s, t in zip(self.states, tokens.tolist(), strict=True)]


@dataclass(frozen=True, kw_only=True)
class Generated:
    """What became of the prompts, in their order."""

    codes: Tensor
    """(B, h, w) int64."""
    dvae_images: Tensor
    """(B, C, H, W) in [-1, 1], decoded by the DVAE alone."""
    images: Tensor
    """The same through the diffusion decoder."""


def generate_images(
    prompts: Sequence[str],
    gpt: GPT,
    grammar: Grammar,
    text: TextTokenizer,
    tokenizer: Tokenizer,
    denoiser: Denoiser,
    *,
    sampling: SamplingConfig,
    decoding: DecodingConfig,
    seed: int = 0,
    batch_rows: int = 64,
) -> Generated:
    """One picture per prompt; ValueError for an empty prompt or one that is too long for the transformer."""
    for prompt in prompts:
        if not prompt.strip():
            raise ValueError("a prompt is empty; say what to draw")
    parts = [
        sample_codes(
            prompts[rows.start : rows.stop],
            gpt,
            grammar,
            text,
            tokenizer.code_shape,
            sampling=sampling,
            seed=seed,
            first_row=rows.start,
        )
        for rows in _chunks("sample codes", len(prompts), batch_rows)
    ]
    codes = torch.cat(parts)
    dvae_images = tokenizer.decode(codes)
    images = decode_images(denoiser, dvae_images, codes, decoding, seed=seed, batch_rows=batch_rows)
    return Generated(codes=codes, dvae_images=dvae_images, images=images)


def sample_codes(
    prompts: Sequence[str],
    gpt: GPT,
    grammar: Grammar,
    text: TextTokenizer,
    shape: tuple[int, ...],
    *,
    sampling: SamplingConfig,
    seed: int = 0,
    first_row: int = 0,
) -> Tensor:
    """Codes (B, h, w) of one picture per prompt, all in one batch; `first_row` is the number of the first."""
    device, num_codes = gpt.embedding.weight.device, shape[0] * shape[1]
    cond = [_prompt(grammar, Segment("text", text.encode(prompt)), shape) for prompt in prompts]
    longest = max(len(ids) for ids in cond)
    if longest + num_codes > gpt.config.seq_len + 1:
        raise ValueError(
            f"a prompt of {longest} tokens leaves no room for {num_codes} codes in the model's seq_len "
            f"{gpt.config.seq_len}; shorten it"
        )
    null = [_prompt(grammar, Segment("text", None), shape)] * len(prompts) if sampling.guidance != 1 else None
    uniforms = np.stack([_random(seed, "codes", first_row + i).random(num_codes) for i in range(len(prompts))])
    tokens = sample_tokens(
        gpt,
        *_pad_left(cond, longest, device),
        *(_pad_left(null, longest, device) if null else (None, None)),
        GrammarConstraint(grammar, cond, device),
        torch.from_numpy(uniforms).to(device),
        sampling,
    )
    return (tokens - grammar.offset("image")).view(-1, *shape).cpu()


def decode_images(
    denoiser: Denoiser, recon: Tensor, codes: Tensor, config: DecodingConfig, *, seed: int = 0, batch_rows: int = 64
) -> Tensor:
    """Pictures (B, C, H, W) in [-1, 1] behind reconstructions (B, C, H, W) and their codes (B, h, w)."""
    device, out = next(denoiser.parameters()).device, []
    for rows in _chunks("denoise", len(codes), batch_rows):
        noise = np.stack([_random(seed, "noise", i).standard_normal(recon.shape[1:], np.float32) for i in rows])
        part = slice(rows.start, rows.stop)
        out.append(
            denoise(
                denoiser, recon[part].to(device), codes[part].to(device), torch.from_numpy(noise).to(device), config
            ).cpu()
        )
    return torch.cat(out)


@torch.inference_mode()
def denoise(denoiser: Denoiser, recon: Tensor, codes: Tensor, noise: Tensor, config: DecodingConfig) -> Tensor:
    """DPM-Solver++ 2M (arXiv 2211.01095) from `noise` (B, C, H, W) down to pictures like it, clipped to [-1, 1]."""
    from diffusers import DPMSolverMultistepScheduler  # seconds to import, and needed here alone

    shares = alpha_bar().numpy()
    scheduler = DPMSolverMultistepScheduler(
        num_train_timesteps=NUM_TIMESTEPS,
        trained_betas=1 - shares / np.concatenate([[1.0], shares[:-1]]),
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
        v = denoiser(x, t.expand(len(x)), recon, codes, corruption)
        x = scheduler.step(v, t, x).prev_sample
    return x.clamp(-1, 1)


def _prompt(grammar: Grammar, condition: Segment, shape: tuple[int, ...]) -> np.ndarray:
    """Ids up to where the codes of a picture of `shape` (h, w) begin."""
    picture = grammar.build_segment(Segment("image", (0,) * (shape[0] * shape[1]), (shape[0], shape[1])))
    return np.concatenate([[BOS], grammar.build_segment(condition), picture[:3]])


def _pad_left(prompts: Sequence[np.ndarray], length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokens and documents (B, length): padding is document 0, the prompt document 1."""
    tokens = np.full((len(prompts), length), PAD, np.int64)
    documents = np.zeros((len(prompts), length), np.int64)
    for row, ids in enumerate(prompts):
        tokens[row, length - len(ids) :] = ids
        documents[row, length - len(ids) :] = 1
    return torch.from_numpy(tokens).to(device), torch.from_numpy(documents).to(device)


def _random(seed: int, purpose: str, row: int) -> np.random.Generator:
    return np.random.default_rng([seed, row, *purpose.encode()])


def _chunks(name: str, total: int, rows: int) -> Iterator[range]:
    """Rows to work on together; progress is shown under `name`."""
    with Progress(name, total, "images") as progress:
        for start in range(0, total, rows):
            part = range(start, min(start + rows, total))
            yield part
            progress.advance(len(part))
