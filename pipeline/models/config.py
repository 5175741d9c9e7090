"""Sizes of the networks and how they are run, as options; apart from the networks, so that reading them imports no
torch."""

from dataclasses import dataclass
from typing import Literal

from pipeline.ranges import check_range

Dims = Literal[1, 2]
"""Axes of a sample: 2 for images, 1 for sequences."""

NUM_TIMESTEPS = 1000
"""Noise levels of the diffusion that the denoiser is trained on."""

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"n_layer": 4, "d_model": 192, "n_head": 4, "n_kv_head": 2, "seq_len": 128},
    "small": {"n_layer": 12, "d_model": 768, "n_head": 12, "n_kv_head": 4, "seq_len": 1_024},
    "base": {"n_layer": 24, "d_model": 1024, "n_head": 16, "n_kv_head": 4, "seq_len": 2_048},
    "large": {"n_layer": 24, "d_model": 2048, "n_head": 16, "n_kv_head": 8, "seq_len": 4_096},
    "xl": {"n_layer": 32, "d_model": 3072, "n_head": 24, "n_kv_head": 8, "seq_len": 8_192},
}
"""Named sizes: 1.6 M, 76 M, 271 M, 1.13 B and 3.2 B parameters without the embedding."""


@dataclass(frozen=True, kw_only=True)
class DVAEConfig:
    """Sizes of a DVAE. `multipliers` gives one width per resolution, so the stride is 2 ** (len(multipliers) - 1)."""

    dims: Dims = 2
    """Axes of a sample: 2 for images, 1 for sequences."""
    channels: int = 1
    """Channels of a sample: 1 for grey images, 3 for colour."""
    image_size: int = 32
    """Height and width of an image, in pixels."""
    width: int = 32
    """Channels at full resolution."""
    multipliers: tuple[int, ...] = (1, 2, 4)
    """Channels at each resolution, in units of `width`; each resolution halves the one before."""
    blocks: int = 1
    """Residual blocks per resolution, in the encoder and in the decoder."""
    levels: tuple[int, ...] = (8, 5, 5, 5)
    """Number of levels of each component of a code; the codebook has their product of entries."""

    def __post_init__(self) -> None:
        check_range(self, "dims", low=1, high=2)
        check_range(self, "channels", "image_size", "width", "multipliers", low=1)
        check_range(self, "blocks", low=0)
        check_range(self, "levels", low=3)  # of two levels the bound all but hides one
        _check_given(self, "multipliers", "levels")
        if self.image_size % self.stride:
            raise ValueError(
                f"image_size is {self.image_size}; use a multiple of {self.stride}, the stride, or another number of "
                "multipliers"
            )

    @property
    def stride(self) -> int:
        """Pixels (or samples) per code, along each axis."""
        return 2 ** (len(self.multipliers) - 1)


@dataclass(frozen=True, kw_only=True)
class GPTConfig:
    """Sizes of a transformer; `GPTConfig(vocab_size=n, **SIZES["base"])` for a named one."""

    vocab_size: int
    """Tokens there are."""
    n_layer: int = 4
    """Layers."""
    d_model: int = 192
    """Numbers that stand for a token between layers."""
    n_head: int = 4
    """Heads of queries."""
    n_kv_head: int = 2
    """Heads of keys and values; each serves n_head / n_kv_head heads of queries."""
    seq_len: int = 128
    """Longest row, in tokens."""
    rope_base: float = 10_000.0
    """Base of the angles of rotary positions."""
    norm_eps: float = 1e-6
    """Number added to the mean square before dividing by its root."""
    tie_embedding: bool = True
    """The head reads the embedding's weights instead of its own."""

    def __post_init__(self) -> None:
        if self.d_model % self.n_head or (self.d_model // self.n_head) % 2:
            raise ValueError(f"d_model is {self.d_model}; use an even multiple of n_head, {self.n_head}")
        if self.n_head % self.n_kv_head:
            raise ValueError(f"n_head is {self.n_head}; use a multiple of n_kv_head, {self.n_kv_head}")

    @property
    def d_ff(self) -> int:
        """Hidden width of the feed-forward layer: 8/3 d_model, rounded up to a multiple of 64."""
        return -(-8 * self.d_model // 3 // 64) * 64


@dataclass(frozen=True, kw_only=True)
class DenoiserConfig:
    """Sizes of a denoiser; `levels` and `channels` are those of the tokenizer that it decodes."""

    levels: tuple[int, ...]
    """Number of levels of each component of a code."""
    channels: int = 1
    """Channels of an image: 1 grey, 3 colour."""
    width: int = 32
    """Channels at full resolution."""
    multipliers: tuple[int, ...] = (1, 2, 4)
    """Channels at each resolution, in units of `width`; each halves the one before, and divides the image's sides."""
    blocks: int = 1
    """Residual blocks per resolution, on the way down and on the way up."""
    groups: int = 8
    """Groups of GroupNorm."""

    def __post_init__(self) -> None:
        check_range(self, "channels", "width", "multipliers", "blocks", "groups", low=1)
        _check_given(self, "multipliers")
        if self.width % self.groups or self.width % 4:
            raise ValueError(f"width is {self.width}; use a multiple of groups, {self.groups}, and of 4")


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """How tokens are drawn."""

    guidance: float = 2.0
    """Weight of the caption: 1 follows the model; above 1 variety shrinks; 0 ignores the caption."""
    temperature: float = 0.8
    """Number that logits are divided by: below 1 prefers likely codes; 0 always takes the likeliest."""
    top_k: int = 0
    """Number of likeliest codes to draw among; 0: all."""
    top_p: float = 1.0
    """Draw among the likeliest codes that together hold this probability; 1 among all."""

    def __post_init__(self) -> None:
        check_range(self, "temperature", "top_k", low=0)
        check_range(self, "top_p", above=0, high=1)


@dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """How the denoiser is run."""

    num_steps: int = 4
    """Steps of DPM-Solver++; more add detail, fewer stay closer to the mean picture."""
    noise_scale: float = 1.0
    """Size of the initial noise; below 1 trades detail for fidelity."""
    corruption: float = 0.0
    """Share of codes that the denoiser should distrust; 0 for codes of real pictures."""

    def __post_init__(self) -> None:
        check_range(self, "num_steps", low=1, high=NUM_TIMESTEPS)
        check_range(self, "noise_scale", low=0)
        check_range(self, "corruption", low=0, high=1)


def _check_given(config: object, *names: str) -> None:
    for name in names:
        if getattr(config, name) == ():
            raise ValueError(f"{name} is (); give it one number or more")
