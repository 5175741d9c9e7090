"""The training loop of all three networks: resume, step, log, checkpoint, export. The loss is its argument.

Guarantees: run again, it goes on from the newest whole checkpoint, with the very samples and random numbers that an
uninterrupted run would have seen, on any number of ranks; on the same number, on CPU, the weights are the same bit for
bit. Every rank calls the host equally often. It knows nothing of Ray, and DeepSpeed only through `engine`.
"""

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from pipeline.config import to_json
from pipeline.exported import NetworkSpec
from pipeline.log import logger
from pipeline.models.networks import LossFn, Tensors, flops
from pipeline.storage import Store
from pipeline.train import engine as engines
from pipeline.train import export, ranks, state, trackers
from pipeline.train.checkpoint import Checkpoints
from pipeline.train.clock import Clock, matmul_flops, memory_gb
from pipeline.train.config import TrainConfig
from pipeline.train.data.batches import Batches, Collate, Dataset, check_same, check_split, num_micro
from pipeline.train.data.order import Stream
from pipeline.train.divergence import Divergence, Health, first_ids
from pipeline.train.ema import Ema
from pipeline.train.engine import Engine
from pipeline.train.loss import Sums, added
from pipeline.train.metrics import Metrics, Recorder
from pipeline.train.saved import Saved
from pipeline.train.schedule import factor
from pipeline.train.slices import masters

Evaluate = Callable[[nn.Module], dict[str, float]]
"""The model in evaluation mode, with averaged weights if there are any -> numbers to log. Called on every rank."""

Sample = Callable[[nn.Module], dict[str, np.ndarray]]
"""As `Evaluate`, but to pictures (H, W, C) uint8."""


class Supervisor:
    """Who wants to know how a run goes, and may ask it to save; this one does not. Called on every rank."""

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


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training run: what is trained and how, where it is kept, and who is told."""

    config: TrainConfig
    network: NetworkSpec
    store: Store
    """Receives checkpoints/, metrics.jsonl, bad_steps.jsonl, tensorboard/, samples/ and model/."""
    device: torch.device = torch.device("cpu")
    supervisor: Supervisor = Supervisor()
    accepted: Callable[[], None] | None = None
    """Called on rank 0 when nothing speaks against the run any more, before anything in `store` changes."""


def finished(config: TrainConfig, store: Store) -> bool:
    """Whether the weights of the last step were exported already: nothing is left to do."""
    return export.exported_after(store.sub("model")) == config.steps


def train(
    run: Run,
    *,
    model: nn.Module,
    loss_fn: LossFn,
    rows: Dataset,
    collate: Collate,
    evaluate: Evaluate | None = None,
    sample: Sample | None = None,
) -> None:
    """Train `model`, with all ranks of the process group, and export it under `run.store`/model.

    Raises ValueError for a config that does not fit the data, the workers or the checkpoints there; FloatingPointError
    when training diverged.
    """
    config, device, supervisor = run.config, run.device, run.supervisor

    # ---- refuse: before anything is built, what the config, the data and the ranks do not agree about ----
    _check_wishes(config, evaluate, sample)
    check_split(config.global_batch, config.micro_batch, len(rows))
    order = rows.order(config.seed, config.window_blocks)
    check_same(order, device)

    # ---- model, optimizer and average: the same on every rank, or shared out among them ----
    micros = num_micro(config.global_batch, config.micro_batch)
    engine = engines.build(model, loss_fn, config.engine, config.optim, device, micros)
    ema = Ema(engine.owned(), config.ema_decay) if config.ema_decay else None
    if ema and not engine.swappable and (evaluate or config.sample_every):
        raise ValueError("averaged weights cannot be evaluated under --train.engine.zero-stage 3; use stage 0, 1 or 2")

    # ---- resume: all that an uninterrupted run would know by now comes from the newest checkpoint that is whole ----
    checkpoints = _checkpoints(run)
    start = state.restore(checkpoints, engine, ema, order, config.global_batch, run.network)
    _check_steps(run, start)
    supervisor.resumed(start.chain.step)
    recorder = _recorder(run, start)  # from here on the run folder changes
    chain = start.chain  # a hash of all ids seen, which a later resume compares with the data
    latest = dict(start.metrics)  # the last value of each metric, of which `keep_best` is one
    divergence = _divergence(config, start.health)
    clock = Clock()
    peak_flops = _peak_flops(config, device)
    logged: Sums | None = None  # since the last line of metrics
    owed = False  # a checkpoint that was due at a step that went wrong

    with contextlib.closing(recorder), _batches(run, rows, collate, order, chain.step) as batches:
        model.train()  # an evaluation puts it back
        for batch in batches:
            step = batch.step + 1  # steps done, once this one is
            last = step == config.steps
            clock.lap("data")

            # ---- gradient: micro-batch by micro-batch, as memory holds the activations of one ----
            micro_sums: list[Sums] = []
            work = 0.0
            for i, micro in enumerate(batch.micro):
                torch.manual_seed(_seed(config.seed, batch.step, i))  # by step, not by history: a resume draws alike
                micro_sums.append(engine.backward(_moved(micro, device), last=i == len(batch.micro) - 1))
                work += flops(model, micro) or 0.0
            # The one moment at which a GPU is waited for. Every rank learns here whether one of them must save now.
            sums, asked = added(micro_sums).over_ranks(supervisor.should_checkpoint())
            clock.lap("backward")
            # A GPU runs behind: its own events say how much of the wait was its forward pass.
            clock.shift(engine.forward_time.read(), of="backward", to="forward")

            # ---- update: by the gradient of the mean over the whole global batch, however it was cut ----
            _check_weight(sums, step, batch.ids)
            lr = config.optim.lr * factor(config.schedule, batch.step, config.steps)
            grad_norm = engine.step(lr, sums.weight)
            chain = chain.next(batch.ids)

            # ---- judge: a step that is not finite has changed nothing; all ranks judge by the same numbers ----
            fault = divergence.judge(step, sums.loss, grad_norm)
            if fault:
                recorder.bad_step(step, fault, sums.loss, grad_norm, batch.ids)
                _report_commit(checkpoints, supervisor)  # what was sound stands, should the next line end the run
            divergence.stop_at_limit(step, batch.ids, last=last)
            finite = fault != "not_finite"  # a spike was clipped and counts; what is not finite would spoil every mean
            if finite:
                logged = sums if logged is None else logged + sums
                if ema:
                    ema.update(engine.updates)
            clock.lap("optimizer")
            clock.step(samples=config.global_batch, flops=work, tokens=sums.tokens)
            supervisor.progress(step, sums.loss)

            # ---- log: means since the line before, and where the time went ----
            if step % config.log_every == 0 or last:
                values = _means_and_rates(logged, clock.split(), peak_flops)
                values |= {"lr": lr, "grad_norm": grad_norm, "skipped": step - engine.updates}
                values |= {"spikes": divergence.spikes} | memory_gb(device)
                latest |= values
                supervisor.measured(step, values)
                recorder.write(step, **values)
                logged = None

            # ---- evaluate and sample: the averaged weights, which are those that will be exported ----
            if evaluate and _due(step, config.eval_every, last):
                with engine.swapped(ema.pieces() if ema else None) as averaged:
                    scores = {f"eval/{name}": value for name, value in evaluate(averaged).items()}
                latest |= scores
                recorder.write(step, **scores)
                clock.lap("evaluate")
            if sample and config.sample_every and _due(step, config.sample_every, last):
                with engine.swapped(ema.pieces() if ema else None) as averaged:
                    for name, pixels in sample(averaged).items():
                        recorder.picture(step, name, pixels)
                clock.lap("evaluate")

            # ---- save: beside the next steps; what diverged must not push out what is sound ----
            owed = owed or step % config.checkpoint_every == 0
            if (owed and finite) or last or asked:
                owed = False
                _report_commit(checkpoints, supervisor)
                # With all that a resume needs to judge, compare and go on as if it had never stopped.
                worth = _worth(config.keep_best, latest, step)
                state.save(checkpoints, engine, ema, chain, run.network, worth, divergence.state(), recorder.flush)
                if asked:  # the machine may be gone in a moment: commit before the next step
                    _report_commit(checkpoints, supervisor)
                clock.lap("checkpoint")
        _report_commit(checkpoints, supervisor)

    # ---- export: the weights alone, for whoever uses the network ----
    _export(run, engine, ema, checkpoints.best())


def _export(run: Run, engine: Engine, ema: Ema | None, best: Saved | None) -> None:
    """Export the weights of the best checkpoint, where one was to be kept, or else those of now; a collective."""
    store, steps = run.store.sub("model"), run.config.steps
    if best is None:
        weights = ema.pieces() if ema else masters(engine.owned())
        export.export(engine, weights, store, step=steps, network=run.network)
        return
    if ranks.rank() == 0:
        logger.info("train: model/ holds the weights of step %d, the best of %d", best.manifest.step, steps)
        export.from_checkpoint(best, store, averaged=ema is not None, run_steps=steps)
    ranks.barrier(run.device)


def _due(step: int, every: int, last: bool) -> bool:
    # The last step always: what a run ends with is what it is judged by.
    return last or (every > 0 and step % every == 0)


def _check_wishes(config: TrainConfig, evaluate: Evaluate | None, sample: Sample | None) -> None:
    """ValueError for what is asked for and cannot be had."""
    trackers.check(config.trackers)
    # An option that would be ignored in silence is a mistake that shows after days.
    if evaluate is None and (config.eval_every or config.keep_best.startswith("eval/")):
        wish = f"eval-every is {config.eval_every}" if config.eval_every else f"keep-best is {config.keep_best}"
        raise ValueError(
            f"--train.{wish}, and there is nothing to evaluate on; name data with --held-out, or leave it out"
        )
    if sample is None and config.sample_every:
        raise ValueError(
            f"--train.sample-every is {config.sample_every}, and this network draws nothing by itself; leave it out "
            "(jobs.generate draws from a finished run)"
        )


def _check_steps(run: Run, start: state.Start) -> None:
    if start.chain.step > run.config.steps:
        raise ValueError(
            f"{run.store.url} was trained for {start.chain.step} steps already, and --train.steps is "
            f"{run.config.steps}; use a larger number, or a new run_dir"
        )


def _checkpoints(run: Run) -> Checkpoints:
    config = run.config
    # Newest for a resume, best for whoever uses the network: a run may have overfitted since.
    best = (config.keep_best, config.keep_best_mode) if config.keep_best else None
    return Checkpoints(run.store.sub("checkpoints"), run.device, keep=config.keep_checkpoints, best=best)


def _divergence(config: TrainConfig, health: Health) -> Divergence:
    return Divergence(
        max_bad_steps=config.max_bad_steps,
        spike_factor=config.spike_factor,
        window=config.spike_window,
        max_spikes=config.max_spikes,
        health=health,
    )


def _batches(run: Run, rows: Dataset, collate: Collate, order: Stream, first: int) -> Batches:
    return Batches(
        rows,
        collate,
        order,
        global_batch=run.config.global_batch,
        micro_batch=run.config.micro_batch,
        first=first,
        last=run.config.steps,
        pin_memory=run.device.type == "cuda",  # so that a copy to the GPU need not be waited for
    )


def _moved(batch: Tensors, device: torch.device) -> Tensors:
    return {name: tensor.to(device, non_blocking=True) for name, tensor in batch.items()}


def _check_weight(sums: Sums, step: int, ids: np.ndarray) -> None:
    if sums.weight == 0:  # a mean of nothing: better to stop than to step by 0 / 0
        raise ValueError(
            f"step {step} has no weight: none of its samples has anything to learn; look at {first_ids(ids)}"
        )


def _recorder(run: Run, start: state.Start) -> Recorder:
    """What takes the metrics of this rank: rank 0 writes them, and says what a resume has read."""
    if ranks.rank() != 0:  # one writer for one file
        return Recorder()
    step = start.chain.step
    # A tracker that cannot start is an error of the user: before `accepted`, after which the run counts as begun.
    tracked = trackers.start(run.config.trackers, run.store, {"train": to_json(run.config), **to_json(run.network)})
    if run.accepted:
        run.accepted()
    metrics = Metrics(run.store, step, tracked)
    if step:
        metrics.write(step, resume_read_mb=start.read_bytes / 1e6, resume_total_mb=start.total_bytes / 1e6)
    return metrics


def _report_commit(checkpoints: Checkpoints, supervisor: Supervisor) -> None:
    """Wait for the save in progress, if any, and tell the supervisor: only what is committed is reported."""
    # A collective, as are the calls of the supervisor: every rank comes here equally often, whoever asked for the save.
    if name := checkpoints.wait():
        supervisor.checkpointed(int(name.split("-")[0]), name)


def _seed(seed: int, step: int, micro: int) -> int:
    """Seed of torch's own generator (dropout, Gumbel noise) for one micro-batch of one rank."""
    # Another one for each rank and micro-batch, as two of them must not drop the same units of different samples.
    digest = hashlib.blake2b(f"{seed} {step} {ranks.rank()} {micro}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1  # torch takes 63 bits


def _worth(metric: str, latest: dict[str, float], step: int) -> dict[str, float]:
    """The metric that checkpoints are kept by, as it was measured last."""
    if metric and metric not in latest:  # a warning at each save, as its checkpoint can never be the best
        logger.warning(
            "warning: --train.keep-best is %s, and no such metric was measured by step %d; there are %s",
            metric,
            step,
            ", ".join(sorted(latest)) or "none yet",
        )
    return {metric: latest[metric]} if metric in latest else {}


def _means_and_rates(sums: Sums | None, times: dict[str, float], peak_flops: float) -> dict[str, float]:
    """One line of metrics: means (none if no step since the line before was sound), then times and rates."""
    # Operations are those of a whole rank, so MFU is of its device, and needs no sum over ranks.
    rates = dict(times)
    work = rates.pop("flops_per_s", 0.0)
    if work:
        rates["tflops_per_s"] = work / 1e12
    if work and peak_flops:
        rates["mfu"] = work / peak_flops
    return (sums.means() if sums else {}) | rates


def _peak_flops(config: TrainConfig, device: torch.device) -> float:
    """What MFU refers to; 0 if it is not wanted."""
    # Of the precision that the step computes in: bf16 products are several times as fast.
    if config.peak_tflops == 0:
        return matmul_flops(device, torch.bfloat16 if config.engine.precision == "bf16" else torch.float32)
    return 1e12 * (config.peak_tflops or 0.0)
