"""What one optimizer step of the real networks costs on one device: time, throughput, MFU, memory.

Needs torch and numpy, and nothing else: neither Ray nor DeepSpeed, no data, no files. The step is that of
`pipeline.train.engine.Engine`: loss, backward, norm, clipping, AdamW. Batches are noise and lie on the device already.
MFU is the share of a large matrix product's speed, measured in the same run, that the operations counted by
`networks.flops` reach; those that activation checkpointing repeats do not count. The most memory in use is that
of the measurement on a GPU, and of the whole process so far on a CPU.
"""

import gc
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor, nn

from pipeline.bench.config import DECODERS, VARIANTS, TrainStep
from pipeline.bench.report import Line, digits
from pipeline.models.config import NUM_TIMESTEPS, SIZES, GPTConfig
from pipeline.models.networks import NETWORKS, LossFn, flops
from pipeline.train import engine as engines
from pipeline.train.clock import matmul_flops, memory_gb
from pipeline.train.config import OptimConfig

_TOKENS, _IMAGES = 16_384, 16  # in a step, unless told otherwise
_LR = 3e-4  # any: the work of a step does not depend on it
_CODE_PIXELS = 8


def measure(config: TrainStep) -> Iterator[Line]:
    """A line for the matrix product, then one for each model and variant; what does not fit memory says so."""
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    peak_flops = matmul_flops(torch.device(config.device), dtype, rounds=10)
    yield {"matmul_tflops": digits(peak_flops / 1e12), "precision": config.precision}
    for name in config.models:
        for variant in config.variants:
            yield {"model": name, "variant": variant, **_measured(config, name, variant, peak_flops)}
            # Else the next model finds the memory of this one taken.
            gc.collect()
            if config.device == "cuda":
                torch.cuda.empty_cache()


def _measured(config: TrainStep, name: str, variant: str, peak_flops: float) -> Line:
    torch._dynamo.reset()  # else sizes that differ from those of the model before are compiled as unknown ones
    try:
        return _step(config, name, variant, peak_flops)
    except torch.OutOfMemoryError:
        return {"error": "out of memory; lower --batch"}
    except torch._dynamo.exc.TorchDynamoException as error:
        return {"error": f"cannot be compiled here: {str(error).splitlines()[0]}"}


def _timed(config: TrainStep, step: Callable[[], None]) -> list[float]:
    """Seconds of one step, the mean of each round."""

    def wait() -> None:
        if config.device == "cuda":
            torch.cuda.synchronize()

    for _ in range(config.warmup):
        step()
    times_s = []
    for _ in range(config.rounds):
        wait()
        start_s = time.perf_counter()
        for _ in range(config.steps):
            step()
        wait()
        times_s.append((time.perf_counter() - start_s) / config.steps)
    return times_s


def _network(config: TrainStep, name: str) -> tuple[nn.Module, LossFn, dict[str, Tensor]]:
    """Network, loss and a batch of noise."""
    torch.manual_seed(0)
    return _decoder(config, name) if name in DECODERS else _transformer(config, name)


def _decoder(config: TrainStep, name: str) -> tuple[nn.Module, LossFn, dict[str, Tensor]]:
    shape, size = DECODERS[name]
    rows = config.batch or _IMAGES
    x, recon, noise = (torch.randn(rows, shape.channels, size, size) for _ in range(3))  # (B, C, H, W)
    batch = {
        "x": x,
        "recon": recon,
        "noise": noise,
        "vectors": torch.rand(rows, shape.code_width, size // _CODE_PIXELS, size // _CODE_PIXELS),  # (B, K, h, w)
        "corruption": torch.zeros(rows),
        "t": torch.randint(0, NUM_TIMESTEPS, (rows,)),
    }
    network = NETWORKS["denoiser"]
    return network.build(shape), network.loss, batch


def _transformer(config: TrainStep, name: str) -> tuple[nn.Module, LossFn, dict[str, Tensor]]:
    shape = GPTConfig(vocab_size=config.vocab_size, **SIZES[name])
    shape = replace(shape, seq_len=config.seq_len or shape.seq_len)
    rows = config.batch or max(1, _TOKENS // shape.seq_len)
    tokens = torch.randint(0, config.vocab_size, (rows, shape.seq_len + 1))  # (B, T + 1): each but the first a target
    batch = {"tokens": tokens[:, :-1], "targets": tokens[:, 1:], "weights": torch.ones(rows, shape.seq_len)}
    network = NETWORKS["gpt"]
    return network.build(shape), network.loss, batch


def _step(config: TrainStep, name: str, variant: str, peak_flops: float) -> Line:
    device = torch.device(config.device)
    if config.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    model, loss_fn, batch = _network(config, name)
    settings = replace(VARIANTS[variant], precision=config.precision)
    engine = engines.build(model, loss_fn, settings, OptimConfig(), device)
    batch = {key: tensor.to(device) for key, tensor in batch.items()}

    def step() -> None:
        sums = engine.backward(batch, last=True)
        engine.step(_LR, sums.weight)
        # As the loop does; else its events pile up.
        engine.forward_time.read()

    times_s = _timed(config, step)
    flops_of_step = flops(model, batch)
    assert flops_of_step is not None, "each network here has a formula"
    flops_per_s = flops_of_step / median(times_s)
    line = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "batch": list(next(iter(batch.values())).shape),
        **_speed(batch, times_s),
        "tflops": digits(flops_per_s / 1e12),
        "mfu": digits(flops_per_s / peak_flops),
        "peak_memory_gb": round(memory_gb(device)["peak_memory_gb"], 3),
    }
    return line | ({"mfu_of_peak": digits(flops_per_s / 1e12 / config.peak_tflops)} if config.peak_tflops else {})


def _speed(batch: dict[str, Tensor], times_s: list[float]) -> Line:
    seconds = median(times_s)
    unit, units = ("tokens", batch["tokens"].numel()) if "tokens" in batch else ("images", len(batch["x"]))
    return {
        "ms_per_step": digits(1e3 * seconds),
        "ms_min": digits(1e3 * min(times_s)),
        "ms_max": digits(1e3 * max(times_s)),
        f"{unit}_per_s": digits(units / seconds),
    }
