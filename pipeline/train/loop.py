"""The training loop of all three networks: resume, step, log, checkpoint, export. The loss is its argument.

Guarantees: run again, it goes on from the newest whole checkpoint, with the very samples and random numbers that an
uninterrupted run would have seen, on any number of ranks; on the same number, on CPU, the weights are the same bit for
bit. Every rank calls the host equally often. It knows nothing of Ray, and DeepSpeed only through `engine`.
"""
import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pipeline.storage import Store
from pipeline.train import engine as engines
from pipeline.train import export, ranks, state
from pipeline.train.batches import Batches, Collate, Rows, check_split
from pipeline.train.checkpoint import Checkpoints
from pipeline.train.ema import Ema, masters
from pipeline.train.engine import EngineConfig, LossFn, OptimConfig
from pipeline.train.metrics import Metrics
from pipeline.train.order import Order
from pipeline.train.schedule import ScheduleConfig, factor

Evaluate = Callable[[nn.Module], dict[str, float]]
"""The model in evaluation mode, with averaged weights if there are any -> numbers to log. Called on every rank."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a network is trained."""

    steps: int = 1000
    global_batch: int = 64
    """Samples in one step, over all workers."""
    micro_batch: int | None = None
    """Samples that a worker holds in memory at once; None: its whole share."""
    seed: int = 0
    window_blocks: int = 0
    """Row groups that are shuffled together; 0: all, for data that is small or on a fast disk."""
    log_every: int = 10
    eval_every: int = 0
    """Steps between evaluations; 0: only at the end."""
    checkpoint_every: int = 200
    keep_checkpoints: int = 2
    ema_decay: float = 0.0
    """Decay of the averaged weights; 0: none."""
    max_bad_steps: int = 10
    """Steps in a row that may be skipped because loss or gradient is not finite."""
    engine: EngineConfig = EngineConfig()
    optim: OptimConfig = OptimConfig()
    schedule: ScheduleConfig = ScheduleConfig()

    def __post_init__(self) -> None:
        for name in ("steps", "global_batch", "log_every", "checkpoint_every", "keep_checkpoints", "max_bad_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} is {getattr(self, name)}; use 1 or more")


class Host:
    """Who wants to know how a run goes; this one does not. Called on every rank."""

    def resumed(self, step: int) -> None:
        """Before the first step; `step` steps were done by an earlier run."""

    def progress(self, step: int, loss: float) -> None:
        """After each step."""

    def checkpointed(self, step: int, path: str) -> None:
        """After each checkpoint that was committed."""


def finished(config: TrainConfig, store: Store) -> bool:
    """Whether the weights of the last step were exported already: nothing is left to do."""
    return export.exported_step(store.sub("model")) == config.steps


def train(config: TrainConfig, *, model: nn.Module, loss_fn: LossFn, rows: Rows, collate: Collate, store: Store,
          kind: str, model_config: dict[str, Any], facts: dict[str, Any] | None = None,
          device: torch.device | None = None, host: Host | None = None, evaluate: Evaluate | None = None) -> None:
    """Train `model`, with all ranks of the process group, and export it under `store`/model.

    `store` receives checkpoints/, metrics.jsonl, tensorboard/ and model/. Raises ValueError for a config that does not
    fit the data, the workers or the checkpoints there; FloatingPointError when training diverged.
    """
    device, host = device or torch.device("cpu"), host or Host()
    check_split(config.global_batch, config.micro_batch, len(rows))
    about = {"kind": kind, "model": model_config, "facts": facts or {}}
    order = Order(block_rows=rows.block_rows, seed=config.seed, window_blocks=config.window_blocks, dataset=rows.digest)
    share = config.global_batch // ranks.world_size()
    engine = engines.build(model, loss_fn, config.engine, config.optim, device, share // (config.micro_batch or share))
    ema = Ema(engine.owned(), config.ema_decay) if config.ema_decay else None
    if evaluate and ema and not engine.swappable:
        raise ValueError("averaged weights cannot be evaluated under train.engine.zero_stage 3; use stage 0, 1 or 2")
    checkpoints = Checkpoints(store.sub("checkpoints"), device, keep=config.keep_checkpoints)
    chain = state.restore(checkpoints, engine, ema, order, config.global_batch)
    if chain.step > config.steps:
        raise ValueError(f"{store.url} was trained for {chain.step} steps already, and train.steps is {config.steps}; "
                         "use a larger number, or a new run_dir")
    host.resumed(chain.step)
    metrics = Metrics(store, chain.step) if ranks.rank() == 0 else None
    clock, bad_steps, seen = _Clock(), 0, 0.0  # seen: sums since the last log line

    with Batches(rows, collate, order, global_batch=config.global_batch, micro_batch=config.micro_batch,
                 first=chain.step, last=config.steps, pin_memory=device.type == "cuda") as batches:
        model.train()
        for batch in batches:
            clock.lap("data")
            sums = 0.0
            for i, micro in enumerate(batch.micro):
                torch.manual_seed(_seed(config.seed, batch.step, i))
                on_device = {name: t.to(device, non_blocking=True) for name, t in micro.items()}
                sums = sums + engine.backward(on_device, last=i == len(batch.micro) - 1)
            sums = ranks.total(sums)
            loss_sum, weight = sums[:2].tolist()
            clock.lap("forward_backward")
            if weight == 0:
                raise ValueError(f"step {batch.step} has no weight: none of its samples has anything to learn; "
                                 f"look at {_some(batch.ids)}")
            lr = config.optim.lr * factor(config.schedule, batch.step, config.steps)
            grad_norm = engine.step(lr, weight)
            loss = loss_sum / weight
            bad_steps = 0 if math.isfinite(loss) and math.isfinite(grad_norm) else bad_steps + 1
            if bad_steps >= config.max_bad_steps:
                raise FloatingPointError(
                    f"loss or gradient was not finite for {bad_steps} steps in a row, up to step {batch.step} "
                    f"({_some(batch.ids)}); lower --train.optim.lr, or look at these samples")
            if ema and not bad_steps:
                ema.update(engine.updates)
            clock.lap("optimizer")

            chain = chain.next(batch.ids)
            seen = seen + sums
            host.progress(chain.step, loss)
            last = chain.step == config.steps
            if chain.step % config.log_every == 0 or last:
                if metrics:
                    _, weight, *more = seen.tolist()
                    named = {name: value / weight for name, value in zip(engine.sum_names, more, strict=True)}
                    metrics.write(chain.step, loss=seen[0].item() / weight, lr=lr, grad_norm=grad_norm,
                                  skipped=chain.step - engine.updates, **named, **clock.split(config.global_batch))
                seen = 0.0
            if evaluate and (last or (config.eval_every and chain.step % config.eval_every == 0)):
                with engine.swapped(ema.pieces() if ema else None) as averaged:
                    found = evaluate(averaged)
                if metrics:
                    metrics.write(chain.step, **{f"eval/{name}": value for name, value in found.items()})
                clock.lap("evaluate")
            if chain.step % config.checkpoint_every == 0 or last:
                _checkpointed(checkpoints, host, metrics)
                state.save(checkpoints, engine, ema, chain, about)
                clock.lap("checkpoint")
    _checkpointed(checkpoints, host, metrics)
    export.export(engine, ema.pieces() if ema else masters(engine.owned()), store.sub("model"), step=config.steps,
                  about=about)
    if metrics:
        metrics.close()


def _checkpointed(checkpoints: Checkpoints, host: Host, metrics: Metrics | None) -> None:
    """Wait for the save in progress, if any, and tell the host: only what is committed is reported."""
    name = checkpoints.wait()
    if metrics:
        metrics.flush()
    if name:
        host.checkpointed(int(name.split("-")[0]), name)


def _seed(seed: int, step: int, micro: int) -> int:
    """Seed of torch's own generator (dropout, Gumbel noise) for one micro-batch of one rank."""
    words = hashlib.blake2b(f"{seed} {step} {ranks.rank()} {micro}".encode(), digest_size=8).digest()
    return int.from_bytes(words, "little") >> 1


def _some(ids: Any) -> str:
    return f"sample ids {', '.join(map(str, ids[:8].tolist()))}{', …' if len(ids) > 8 else ''}"


class _Clock:
    """Wall time of each part of a step; a GPU is waited for once a step, when its sums are read."""

    def __init__(self) -> None:
        self._laps: dict[str, float] = {}
        self._steps = 0
        self._start = self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """The time since the last lap went into `name`."""
        now = time.perf_counter()
        self._laps[name] = self._laps.get(name, 0.0) + now - self._last
        self._last = now
        self._steps += name == "optimizer"

    def split(self, global_batch: int) -> dict[str, float]:
        """Means per step since the last call, in seconds, and samples per second."""
        steps, elapsed = max(1, self._steps), time.perf_counter() - self._start
        out = {f"{name}_s": total / steps for name, total in self._laps.items()}
        self._laps, self._steps, self._start = {}, 0, time.perf_counter()
        return {"step_s": elapsed / steps, "samples_per_s": global_batch * steps / elapsed, **out}
