"""What one optimizer step of the real networks costs on one device: time, throughput, MFU, memory.

Needs torch and numpy, and nothing else: neither Ray nor DeepSpeed, no data, no files. The step is that of
`pipeline.train.engine.Engine`: loss, backward, norm, clipping, AdamW. Batches are noise and lie on the device already.
MFU is the share of a large matrix product's speed, measured in the same run, that the operations counted by
`pipeline.train.flops` reach; those that activation checkpointing repeats do not count. The most memory in use is that
of the measurement on a GPU, and of the whole process so far on a CPU.
"""

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pipeline.models.denoiser import NUM_TIMESTEPS, Denoiser, DenoiserConfig, denoiser_loss
from pipeline.models.gpt import GPT, SIZES, GPTConfig, gpt_loss
from pipeline.train import engine as engines
from pipeline.train import flops
from pipeline.train.clock import matmul_flops, memory_gb
from pipeline.train.engine import EngineConfig, LossFn, OptimConfig

DECODERS: dict[str, tuple[DenoiserConfig, int]] = {
    "decoder_tiny": (DenoiserConfig(levels=(8, 5, 5, 5)), 32),
    "decoder": (
        DenoiserConfig(levels=(8, 8, 8, 6, 5), channels=3, width=128, multipliers=(1, 2, 4, 4), blocks=2, groups=32),
        256,
    ),
}
"""Configs and image sizes; the transformers are those of `gpt.SIZES`."""
MODELS = (*SIZES, *DECODERS)
VARIANTS: dict[str, dict[str, bool]] = {
    "plain": {},
    "compile": {"compile": True},
    "checkpointing": {"activation_checkpointing": True},
    "compile+checkpointing": {"compile": True, "activation_checkpointing": True},
}
"""Options of the engine to compare."""
_TOKENS = 16_384  # in a micro-batch, unless told otherwise
_CODE_PIXELS = 8


@dataclass(frozen=True, kw_only=True)
class TrainStep:
    """What to measure, and how long."""

    device: Literal["cpu", "cuda"] = "cpu"
    models: tuple[str, ...] = ("tiny", "decoder_tiny")
    """Names of `MODELS`."""
    variants: tuple[str, ...] = ("plain",)
    """Names of `VARIANTS`."""
    batch: int | None = None
    """Samples in a step; 16,384 tokens or 16 images by default."""
    seq_len: int | None = None
    """Tokens in a row; the size's own by default."""
    vocab_size: int = 52_864
    precision: Literal["fp32", "bf16"] = "bf16"
    warmup: int = 5
    """Steps before the first that counts."""
    steps: int = 5
    """Steps in a round."""
    rounds: int = 5
    peak_tflops: float | None = None
    """A data sheet's figure, for a second MFU."""

    def __post_init__(self) -> None:
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
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError("torch sees no GPU; use --device cpu")


def measure(config: TrainStep) -> Iterator[dict[str, Any]]:
    """One dict for the matrix product, then one for each model and variant; what does not fit memory says so."""
    peak = matmul_flops(
        torch.device(config.device), torch.bfloat16 if config.precision == "bf16" else torch.float32, rounds=10
    )
    yield {"matmul_tflops": round(peak / 1e12, 3), "precision": config.precision}
    for name in config.models:
        for variant in config.variants:
            found = {"model": name, "variant": variant}
            torch._dynamo.reset()  # else sizes that differ from those of the model before are compiled as unknown ones
            try:
                found |= _step(config, name, variant, peak)
            except torch.OutOfMemoryError:
                found["error"] = "out of memory; lower --batch"
            except torch._dynamo.exc.TorchDynamoException as error:
                found["error"] = f"cannot be compiled here: {str(error).splitlines()[0]}"
            gc.collect()
            if config.device == "cuda":
                torch.cuda.empty_cache()
            yield found


def _timed(device: str, work: Callable[[], Any], *, warmup: int, steps: int, rounds: int) -> list[float]:
    """Seconds of one call, the mean of each round."""

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    for _ in range(warmup):
        work()
    out = []
    for _ in range(rounds):
        wait()
        start = time.perf_counter()
        for _ in range(steps):
            work()
        wait()
        out.append((time.perf_counter() - start) / steps)
    return out


def _network(config: TrainStep, name: str) -> tuple[nn.Module, LossFn, dict[str, Tensor]]:
    """Network, loss and a batch of noise."""
    torch.manual_seed(0)
    if name in DECODERS:
        shape, size = DECODERS[name]
        rows = config.batch or 16
        x, recon, noise = (torch.randn(rows, shape.channels, size, size) for _ in range(3))
        codes = torch.randint(0, 1000, (rows, size // _CODE_PIXELS, size // _CODE_PIXELS))
        return (
            Denoiser(shape),
            denoiser_loss,
            {
                "x": x,
                "recon": recon,
                "noise": noise,
                "codes": codes,
                "corruption": torch.zeros(rows),
                "t": torch.randint(0, NUM_TIMESTEPS, (rows,)),
            },
        )
    sizes = SIZES[name] | ({"seq_len": config.seq_len} if config.seq_len else {})
    rows = config.batch or max(1, _TOKENS // sizes["seq_len"])
    tokens = torch.randint(0, config.vocab_size, (rows, sizes["seq_len"] + 1))
    return (
        GPT(GPTConfig(vocab_size=config.vocab_size, **sizes)),
        gpt_loss,
        {"tokens": tokens[:, :-1], "targets": tokens[:, 1:], "weights": torch.ones(rows, sizes["seq_len"])},
    )


def _step(config: TrainStep, name: str, variant: str, peak: float) -> dict[str, Any]:
    device = torch.device(config.device)
    if config.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    model, loss_fn, batch = _network(config, name)
    settings = EngineConfig(backend="torch", precision=config.precision, **VARIANTS[variant])
    engine = engines.build(model, loss_fn, settings, OptimConfig(), device)
    batch = {key: tensor.to(device) for key, tensor in batch.items()}

    def step() -> None:
        sums = engine.backward(batch, last=True)
        engine.step(3e-4, sums.weight)
        engine.forward_time.read()

    times = _timed(config.device, step, warmup=config.warmup, steps=config.steps, rounds=config.rounds)
    seconds, work = median(times), flops.of_batch(model, batch)
    units = batch["tokens"].numel() if "tokens" in batch else len(batch["x"])
    out = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "batch": list(next(iter(batch.values())).shape),
        "ms_per_step": round(1e3 * seconds, 2),
        "ms_min": round(1e3 * min(times), 2),
        "ms_max": round(1e3 * max(times), 2),
        "tokens_per_s" if "tokens" in batch else "images_per_s": round(units / seconds, 1),
        "tflops": round(work / seconds / 1e12, 3),
        "mfu": round(work / seconds / peak, 3),
        "peak_memory_gb": round(memory_gb(device)["peak_memory_gb"], 3),
    }
    if config.peak_tflops:
        out["mfu_of_peak"] = round(work / seconds / 1e12 / config.peak_tflops, 3)
    return out
