"""Say what a training run will need before it starts; refuse one that cannot fit; afterwards, how right that was.

python -m jobs.preflight jobs/configs/train_gpt_demo.toml --job train_gpt --gpu-memory-gb 80 --peak-tflops 989
python -m jobs.preflight runs/demo/gpt/config.json --job train_gpt --measure --compare runs/demo/gpt
"""

import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jobs import train_decoder, train_dvae, train_gpt
from jobs._main import run
from pipeline import config as configs
from pipeline.ranges import check_range

if TYPE_CHECKING:
    from pipeline.train.preflight import Measured, Plan, Workload

Job = train_dvae.TrainDVAE | train_gpt.TrainGPT | train_decoder.TrainDecoder

JOBS: dict[str, type[Job]] = {
    "train_dvae": train_dvae.TrainDVAE,
    "train_gpt": train_gpt.TrainGPT,
    "train_decoder": train_decoder.TrainDecoder,
}
"""Config of each job."""


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
    from pipeline.train import preflight, ranks

    job = configs.load(JOBS[config.job], [config.config])
    world = config.workers or job.cluster.num_workers
    on_cpu = not job.cluster.use_gpu
    load = _workload(job, config.vocab_size)
    # Without a limit every run fits, and its plan is printed.
    memory_bytes = 1e9 * (config.gpu_memory_gb or math.inf)
    plan = preflight.check_fits(load, job.train, world, memory_bytes, on_cpu=on_cpu)
    here = _peak(job) if config.measure or not config.peak_tflops else 0.0
    peak = 1e12 * config.peak_tflops if config.peak_tflops else here
    mfu = config.mfu
    if config.measure:
        # The time at full speed over the time that a step took here.
        mfu = plan.step_s(here, world) / preflight.measure(load, job.train, world, ranks.device(not on_cpu))
    step_s = plan.step_s(mfu * peak, world, 1e9 / 8 * (config.network_gbps or math.inf))
    lines = _memory_lines(plan)
    speed = f"{plan.flops_per_step / 1e12:.4g} TFLOP on {world} ranks of {peak / 1e12:.4g} TFLOP/s at {mfu:.0%}"
    lines["step"] = f"{step_s:.4g} s: {speed}" + (", as measured here" if config.measure else "")
    hours = job.train.steps * step_s / 3600
    price = hours * world * config.price_per_hour
    lines["run"] = f"{hours:.4g} h of {job.train.steps} steps, {price:.2f} in price"
    if config.compare:
        predicted = preflight.Measured(
            memory_gb=plan.total / 1e9, step_s=step_s, checkpoint_mb=plan.checkpoint_bytes / 1e6
        )
        lines |= _comparison(preflight.measured(config.compare), predicted)
    print("\n".join(f"{name:32} {text}" for name, text in lines.items()))


def _workload(job: Job, vocab_size: int | None) -> "Workload":
    if isinstance(job, train_dvae.TrainDVAE):
        return train_dvae.workload(job)
    if isinstance(job, train_decoder.TrainDecoder):
        return train_decoder.workload(job)
    return train_gpt.workload(job, vocab_size)


def _memory_lines(plan: "Plan") -> dict[str, str]:
    lines = {"parameters": f"{plan.parameters:,}"}
    for name, size_bytes in plan.memory.items():
        lines[f"memory of a rank, {name}"] = f"{size_bytes / 1e9:.3f} GB"
    lines["memory of a rank"] = f"{plan.total / 1e9:.3f} GB"
    lines["checkpoint"] = f"{plan.checkpoint_bytes / 1e6:.3f} MB"
    lines["sent by a rank"] = f"{plan.sent_bytes_per_step / 1e6:.4g} MB a step"
    return lines


def _comparison(run: "Measured", predicted: "Measured") -> dict[str, str]:
    """What a run noted beside what was predicted."""
    lines = {}
    for name, value in configs.to_json(run).items():
        guess = getattr(predicted, name)
        lines[f"measured {name}"] = f"{value:.4g}, predicted {guess:.4g}: {guess / value - 1:+.1%}"
    return lines


def _peak(job: Job) -> float:
    """FLOP/s of this machine, in the precision and with the threads of a rank."""
    import torch

    from pipeline.train import ranks
    from pipeline.train.clock import matmul_flops

    torch.set_num_threads(job.cluster.cpus_per_worker)
    dtype = torch.bfloat16 if job.train.engine.precision == "bf16" else torch.float32
    return matmul_flops(ranks.device(job.cluster.use_gpu), dtype)


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        # Else `load` takes the file for one of these options.
        sys.argv.insert(1, "--config")
    run(Preflight, main)
