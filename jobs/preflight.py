"""Say what a training run will need before it starts; refuse one that cannot fit; afterwards, how right that was.

python -m jobs.preflight jobs/configs/train_gpt_demo.toml --job train_gpt --gpu-memory-gb 80 --peak-tflops 989
python -m jobs.preflight runs/demo/gpt/config.json --job train_gpt --measure --compare runs/demo/gpt
"""

import math
import sys
from dataclasses import dataclass
from typing import Any, Literal

from jobs._main import run
from pipeline import config as configs
from pipeline.ranges import check_range


@dataclass(frozen=True, kw_only=True)
class Preflight:
    """Predict the memory, time, checkpoints and cost of a training run."""

    config: str
    """Config file of the job; may be given without its name, as the first word."""
    job: Literal["train_dvae", "train_gpt", "train_decoder"]
    """The job whose config it is."""
    workers: int | None = None
    """Ranks; cluster.num_workers of the config by default."""
    gpu_memory_gb: float | None = None
    """Memory of each rank's device, in 10^9 bytes; a run that does not fit is refused."""
    peak_tflops: float | None = None
    """10^12 operations per second of each rank's device; by default this machine's, measured by a matrix product."""
    mfu: float = 0.4
    """Share of the peak that training reaches."""
    measure: bool = False
    """Take a few steps of a rank here, to see what share that is; needs the rank's memory."""
    network_gbps: float | None = None
    """10^9 bits per second between ranks; without it, what they send each other is taken to need no time."""
    price_per_hour: float = 0.0
    """Price of an hour of each rank, in any currency."""
    vocab_size: int | None = None
    """Tokens of the transformer; those of the tokenized corpus by default."""
    compare: str | None = None
    """Folder of a run of this config: print what was measured beside what was predicted."""
    verbose: bool = False
    """Show the whole of an error."""

    def __post_init__(self) -> None:
        check_range(self, "workers", "vocab_size", low=1)
        check_range(self, "mfu", above=0, high=1)
        check_range(self, "peak_tflops", "gpu_memory_gb", "network_gbps", above=0)
        check_range(self, "price_per_hour", low=0)


def main(config: Preflight) -> None:
    """Print the plan, a line for each thing; ValueError for a run that does not fit."""
    # Imported here: torch takes seconds, and a mistake in an option is told before that.
    from jobs._networks import JOBS, network
    from pipeline.train import preflight, ranks

    job = configs.load(JOBS[config.job], [config.config])
    world, on_cpu = config.workers or job.cluster.num_workers, not job.cluster.use_gpu
    net = network(job, config.vocab_size)
    plan = preflight.check_fits(net, job.train, world, 1e9 * (config.gpu_memory_gb or math.inf), on_cpu=on_cpu)
    here = _peak(job) if config.measure or not config.peak_tflops else 0.0
    peak, mfu = 1e12 * config.peak_tflops if config.peak_tflops else here, config.mfu
    if config.measure:
        mfu = plan.step_s(here, world) / preflight.measure(net, job.train, world, ranks.device(not on_cpu))
    step_s = plan.step_s(mfu * peak, world, 1e9 / 8 * (config.network_gbps or math.inf))
    shown = {
        "parameters": f"{plan.parameters:,}",
        **{f"memory of a rank, {name}": f"{size / 1e9:.3f} GB" for name, size in plan.memory.items()},
    }
    shown |= {
        "memory of a rank": f"{plan.total / 1e9:.3f} GB",
        "checkpoint": f"{plan.checkpoint_bytes / 1e6:.3f} MB",
        "sent by a rank": f"{plan.sent_bytes_per_step / 1e6:.4g} MB a step",
        "step": f"{step_s:.4g} s: {plan.flops_per_step / 1e12:.4g} TFLOP on {world} ranks of {peak / 1e12:.4g} TFLOP/s "
        f"at {mfu:.0%}{', as measured here' * config.measure}",
        "run": f"{(hours := job.train.steps * step_s / 3600):.4g} h of {job.train.steps} steps, "
        f"{hours * world * config.price_per_hour:.2f} in price",
    }
    predicted = {"memory_gb": plan.total / 1e9, "step_s": step_s, "checkpoint_mb": plan.checkpoint_bytes / 1e6}
    for name, found in preflight.measured(config.compare).items() if config.compare else ():
        shown[f"measured {name}"] = f"{found:.4g}, predicted {predicted[name]:.4g}: {predicted[name] / found - 1:+.1%}"
    print("\n".join(f"{name:32} {text}" for name, text in shown.items()))


def _peak(job: Any) -> float:
    """FLOP/s of this machine, in the precision and with the threads of a rank."""
    import torch

    from pipeline.train import ranks
    from pipeline.train.clock import matmul_flops

    torch.set_num_threads(job.cluster.cpus_per_worker)
    dtype = torch.bfloat16 if job.train.engine.precision == "bf16" else torch.float32
    return matmul_flops(ranks.device(job.cluster.use_gpu), dtype)


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        sys.argv.insert(1, "--config")
    run(Preflight, main)
