"""Seconds from the death of a worker (SIGKILL) to the next step that is done: our launcher and loop beside stock Ray
Train.

Both train the same small network in plain torch on two workers, checkpoint every EVERY steps, and lose worker 1 after
step KILL; `redone` are the steps done twice. Stock Ray Train runs with its defaults, saves with `ray.train.report` and
resumes with `ray.train.get_checkpoint`, as its manual shows. In turn, in the same run. Ray must be running, here.
"""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
from torch import nn

from cluster import env
from pipeline.bench.config import Recovery
from pipeline.bench.listening import ListeningSupervisor
from pipeline.bench.report import Line, medians
from pipeline.exported import NetworkSpec
from pipeline.manifest import commit
from pipeline.storage import Store, write_parquet
from pipeline.train import loop, ranks
from pipeline.train.config import EngineConfig, TrainConfig
from pipeline.train.data.order import Draw
from pipeline.train.data.rows import Rows
from pipeline.train.launch.config import ClusterConfig
from pipeline.train.loop import Run, Supervisor

STEPS, EVERY, KILL = 12, 5, 8
_PAUSE_S = 0.2  # of each step, so that the checkpoint before the death is committed
_WIDTH = 64


def measure(config: Recovery) -> Iterator[Line]:
    """Seconds and steps done twice, ours and stock, for each round; then their medians."""
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        data = Store(f"{folder}/data")
        x = np.random.default_rng(0).normal(size=(256, _WIDTH)).astype(np.float32)
        commit(data, "manifest.json", [write_parquet(data, "x.parquet", pa.table({"x": list(x)}))])
        for i in range(config.rounds):
            times: dict[str, float] = {}
            for name, train in (("ours", _ours), ("stock", _stock)):
                path = f"{folder}/{name}-{i}"
                os.makedirs(path)
                train(path, data.url)
                times |= {f"{name}_{key}": value for key, value in _recovery(Path(path)).items()}
            rounds.append(times)
            yield {"round": i, **times}
    yield {"round": "median", **medians(rounds)}


def _recovery(path: Path) -> dict[str, float]:
    """From what `_stepped` left: seconds from the death to the end of the first step after it, and steps done twice."""
    lines = [line.split() for line in (path / "steps").read_text().splitlines()]
    times_s, steps = [float(line[0]) for line in lines], [int(line[1]) for line in lines]
    # Where the count stands or goes back, work is done a second time.
    first = next(i for i in range(1, len(steps)) if steps[i] <= steps[i - 1])
    death_s = float((path / "died").read_text())
    return {"s": round(times_s[first] - death_s, 1), "redone": len(steps) - STEPS}


def _stepped(path: str, step: int, rank: int) -> None:
    """Note the step; end worker 1 once, after step KILL."""
    if rank == 0:
        with open(f"{path}/steps", "a") as file:
            file.write(f"{time.time()} {step}\n")
    elif step == KILL and not os.path.exists(f"{path}/died"):
        Path(f"{path}/died").write_text(str(time.time()))
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(_PAUSE_S)


def loss_fn(
    model: nn.Module, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Squared error of an autoencoder, summed over samples."""
    return (model(batch["x"]) - batch["x"]).square().mean(1).sum(), torch.tensor(float(len(batch["x"]))), {}


def collate(table: pa.Table, draw: Draw) -> dict[str, torch.Tensor]:
    """Rows -> {"x": (B, width)}."""
    return {"x": torch.from_numpy(np.stack(table["x"].to_pylist()).astype(np.float32))}


def _train(path: str, data: str, payload: object, supervisor: Supervisor) -> None:
    """What each of our workers runs."""
    train = TrainConfig(steps=STEPS, global_batch=8, checkpoint_every=EVERY, engine=EngineConfig(backend="torch"))
    loop.train(
        Run(
            config=train,
            network=NetworkSpec(kind="linear", model={}),
            store=Store(f"{path}/run"),
            supervisor=ListeningSupervisor(supervisor, lambda step: _stepped(path, step, ranks.rank())),
        ),
        model=nn.Linear(_WIDTH, _WIDTH),
        loss_fn=loss_fn,
        rows=Rows.committed(Store(data)),
        collate=collate,
    )


def _ours(path: str, data: str) -> None:
    from pipeline.train.launch.fit import fit  # imports Ray, whose environment the session has to set first

    fit(
        partial(_train, path, data),
        {},
        name="bench_recovery",
        run_dir=f"{path}/run",
        cluster=ClusterConfig(max_failures=1),
        total_steps=STEPS,
        show_progress=False,
    )


def _stock(path: str, data: str) -> None:
    """On noise made by each worker; `data` is not read."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    # Stock Ray Train gets none of our settings.
    ours = {name: os.environ.pop(name, None) for name in env.values("train")}
    try:
        TorchTrainer(
            _stock_worker,
            train_loop_config={"path": path},
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(
                name="stock", storage_path=f"{path}/ray", failure_config=FailureConfig(max_failures=1)
            ),
        ).fit()
    finally:
        os.environ.update({name: value for name, value in ours.items() if value is not None})


def _stock_worker(payload: dict[str, str]) -> None:
    import ray.train
    from ray.train import Checkpoint
    from ray.train.torch import prepare_model

    torch.set_num_threads(1)
    model = nn.Linear(_WIDTH, _WIDTH)
    parallel = prepare_model(model)  # which has the same parameters
    adamw = torch.optim.AdamW(model.parameters())
    start = 0
    if saved := ray.train.get_checkpoint():
        with saved.as_directory() as folder:
            state = torch.load(f"{folder}/state.pt", weights_only=True)
        model.load_state_dict(state["model"])
        adamw.load_state_dict(state["adamw"])
        start = state["step"]
    for step in range(start + 1, STEPS + 1):
        loss = loss_fn(parallel, {"x": torch.randn(4, _WIDTH)})[0] / 4
        loss.backward()
        adamw.step()
        adamw.zero_grad()
        _stepped(payload["path"], step, dist.get_rank())
        if step % EVERY == 0 or step == STEPS:
            with tempfile.TemporaryDirectory() as folder:
                checkpoint = None
                if dist.get_rank() == 0:
                    state = {"model": model.state_dict(), "adamw": adamw.state_dict(), "step": step}
                    torch.save(state, f"{folder}/state.pt")
                    checkpoint = Checkpoint.from_directory(folder)
                ray.train.report({"loss": loss.item()}, checkpoint=checkpoint)
