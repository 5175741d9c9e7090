"""The training loop under Ray and DeepSpeed beside bare torch DistributedDataParallel: same transformer, data and
ranks.

Ours does all that a run does: reads committed Parquet, clips, logs, checkpoints. The bare one holds its batches in
memory and only steps (forward, backward with the all-reduce hidden in it, AdamW). Both run in processes of their own,
in turn, one thread a rank. A busy machine disturbs the times more than what is compared; the processor time of rank 0
(`cpu_ratio`, all its threads) hardly. Ray must be running.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pipeline.bench.config import LOG_EVERY, VOCAB_SIZE, Ddp
from pipeline.bench.listening import ListeningSupervisor
from pipeline.bench.report import Line, medians, rounded
from pipeline.exported import NetworkSpec
from pipeline.manifest import commit
from pipeline.models.gpt import GPT, gpt_loss
from pipeline.storage import Store, write_parquet
from pipeline.train import loop, metrics, ranks
from pipeline.train.config import EngineConfig, OptimConfig, TrainConfig
from pipeline.train.data.order import Draw
from pipeline.train.data.rows import Rows
from pipeline.train.launch.config import ClusterConfig
from pipeline.train.loop import Run, Supervisor

_ROWS = 2048


@dataclass(frozen=True, kw_only=True)
class _Times:
    """Of a step, in seconds: means over the timed steps."""

    step_s: float
    cpu_s: float
    """Processor time of rank 0, all its threads."""
    data_s: float = 0.0
    checkpoint_s: float = 0.0


def measure(config: Ddp) -> Iterator[Line]:
    """Milliseconds of a step on both sides and their ratios, for each round; then the medians."""
    rounds = []
    with tempfile.TemporaryDirectory() as folder:
        _write_rows(Store(f"{folder}/data"), config)
        for i in range(config.rounds):
            ours = _ours(config, f"{folder}/data", f"{folder}/run-{i}")
            bare = _bare(config, f"{folder}/bare-{i}")
            rounds.append(_compared(ours, bare))
            yield {"round": i, **rounded(rounds[-1])}
    yield {"round": "median", **medians(rounds)}


def _compared(ours: _Times, bare: _Times) -> dict[str, float]:
    return {
        "ours_ms": 1e3 * ours.step_s,
        "bare_ms": 1e3 * bare.step_s,
        "ratio": ours.step_s / bare.step_s,
        "cpu_ratio": ours.cpu_s / bare.cpu_s,
        "data_share": ours.data_s / ours.step_s,
        "checkpoint_share": ours.checkpoint_s / ours.step_s,
    }


def _write_rows(store: Store, config: Ddp) -> None:
    tokens = np.random.default_rng(0).integers(0, VOCAB_SIZE, (_ROWS, config.seq_len + 1), dtype=np.int64)
    table = pa.table({"tokens": pa.array(list(tokens))})
    commit(store, "manifest.json", [write_parquet(store, "part-0.parquet", table, row_group_rows=256)])


def collate(table: pa.Table, draw: Draw) -> dict[str, torch.Tensor]:
    """Rows -> what `gpt_loss` reads."""
    tokens = torch.from_numpy(table["tokens"].combine_chunks().flatten().to_numpy().copy()).view(len(table), -1)
    return {"tokens": tokens[:, :-1], "targets": tokens[:, 1:], "weights": torch.ones(tokens[:, 1:].shape)}


def _train(config: Ddp, data: str, run_dir: str, payload: object, supervisor: Supervisor) -> None:
    """What each of our workers runs."""
    cpu_s: dict[int, float] = {}  # step -> processor time of this process at its end

    def listen(step: int) -> None:
        cpu_s[step] = time.process_time()

    # Both sides begin with the same weights.
    torch.manual_seed(0)
    train = TrainConfig(
        steps=config.steps,
        global_batch=config.global_batch,
        log_every=LOG_EVERY,
        checkpoint_every=config.checkpoint_every,
        engine=EngineConfig(zero_stage=config.zero_stage),
    )
    loop.train(
        Run(
            config=train,
            network=NetworkSpec(kind="gpt", model={}),
            store=Store(run_dir),
            supervisor=ListeningSupervisor(supervisor, listen),
        ),
        model=GPT(config.gpt),
        loss_fn=gpt_loss,
        rows=Rows.committed(Store(data)),
        collate=collate,
    )
    if ranks.rank() == 0:
        mean_s = (cpu_s[config.steps] - cpu_s[config.warmup]) / (config.steps - config.warmup)
        Store(run_dir).write("cpu.json", json.dumps(mean_s).encode())


def _ours(config: Ddp, data: str, run_dir: str) -> _Times:
    """Means from what the run itself logged."""
    from pipeline.train.launch.fit import fit  # imports Ray, whose environment the session has to set first

    fit(
        partial(_train, config, data, run_dir),
        {},
        name="bench_ddp",
        run_dir=run_dir,
        cluster=ClusterConfig(num_workers=config.workers),
        total_steps=config.steps,
        show_progress=False,
    )
    store = Store(run_dir)
    lines = [line for line in metrics.read(store) if line["step"] > config.warmup and "step_s" in line]

    def mean(name: str) -> float:
        return sum(line.get(name, 0.0) for line in lines) / len(lines)

    cpu_s = json.loads(store.read("cpu.json"))
    return _Times(step_s=mean("step_s"), cpu_s=cpu_s, data_s=mean("data_s"), checkpoint_s=mean("checkpoint_s"))


def _bare(config: Ddp, path: str) -> _Times:
    mp.spawn(_bare_rank, args=(config, path), nprocs=config.workers)
    return _Times(**json.loads(Path(f"{path}.json").read_text()))


def _bare_rank(rank: int, config: Ddp, path: str) -> None:
    # As our workers have it.
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=config.workers)
    torch.manual_seed(0)
    model = DistributedDataParallel(GPT(config.gpt))
    optim = OptimConfig()
    # Fused, the fastest that torch has: the peer is not to be weak.
    adamw = torch.optim.AdamW(
        model.parameters(), lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay, fused=True
    )
    batches = _bare_batches(config)
    for batch in batches[: config.warmup]:
        _bare_step(model, adamw, batch)
    # Ranks begin and end together, as ours do by the sums of each step.
    dist.barrier()
    start_s, cpu_start_s = time.perf_counter(), time.process_time()
    for batch in batches[config.warmup :]:
        _bare_step(model, adamw, batch)
    cpu_s = time.process_time() - cpu_start_s
    dist.barrier()
    if rank == 0:
        steps = config.steps - config.warmup
        times = {"step_s": (time.perf_counter() - start_s) / steps, "cpu_s": cpu_s / steps}
        Path(f"{path}.json").write_text(json.dumps(times))
    dist.destroy_process_group()


def _bare_batches(config: Ddp) -> list[dict[str, torch.Tensor]]:
    """All batches of a rank, in memory."""
    rows = config.global_batch // config.workers
    tokens = torch.randint(0, VOCAB_SIZE, (config.steps, rows, config.seq_len + 1))  # (steps, B, T + 1)
    weights = torch.ones(rows, config.seq_len)
    return [{"tokens": step[:, :-1], "targets": step[:, 1:], "weights": weights} for step in tokens]


def _bare_step(model: nn.Module, adamw: torch.optim.Optimizer, batch: dict[str, torch.Tensor]) -> None:
    loss_sum, weight, _ = gpt_loss(model, batch)
    (loss_sum / weight).backward()
    adamw.step()
    adamw.zero_grad()
