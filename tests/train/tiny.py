"""A task that trains in seconds: predict 3x + 1 (mod 17) for each of five digits, on weighted positions."""

import contextlib
import dataclasses
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from pipeline import storage
from pipeline.exported import NetworkSpec
from pipeline.manifest import commit
from pipeline.storage import Store
from pipeline.train import engine as engines
from pipeline.train import loop, manifest, ranks, state
from pipeline.train.checkpoint import Checkpoints
from pipeline.train.config import EngineConfig, OptimConfig, TrainConfig
from pipeline.train.data.order import Chain, Draw, Order
from pipeline.train.data.rows import Rows
from pipeline.train.ema import Ema
from pipeline.train.loop import Run, Supervisor
from pipeline.train.loss import added
from pipeline.train.schedule import ScheduleConfig
from pipeline.train.slices import masters


class Net(nn.Module):
    """Sizes that do not divide by the number of ranks, a single number, an unused parameter, and buffers."""

    def __init__(self, width: int = 31, dropout: float = 0.0) -> None:
        super().__init__()
        self.embed = nn.Embedding(17, 13)
        self.inner = nn.Linear(13, width)
        self.outer = nn.Linear(width, 17)
        self.gain = nn.Parameter(torch.ones(1))
        self.unused = nn.Parameter(torch.ones(3))
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("table", torch.arange(4.0), persistent=False)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 5) digits -> (B, 5, 17)."""
        return self.gain * self.outer(self.dropout(torch.tanh(self.inner(self.embed(x)))))


SPEC = NetworkSpec(kind="tiny", model={"width": 31})
Batch = dict[str, torch.Tensor]


def loss_fn(model: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, Batch]:
    if model.training:
        model.count += 1
    logits = model.logits(batch["x"])
    each = nn.functional.cross_entropy(logits.transpose(1, 2).float(), batch["y"], reduction="none")
    hits = (logits.argmax(-1) == batch["y"]) * batch["w"]
    return (each * batch["w"]).sum(), batch["w"].sum(), {"accuracy": hits.sum()}


def batch_of(x: torch.Tensor, w: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"x": x, "y": (3 * x + 1) % 17, "w": w}


def collate(table: pa.Table, draw: Draw) -> dict[str, torch.Tensor]:
    x = torch.tensor(table["x"].to_pylist())
    return batch_of(x, torch.from_numpy((draw.uniform("mask", (5,)) < 0.7).astype(np.float32) + 0.01))


def dataset(folder: Path, rows: int = 101) -> Store:
    store = Store(str(folder))
    x = np.random.default_rng(0).integers(0, 17, (rows, 5))
    table = pa.table({"x": list(x), "id": np.arange(rows)})
    files = [
        storage.write_parquet(store, f"part-{i}.parquet", table.slice(i * 40, 40), row_group_rows=16)
        for i in range(-(-rows // 40))
    ]
    commit(store, "manifest.json", files)
    return store


def config(backend: str = "deepspeed", stage: int = 1, **changes: object) -> TrainConfig:
    base = {
        "steps": 12,
        "global_batch": 12,
        "log_every": 1,
        "checkpoint_every": 5,
        "keep_checkpoints": 9,
        "seed": 3,
        "ema_decay": 0.9,
        "schedule": ScheduleConfig(kind="cosine", warmup_steps=2),
    }
    return TrainConfig(
        **base | changes,
        engine=EngineConfig(backend=backend, zero_stage=stage, grad_clip=0.5),
        optim=OptimConfig(lr=1e-2),
    )


class KillAt(Supervisor):
    """Ends this process as a power cut would, after `step` steps."""

    def __init__(self, step: int) -> None:
        self._step = step

    def progress(self, step: int, loss: float) -> None:
        if step == self._step:
            time.sleep(0.5)  # a save that began some steps ago is through
            os.kill(os.getpid(), signal.SIGKILL)


class Record(Supervisor):
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.start, self.losses, self.checkpoints = 0, [], []

    def resumed(self, step: int) -> None:
        self.start = step

    def progress(self, step: int, loss: float) -> None:
        self.losses.append(loss)

    def checkpointed(self, step: int, path: str) -> None:
        self.checkpoints.append(step)


def train(
    settings: TrainConfig,
    data: str,
    run: str,
    kill_at: int = 0,
    dropout: float = 0.0,
    evaluate: loop.Evaluate | None = None,
    sample: loop.Sample | None = None,
    host: Supervisor | None = None,
    accepted: Callable[[], None] | None = None,
) -> Record:
    """One run, or the rest of one, on every rank."""
    host = KillAt(kill_at) if kill_at else host or Record()
    torch.manual_seed(ranks.rank())  # ranks that begin with other weights must be made equal
    loop.train(
        Run(
            config=settings,
            network=SPEC,
            store=Store(run),
            supervisor=host,
            accepted=accepted,
        ),
        model=Net(dropout=dropout),
        loss_fn=loss_fn,
        rows=Rows.committed(Store(data)),
        collate=collate,
        evaluate=evaluate,
        sample=sample,
    )
    return host


class Enough(Exception):  # noqa: N818
    pass


class StopAt(Record):
    """Leaves a run once the checkpoint of `step` is committed."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self._stop = step

    def checkpointed(self, step: int, path: str) -> None:
        if step == self._stop:
            raise Enough


def train_until(settings: TrainConfig, step: int, data: str, run: str, dropout: float = 0.0) -> Record:
    """Train up to `step` of `settings.steps`, as a run that was stopped there."""
    host = StopAt(0 if step == settings.steps else step)
    with contextlib.suppress(Enough):
        train(dataclasses.replace(settings, checkpoint_every=4), data, run, host=host, dropout=dropout)
    host.losses = host.losses[: step - host.start]
    return host


def engine_steps(backend: str, stage: int, micro: int, clip: float, steps: int = 20) -> dict[str, object]:
    """Losses, norms, accuracies and final parameters of `steps` steps of batches of 24, shared out over ranks."""
    from pipeline.train import engine as engines

    torch.manual_seed(ranks.rank())
    settings = EngineConfig(backend=backend, zero_stage=stage, grad_clip=clip)
    engine = engines.build(Net(), loss_fn, settings, OptimConfig(lr=1e-3, weight_decay=0.1), torch.device("cpu"), micro)
    generator = torch.Generator().manual_seed(1)
    losses, norms, accuracies = [], [], []
    share = 24 // ranks.world_size()
    for step in range(steps):
        batch = batch_of(
            torch.randint(0, 17, (24, 5), generator=generator),
            torch.rand(24, 5, generator=generator) * torch.linspace(0, 1, 24)[:, None],
        )  # unequal weights
        mine = {k: v[ranks.rank() * share : (ranks.rank() + 1) * share] for k, v in batch.items()}
        parts = [{k: v.chunk(micro)[i] for k, v in mine.items()} for i in range(micro)]
        sums, _ = added(engine.backward(part, last=part is parts[-1]) for part in parts).over_ranks()
        norms.append(engine.step(1e-3 * (1 - step / 40), sums.weight))
        losses.append(sums.loss)
        accuracies.append(sums.means()["accuracy"])
    weights = {name: full.clone() for name, full in engine.assembled(masters(engine.owned()))}
    return {
        "losses": losses,
        "norms": norms,
        "accuracies": accuracies,
        "weights": weights,
        "updates": engine.updates,
        "held": sum(s.master.numel() for s in engine.held()),
    }


def engine_cases(cases: list[tuple[str, int, int, float]]) -> list[dict[str, object]]:
    return [engine_steps(*case) for case in cases]


class Wide(Net):
    """Large enough for the pieces of a checkpoint to be small parts of it."""

    def __init__(self) -> None:
        super().__init__(width=701)


def _wide(backend: str, stage: int) -> tuple[engines.Engine, Ema, Order]:
    """What belongs to a new run, whose checkpoints consist of many small chunks."""
    manifest.CHUNK = 1 << 10
    settings = EngineConfig(backend=backend, zero_stage=stage)
    engine = engines.build(Wide(), loss_fn, settings, OptimConfig(), torch.device("cpu"))
    return engine, Ema(engine.owned(), 0.5), Order(group_rows=(30,), seed=0)


def _whole(engine: engines.Engine) -> dict[str, object]:
    pieces = {kind: {} for kind in ("master", "exp_avg", "exp_avg_sq")}
    for kind, found in pieces.items():
        for s in engine.owned():
            found.setdefault(s.name, []).append((s.start, getattr(s, kind)))
    zeros = sum(
        int(((v == 0) & v.signbit()).sum()) for s in engine.owned() for v in (s.master, s.exp_avg, s.exp_avg_sq)
    )
    return {
        "values": {
            f"{kind} {name}": full.clone() for kind, found in pieces.items() for name, full in engine.assembled(found)
        },
        "zeros": int(ranks.total(torch.tensor(zeros))),
    }


def saved_state(folder: str) -> dict[str, object]:
    """Save, from one process, a state in which each number is another and some are -0.0."""
    engine, ema, order = _wide("torch", 0)
    generator = torch.Generator().manual_seed(0)
    for s in engine.owned():
        for values in (s.master, s.exp_avg, s.exp_avg_sq):
            values.copy_(torch.rand(values.shape, generator=generator))
            values[::7] = -0.0
    checkpoints = Checkpoints(Store(folder), torch.device("cpu"), keep=1)
    state.save(checkpoints, engine, ema, Chain.start(order), SPEC)
    checkpoints.wait()
    return _whole(engine)


def restored_states(folder: str, cases: list[tuple[str, int]]) -> list[dict[str, object]]:
    """What this rank holds, and read, after restoring that state under each (backend, stage)."""
    out = []
    for backend, stage in cases:
        engine, ema, order = _wide(backend, stage)
        checkpoints = Checkpoints(Store(folder), torch.device("cpu"), keep=1)
        start = state.restore(checkpoints, engine, ema, order, 4, SPEC)
        out.append(_whole(engine) | {"read_bytes": start.read_bytes, "total_bytes": start.total_bytes})
    return out
