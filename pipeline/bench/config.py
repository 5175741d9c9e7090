"""The options of the benchmarks that need torch, apart from them: a mistake in one is told before torch is imported."""

from dataclasses import dataclass
from typing import Literal

from pipeline.bench.report import Bench
from pipeline.models.config import SIZES, DenoiserConfig, GPTConfig
from pipeline.train.config import EngineConfig

VOCAB_SIZE = 512
"""Tokens of `Ddp`'s transformer: so few that the head is no more than a layer of the step."""
LOG_EVERY = 10
"""Steps between the lines that `Ddp` takes its means from."""
DECODERS: dict[str, tuple[DenoiserConfig, int]] = {
    "decoder_tiny": (DenoiserConfig(code_width=4), 32),
    "decoder": (
        DenoiserConfig(code_width=5, channels=3, width=128, multipliers=(1, 2, 4, 4), blocks=2, groups=32),
        256,
    ),
}
"""Configs and image sizes; the transformers are those of `SIZES`."""
MODELS = (*SIZES, *DECODERS)
VARIANTS: dict[str, EngineConfig] = {
    "plain": EngineConfig(backend="torch"),
    "compile": EngineConfig(backend="torch", compile=True),
    "checkpointing": EngineConfig(backend="torch", activation_checkpointing=True),
    "compile+checkpointing": EngineConfig(backend="torch", compile=True, activation_checkpointing=True),
}
"""Options of the engine to compare."""


@dataclass(frozen=True, kw_only=True)
class Ddp(Bench):
    """What to compare, and how long."""

    workers: int = 2
    """Number of processes on each side."""
    rounds: int = 3
    """Number of times that both sides run, in turn; medians come last."""
    steps: int = 240
    """Steps of each run, of which the first `warmup` are not timed; multiples of 10."""
    warmup: int = 40
    """Steps at the start of each run."""
    checkpoint_every: int = 200
    """Steps between our checkpoints; the other side makes none."""
    global_batch: int = 16
    """Samples in a step, over all workers."""
    n_layer: int = 4
    """Number of layers."""
    d_model: int = 192
    """Channels of the transformer."""
    seq_len: int = 128
    """Tokens in a sample."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """0 shares out nothing, as DistributedDataParallel does; 1 saves memory, and gathers the parameters after each
    step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.warmup < self.steps or self.warmup % LOG_EVERY or self.steps % LOG_EVERY:
            raise ValueError(
                f"--warmup {self.warmup} must be below --steps {self.steps}, both multiples of {LOG_EVERY}"
            )
        if self.global_batch % self.workers:
            raise ValueError(f"--global-batch {self.global_batch} is not a multiple of --workers {self.workers}")

    @property
    def ray_cpus(self) -> int:
        """One for each worker."""
        return self.workers

    @property
    def gpt(self) -> GPTConfig:
        """The network."""
        return GPTConfig(vocab_size=VOCAB_SIZE, n_layer=self.n_layer, d_model=self.d_model, seq_len=self.seq_len)


@dataclass(frozen=True, kw_only=True)
class Loader(Bench):
    """Sizes of the data, and how often it is read."""

    samples: int = 20_000
    """Number of samples, each a row."""
    sample_bytes: int = 4096
    """Bytes of a sample, as int32 tokens."""
    batch: int = 256
    """Samples in a batch."""
    rounds: int = 5
    """Number of epochs of each loader, in turn."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 10 * self.batch or self.sample_bytes < 8 or self.rounds < 1:
            raise ValueError(
                f"--samples {self.samples} must be at least 10 times --batch {self.batch}, --sample-bytes "
                f"{self.sample_bytes} at least 8, and --rounds {self.rounds} at least 1"
            )


@dataclass(frozen=True, kw_only=True)
class Recovery(Bench):
    """The death of a worker, on both sides."""

    rounds: int = 3
    """Number of times that both are tried, in turn; medians come last."""

    @property
    def ray_cpus(self) -> int:
        """One for each worker."""
        return 2


@dataclass(frozen=True, kw_only=True)
class TrainStep(Bench):
    """What to measure, and how long."""

    device: Literal["cpu", "cuda"] = "cpu"
    """Where the step runs."""
    models: tuple[str, ...] = ("tiny", "decoder_tiny")
    """Names of `MODELS`."""
    variants: tuple[str, ...] = ("plain",)
    """Names of `VARIANTS`."""
    batch: int | None = None
    """Samples in a step; 16,384 tokens or 16 images by default."""
    seq_len: int | None = None
    """Tokens in a row; the size's own by default."""
    vocab_size: int = 52_864
    """Number of tokens that there are."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Of products; weights are fp32."""
    warmup: int = 5
    """Steps before the first that counts."""
    steps: int = 5
    """Steps in a round."""
    rounds: int = 5
    """Number of rounds; median, least and most are shown."""
    peak_tflops: float | None = None
    """A data sheet's figure, for a second MFU."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind, given, known in (("model", self.models, MODELS), ("variant", self.variants, VARIANTS)):
            if bad := sorted(set(given) - set(known)):
                raise ValueError(f"no {kind} {bad[0]!r}; --{kind}s takes {', '.join(known)}")
        if min(self.warmup, self.steps, self.rounds) < 1:
            raise ValueError(
                f"--warmup {self.warmup}, --steps {self.steps} and --rounds {self.rounds} must be 1 or more"
            )
        for name, value in (("batch", self.batch), ("seq-len", self.seq_len), ("vocab-size", self.vocab_size)):
            if value is not None and value < 1:
                raise ValueError(f"--{name} is {value}; use 1 or more")
        if self.device == "cuda":
            import torch

            if not torch.cuda.is_available():
                raise ValueError("torch sees no GPU; use --device cpu")
