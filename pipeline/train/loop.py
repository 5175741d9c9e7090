"""The training loop of all three networks: resume, step, log, checkpoint, export. The loss is its argument.

Guarantees: run again, it goes on from the newest whole checkpoint, with the very samples and random numbers that an
uninterrupted run would have seen, on any number of ranks; on the same number, on CPU, the weights are the same bit for
bit. Every rank calls the host equally often. It knows nothing of Ray, and DeepSpeed only through `engine`.
"""

import contextlib
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.config import to_json
from pipeline.log import logger
from pipeline.models.networks import flops
from pipeline.storage import Store
from pipeline.train import engine as engines
from pipeline.train import export, ranks, state, trackers
from pipeline.train.checkpoint import Checkpoints
from pipeline.train.clock import Clock, matmul_flops, memory_gb
from pipeline.train.config import TrainConfig
from pipeline.train.data.batches import Batches, Collate, Dataset, check_same, check_split, num_micro
from pipeline.train.divergence import Divergence, some
from pipeline.train.ema import Ema, masters
from pipeline.train.engine import LossFn
from pipeline.train.metrics import Metrics, means
from pipeline.train.schedule import factor

Evaluate = Callable[[nn.Module], dict[str, float]]
"""The model in evaluation mode, with averaged weights if there are any -> numbers to log. Called on every rank."""

Sample = Callable[[nn.Module], dict[str, np.ndarray]]
"""As `Evaluate`, but to pictures (H, W, C) uint8."""


class Host:
    """Who wants to know how a run goes; this one does not. Called on every rank."""

    def resumed(self, step: int) -> None:
        """Before the first step; `step` steps were done by an earlier run."""

    def progress(self, step: int, loss: float) -> None:
        """After each step."""

    def measured(self, step: int, values: dict[str, float]) -> None:
        """Every `log_every` steps: what goes into metrics.jsonl (`loss`, `step_s`, `samples_per_s`, `grad_norm`, ...),
        with this rank's own times."""

    def checkpointed(self, step: int, path: str) -> None:
        """After each checkpoint that was committed."""

    def should_checkpoint(self) -> bool:
        """Before the end of each step: whether to checkpoint after it, out of turn; one rank that says so is enough."""
        return False


def finished(config: TrainConfig, store: Store) -> bool:
    """Whether the weights of the last step were exported already: nothing is left to do."""
    return export.exported_step(store.sub("model")) == config.steps


def train(
    config: TrainConfig,
    *,
    model: nn.Module,
    loss_fn: LossFn,
    rows: Dataset,
    collate: Collate,
    store: Store,
    kind: str,
    model_config: dict[str, Any],
    facts: dict[str, Any] | None = None,
    device: torch.device | None = None,
    host: Host | None = None,
    evaluate: Evaluate | None = None,
    sample: Sample | None = None,
    accepted: Callable[[], None] | None = None,
) -> None:
    """Train `model`, with all ranks of the process group, and export it under `store`/model.

    `accepted` is called on rank 0 when nothing speaks against the run any more, before anything in `store` changes.
    `store` receives checkpoints/, metrics.jsonl, bad_steps.jsonl, tensorboard/, samples/ and model/. Raises ValueError
    for a config that does not fit the data, the workers or the checkpoints there; FloatingPointError when training
    diverged.
    """
    device, host = device or torch.device("cpu"), host or Host()
    trackers.check(config.trackers)
    _check_wanted(config, evaluate, sample)
    check_split(config.global_batch, config.micro_batch, len(rows))
    about = {"kind": kind, "model": model_config, "facts": facts or {}}
    order = rows.order(config.seed, config.window_blocks)
    check_same(order, device)
    micros = num_micro(config.global_batch, config.micro_batch)
    engine = engines.build(model, loss_fn, config.engine, config.optim, device, micros)
    ema = Ema(engine.owned(), config.ema_decay) if config.ema_decay else None
    if (evaluate or (sample and config.sample_every)) and ema and not engine.swappable:
        raise ValueError("averaged weights cannot be evaluated under --train.engine.zero-stage 3; use stage 0, 1 or 2")
    checkpoints = Checkpoints(
        store.sub("checkpoints"),
        device,
        keep=config.keep_checkpoints,
        best=(config.keep_best, config.keep_best_mode) if config.keep_best else None,
    )
    start = state.restore(checkpoints, engine, ema, order, config.global_batch, about)
    chain, latest = start.chain, dict(start.metrics)  # latest: the last values of what was measured
    if chain.step > config.steps:
        raise ValueError(
            f"{store.url} was trained for {chain.step} steps already, and --train.steps is {config.steps}; "
            "use a larger number, or a new run_dir"
        )
    host.resumed(chain.step)
    metrics = None
    if ranks.rank() == 0:
        tracked = trackers.start(config.trackers, store, {"train": to_json(config), **about})
        if accepted:
            accepted()
        metrics = Metrics(store, chain.step, tracked)
        if chain.step:
            metrics.write(chain.step, resume_read_mb=start.read_bytes / 1e6, resume_total_mb=start.total_bytes / 1e6)
    health = Divergence(
        max_bad_steps=config.max_bad_steps,
        spike_factor=config.spike_factor,
        window=config.spike_window,
        max_spikes=config.max_spikes,
        state=start.health,
    )
    peak_flops = _peak_flops(config, device)
    clock, seen, owed = Clock(), 0.0, False  # seen: sums since the last log line; owed: a checkpoint

    ending = contextlib.closing(metrics) if metrics else contextlib.nullcontext()
    with (
        ending,
        Batches(
            rows,
            collate,
            order,
            global_batch=config.global_batch,
            micro_batch=config.micro_batch,
            first=chain.step,
            last=config.steps,
            pin_memory=device.type == "cuda",
        ) as batches,
    ):
        model.train()
        for batch in batches:
            clock.lap("data")
            sums, work = 0.0, 0.0
            for i, micro in enumerate(batch.micro):
                torch.manual_seed(_seed(config.seed, batch.step, i))
                on_device = {name: t.to(device, non_blocking=True) for name, t in micro.items()}
                sums = sums + engine.backward(on_device, last=i == len(batch.micro) - 1)
                work += flops(model, micro) or 0.0
            asked = sums.new_full(
                (1,), float(host.should_checkpoint())
            )  # travels with the sums: a question for all ranks
            sums = ranks.total(torch.cat([sums, asked]))
            loss_sum, weight, *more, asked = sums.tolist()  # the one moment at which a GPU is waited for
            sums = sums[:-1]
            tokens = dict(zip(engine.sum_names, more, strict=True)).get("tokens", 0.0)
            clock.lap("backward")
            clock.shift(engine.forward_time.read(), of="backward", to="forward")
            if weight == 0:
                raise ValueError(
                    f"step {batch.step + 1} has no weight: none of its samples has anything to learn; "
                    f"look at {some(batch.ids)}"
                )
            lr = config.optim.lr * factor(config.schedule, batch.step, config.steps)
            grad_norm = engine.step(lr, weight)
            loss = loss_sum / weight
            fault = health.judge(batch.step + 1, loss, grad_norm)
            if fault and metrics:
                metrics.bad_step(batch.step + 1, fault, loss, grad_norm, batch.ids)
            last = batch.step + 1 == config.steps
            health.stop_at_limit(batch.step + 1, batch.ids, last=last)
            if ema and fault != "not_finite":
                ema.update(engine.updates)
            clock.lap("optimizer")
            clock.step(samples=config.global_batch, flops=work, tokens=tokens)

            chain = chain.next(batch.ids)
            if fault != "not_finite":
                seen = seen + sums
            host.progress(chain.step, loss)
            if chain.step % config.log_every == 0 or last:
                values = _values(engine.sum_names, seen, clock.split(), peak_flops)
                values |= {
                    "lr": lr,
                    "grad_norm": grad_norm,
                    "skipped": chain.step - engine.updates,
                    "spikes": health.spikes,
                }
                values |= memory_gb(device)
                latest |= values
                host.measured(chain.step, values)
                if metrics:
                    metrics.write(chain.step, **values)
                seen = 0.0
            if evaluate and (last or (config.eval_every and chain.step % config.eval_every == 0)):
                with engine.swapped(ema.pieces() if ema else None) as averaged:
                    found = evaluate(averaged)
                found = {f"eval/{name}": value for name, value in found.items()}
                latest |= found
                if metrics:
                    metrics.write(chain.step, **found)
                clock.lap("evaluate")
            if sample and config.sample_every and (last or chain.step % config.sample_every == 0):
                with engine.swapped(ema.pieces() if ema else None) as averaged:
                    pictures = sample(averaged)
                for name, pixels in pictures.items() if metrics else ():
                    metrics.picture(chain.step, name, pixels)
                clock.lap("evaluate")
            owed = owed or chain.step % config.checkpoint_every == 0
            if (owed and fault != "not_finite") or last or asked:  # what diverged must not push out what is sound
                owed = False
                _checkpointed(checkpoints, host)
                state.save(
                    checkpoints,
                    engine,
                    ema,
                    chain,
                    about,
                    _worth(config.keep_best, latest, chain.step),
                    health.state(),
                    before=metrics.flush if metrics else None,
                )
                if asked:  # the machine may be gone in a moment: commit before the next step
                    _checkpointed(checkpoints, host)
                clock.lap("checkpoint")
        _checkpointed(checkpoints, host)
    export.export(
        engine, ema.pieces() if ema else masters(engine.owned()), store.sub("model"), step=config.steps, about=about
    )


def _check_wanted(config: TrainConfig, evaluate: Evaluate | None, sample: Sample | None) -> None:
    """ValueError for what is asked for and cannot be had."""
    if evaluate is None and (config.eval_every or config.keep_best.startswith("eval/")):
        wanted = f"eval-every is {config.eval_every}" if config.eval_every else f"keep-best is {config.keep_best}"
        raise ValueError(
            f"--train.{wanted}, and there is nothing to evaluate on; name data with --held-out, or leave it out"
        )
    if sample is None and config.sample_every:
        raise ValueError(
            f"--train.sample-every is {config.sample_every}, and this network draws nothing by itself; leave it out "
            "(jobs.generate draws from a finished run)"
        )


def _checkpointed(checkpoints: Checkpoints, host: Host) -> None:
    """Wait for the save in progress, if any, and tell the host: only what is committed is reported."""
    if name := checkpoints.wait():
        host.checkpointed(int(name.split("-")[0]), name)


def _seed(seed: int, step: int, micro: int) -> int:
    """Seed of torch's own generator (dropout, Gumbel noise) for one micro-batch of one rank."""
    words = hashlib.blake2b(f"{seed} {step} {ranks.rank()} {micro}".encode(), digest_size=8).digest()
    return int.from_bytes(words, "little") >> 1


def _worth(metric: str, latest: dict[str, float], step: int) -> dict[str, float]:
    """The metric that checkpoints are kept by, as it was measured last."""
    if metric and metric not in latest:
        logger.warning(
            "warning: --train.keep-best is %s, and no such metric was measured by step %d; there are %s",
            metric,
            step,
            ", ".join(sorted(latest)) or "none yet",
        )
    return {metric: latest[metric]} if metric in latest else {}


def _values(
    names: list[str], sums: torch.Tensor | float, times: dict[str, float], peak_flops: float
) -> dict[str, float]:
    """One line of metrics: means of the sums since the line before (0.0 if no step was sound), times and rates."""
    work = times.pop("flops_per_s", 0.0)
    if work:
        times["tflops_per_s"] = work / 1e12
    if work and peak_flops:
        times["mfu"] = work / peak_flops
    return (means(names, sums.tolist()) if isinstance(sums, torch.Tensor) else {}) | times


def _peak_flops(config: TrainConfig, device: torch.device) -> float:
    """What MFU refers to; 0 if it is not wanted."""
    if config.peak_tflops == 0:
        return matmul_flops(device, torch.bfloat16 if config.engine.precision == "bf16" else torch.float32)
    return 1e12 * (config.peak_tflops or 0.0)
