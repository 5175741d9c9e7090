"""How a network is trained, as options; apart from the loop and the engine, so that reading them imports no torch."""

from dataclasses import dataclass
from typing import Literal

from pipeline.ranges import check_range
from pipeline.train.divergence import FEWEST
from pipeline.train.schedule import ScheduleConfig

TrackerName = Literal["wandb", "mlflow"]


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How a step is computed. The defaults of DeepSpeed are not relied upon."""

    backend: Literal["torch", "deepspeed"] = "deepspeed"
    """deepspeed shards the optimizer over the workers; torch runs on one of them, without it."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """What DeepSpeed shards: nothing, optimizer state (1), gradients too (2), parameters too (3)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: matrix products in bfloat16 by torch.autocast, parameters and optimizer in fp32."""
    grad_clip: float = 1.0
    """Largest global gradient norm; 0 does not clip."""
    cpu_offload: bool = False
    """Keep the optimizer state in host memory (DeepSpeed, stages 1 to 3)."""
    compile: bool = False
    """Compile each block of the network by torch.compile: the first steps take longer, all later ones less."""
    activation_checkpointing: bool = False
    """Keep only the inputs of each block and compute the rest again in the backward pass: less memory, a third more
    work."""

    def __post_init__(self) -> None:
        check_range(self, "grad_clip", low=0)
        if self.cpu_offload and (self.backend == "torch" or self.zero_stage == 0):
            raise ValueError("cpu_offload needs backend deepspeed and zero_stage 1, 2 or 3; set those, or leave it out")
        if self.compile and self.backend == "deepspeed" and self.zero_stage == 3:  # it moves parameters inside a block
            raise ValueError("compile does not go with zero_stage 3; use stage 0, 1 or 2")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """AdamW; weight decay on parameters of two and more dimensions only."""

    lr: float = 3e-4
    """Peak learning rate: the size of an update, in units of the parameters."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Shares of the old averages of the gradient and of its square that a step keeps."""
    eps: float = 1e-8
    """Number added to the root of the second average before dividing by it, in units of the gradient."""
    weight_decay: float = 0.1
    """Share of each weight that a step takes away, in units of the learning rate; 0: none."""

    def __post_init__(self) -> None:
        check_range(self, "lr", "eps", above=0)
        check_range(self, "weight_decay", low=0)
        check_range(self, "betas", low=0, below=1)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a network is trained."""

    steps: int = 1000
    """Optimizer steps of the whole run."""
    global_batch: int = 64
    """Samples in one step, over all workers."""
    micro_batch: int | None = None
    """Samples that a worker holds in memory at once, at most; None: its whole share."""
    seed: int = 0
    """Number that the order of the samples and all random numbers are computed from."""
    window_blocks: int = 0
    """Row groups that are shuffled together; 0: all, for data that is small or on a fast disk."""
    log_every: int = 10
    """Steps between lines of metrics."""
    eval_every: int = 0
    """Steps between evaluations; 0: only at the end, if there is anything to evaluate on."""
    eval_samples: int = 1024
    """Held-out samples that an evaluation looks at, at most."""
    sample_every: int = 0
    """Steps between pictures of what the network does, for networks that make some; 0: none."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    keep_checkpoints: int = 2
    """Number of newest checkpoints that are kept."""
    keep_best: str = ""
    """A metric, such as loss or eval/loss: the checkpoint that was best by it is kept as well, and is what the run
    exports; by default that is the last."""
    keep_best_mode: Literal["min", "max"] = "min"
    """Whether the smallest value of that metric is the best, or the largest."""
    trackers: tuple[TrackerName, ...] = ()
    """Services that get the metrics too; see pipeline/train/trackers.py for their environment variables."""
    peak_tflops: float | None = None
    """10^12 operations per second of one device, for MFU; 0: those of a matrix product at the start; None: no MFU."""
    ema_decay: float = 0.0
    """Share of the averaged weights that a step keeps; 0: no average."""
    max_bad_steps: int = 10
    """Steps in a row that may be skipped because loss or gradient is not finite."""
    spike_factor: float = 0.0
    """A loss this many deviations above the recent median is a spike; 0: none is; 10 is a good start."""
    spike_window: int = 100
    """Steps that count as recent."""
    max_spikes: int = 5
    """Spikes among the recent steps after which training stops."""
    engine: EngineConfig = EngineConfig()
    optim: OptimConfig = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()

    def __post_init__(self) -> None:
        check_range(self, "steps", "global_batch", "micro_batch", "eval_samples", low=1)
        check_range(self, "log_every", "checkpoint_every", "keep_checkpoints", "max_bad_steps", low=1)
        check_range(self, "window_blocks", "eval_every", "sample_every", "spike_factor", "max_spikes", low=0)
        check_range(self, "peak_tflops", low=0)
        check_range(self, "seed", low=0, below=2**63)  # torch takes no larger one
        check_range(self, "ema_decay", low=0, below=1)
        check_range(self, "spike_window", low=FEWEST)
