"""Sizes of the networks and how they are run, as options; apart from the networks, so that reading them imports no
torch."""

import math
from dataclasses import dataclass, field
from typing import Literal, TypedDict, get_args

from pipeline.ranges import check_range

Modality = Literal["text", "image", "audio"]
"""What a token can stand for, besides control."""
MODALITIES: tuple[Modality, ...] = get_args(Modality)

Dims = Literal[1, 2]
"""Axes of a sample: 2 for images, 1 for sequences."""

NUM_TIMESTEPS = 1000
"""Noise levels of the diffusion that the denoiser is trained on."""

MAX_CODES = 1 << 24
"""Most codes of a codebook: indices are computed in float32, which holds no larger integers exactly."""


class Size(TypedDict):
    """What a named size of the transformer settles."""

    n_layer: int
    d_model: int
    n_head: int
    n_kv_head: int
    seq_len: int


SIZES: dict[str, Size] = {
    "tiny": {"n_layer": 4, "d_model": 192, "n_head": 4, "n_kv_head": 2, "seq_len": 128},
    "small": {"n_layer": 12, "d_model": 768, "n_head": 12, "n_kv_head": 4, "seq_len": 1_024},
    "base": {"n_layer": 24, "d_model": 1024, "n_head": 16, "n_kv_head": 4, "seq_len": 2_048},
    "large": {"n_layer": 24, "d_model": 2048, "n_head": 16, "n_kv_head": 8, "seq_len": 4_096},
    "xl": {"n_layer": 32, "d_model": 3072, "n_head": 24, "n_kv_head": 8, "seq_len": 8_192},
}
"""Named sizes: 1.6 M, 76 M, 271 M, 1.13 B and 3.2 B parameters without the embedding."""


@dataclass(frozen=True, kw_only=True)
class QuantizerConfig:
    """How a vector becomes a code; `quantizers.build` makes what it describes."""

    kind: Literal["fsq"] = "fsq"
    """Way to round: fsq, finite scalar quantization."""
    levels: tuple[int, ...] = (8, 5, 5, 5)
    """Of fsq, the number of levels of each component of a code; the codebook has their product of entries."""

    def __post_init__(self) -> None:
        check_range(self, "levels", low=3)  # of two levels the bound all but hides one
        _check_given(self, "levels")
        if self.codebook_size > MAX_CODES:
            raise ValueError(f"levels is {self.levels}; use numbers whose product is {MAX_CODES} at most")

    @property
    def width(self) -> int:
        """Components of a code vector."""
        return len(self.levels)

    @property
    def codebook_size(self) -> int:
        """Number of codes."""
        return math.prod(self.levels)


@dataclass(frozen=True, kw_only=True)
class DVAEConfig:
    """Sizes of a DVAE. `multipliers` gives one width per resolution, so the stride is 2 ** (len(multipliers) - 1)."""

    dims: Dims = 2
    """Axes of a sample: 2 for images, 1 for sequences."""
    channels: int = 1
    """Channels of a sample: 1 for grey images, 3 for colour."""
    size: int = 32
    """Length of each axis of a sample: height and width of an image in pixels, frames of a sequence."""
    width: int = 32
    """Channels at full resolution."""
    multipliers: tuple[int, ...] = (1, 2, 4)
    """Channels at each resolution, in units of `width`; each resolution halves the one before."""
    blocks: int = 1
    """Residual blocks per resolution, in the encoder and in the decoder."""
    quantizer: QuantizerConfig = field(default_factory=QuantizerConfig)

    def __post_init__(self) -> None:
        check_range(self, "dims", low=1, high=2)
        check_range(self, "channels", "size", "width", "multipliers", low=1)
        check_range(self, "blocks", low=0)
        _check_given(self, "multipliers")
        if self.size % self.stride:
            raise ValueError(
                f"size is {self.size}; use a multiple of {self.stride}, the stride, or another number of multipliers"
            )

    @property
    def stride(self) -> int:
        """Pixels (or frames) per code, along each axis."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def widths(self) -> list[int]:
        """Channels at each resolution, the finest first."""
        return [self.width * m for m in self.multipliers]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a sample, (C, H, W) or (C, T)."""
        return (self.channels, *[self.size] * self.dims)

    @property
    def code_shape(self) -> tuple[int, ...]:
        """Of the codes of a sample, (h, w) or (t,)."""
        return (self.size // self.stride,) * self.dims


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
        # Three matrices of 8/3 weigh as much as the two of 4 in a layer without a gate (arXiv 2002.05202).
        return -(-8 * self.d_model // 3 // 64) * 64

    @property
    def d_head(self) -> int:
        """Width of a head."""
        return self.d_model // self.n_head


@dataclass(frozen=True, kw_only=True)
class DenoiserConfig:
    """Sizes of a denoiser; `code_width`, `dims` and `channels` are those of the tokenizer that it decodes."""

    code_width: int
    """Components of a code vector."""
    dims: Dims = 2
    """Axes of a sample: 2 for images, 1 for sequences."""
    channels: int = 1
    """Channels of a sample: 1 for grey images, 3 for colour."""
    width: int = 32
    """Channels at full resolution."""
    multipliers: tuple[int, ...] = (1, 2, 4)
    """Channels at each resolution, in units of `width`; each halves the one before, and divides the image's sides."""
    blocks: int = 1
    """Residual blocks per resolution, on the way down and on the way up."""
    groups: int = 8
    """Groups of GroupNorm."""

    def __post_init__(self) -> None:
        check_range(self, "code_width", "channels", "width", "multipliers", "blocks", "groups", low=1)
        check_range(self, "dims", low=1, high=2)
        _check_given(self, "multipliers")
        if self.width % self.groups or self.width % 4:
            raise ValueError(f"width is {self.width}; use a multiple of groups, {self.groups}, and of 4")

    @property
    def widths(self) -> list[int]:
        """Channels at each resolution, the finest first."""
        return [self.width * m for m in self.multipliers]

    @property
    def stem_channels(self) -> int:
        """What the first layer reads: noisy detail, reconstruction, and the code vector of each pixel."""
        return 2 * self.channels + self.code_width


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
        check_range(self, "guidance", "temperature", "top_k", low=0)
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
