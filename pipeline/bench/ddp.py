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
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from pipeline import storage
from pipeline.manifest import commit
from pipeline.models.gpt import GPT, GPTConfig, gpt_loss
from pipeline.storage import Store
from pipeline.train import loop, metrics, ranks
from pipeline.train.data.order import Draw
from pipeline.train.data.rows import Rows
from pipeline.train.engine import EngineConfig, OptimConfig
from pipeline.train.launch.config import ClusterConfig
from pipeline.train.loop import Run, Supervisor, TrainConfig
from pipeline.train.manifest import NetworkSpec

_VOCAB = 512
_ROWS = 2048
_LOG_EVERY = 10


@dataclass(frozen=True, kw_only=True)
class Ddp:
    """What to compare, and how long."""

    workers: int = 2
    rounds: int = 3
    steps: int = 240
    """Of each run, of which the first `warmup` are not timed; multiples of 10."""
    warmup: int = 40
    checkpoint_every: int = 200
    global_batch: int = 16
    n_layer: int = 4
    d_model: int = 192
    seq_len: int = 128
    zero_stage: int = 0
    """0 shares out nothing, as DistributedDataParallel does; 1 saves memory, and gathers the parameters after each
    step."""

    def __post_init__(self) -> None:
        if not 0 < self.warmup < self.steps or self.warmup % _LOG_EVERY or self.steps % _LOG_EVERY:
            raise ValueError(
                f"--warmup {self.warmup} must be below --steps {self.steps}, both multiples of {_LOG_EVERY}"
            )
        if self.global_batch % self.workers:
            raise ValueError(f"--global-batch {self.global_batch} is not a multiple of --workers {self.workers}")

    @property
    def gpt(self) -> GPTConfig:
        """The network."""
        return GPTConfig(vocab_size=_VOCAB, n_layer=self.n_layer, d_model=self.d_model, seq_len=self.seq_len)


def measure(config: Ddp) -> Iterator[dict[str, Any]]:
    """One dict a round, and then their medians: milliseconds per step, and what share of ours waited for what."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        _write_rows(Store(f"{folder}/data"), config)
        for i in range(config.rounds):
            ours, bare = _ours(config, folder, i), _bare(config, folder, i)
            found.append(
                {
                    "ours_ms": 1e3 * ours["step_s"],
                    "bare_ms": 1e3 * bare["step_s"],
                    "ratio": ours["step_s"] / bare["step_s"],
                    "cpu_ratio": ours["cpu_s"] / bare["cpu_s"],
                    "data_share": ours["data_s"] / ours["step_s"],
                    "checkpoint_share": ours["checkpoint_s"] / ours["step_s"],
                }
            )
            yield {"round": i} | {name: round(value, 4) for name, value in found[-1].items()}
    yield {"round": "median"} | {name: round(median(line[name] for line in found), 4) for name in found[0]}


def _write_rows(store: Store, config: Ddp) -> None:
    tokens = np.random.default_rng(0).integers(0, _VOCAB, (_ROWS, config.seq_len + 1), dtype=np.int64)
    table = pa.table({"tokens": pa.array(list(tokens))})
    commit(store, "manifest.json", [storage.write_parquet(store, "part-0.parquet", table, row_group_rows=256)])


def collate(table: pa.Table, draw: Draw) -> dict[str, torch.Tensor]:
    """Rows -> what `gpt_loss` reads."""
    tokens = torch.from_numpy(table["tokens"].combine_chunks().flatten().to_numpy().copy()).view(len(table), -1)
    return {"tokens": tokens[:, :-1], "targets": tokens[:, 1:], "weights": torch.ones(tokens[:, 1:].shape)}


def worker(payload: dict[str, Any], supervisor: Supervisor) -> None:
    """What each of our workers runs."""
    config: Ddp = payload["config"]
    told = supervisor.progress
    cpu_s: dict[int, float] = {}

    def progress(step: int, loss: float) -> None:
        cpu_s[step] = time.process_time()
        told(step, loss)

    supervisor.progress = progress
    torch.manual_seed(0)
    train = TrainConfig(
        steps=config.steps,
        global_batch=config.global_batch,
        log_every=_LOG_EVERY,
        checkpoint_every=config.checkpoint_every,
        engine=EngineConfig(zero_stage=config.zero_stage),
    )
    loop.train(
        Run(
            config=train,
            network=NetworkSpec(kind="gpt", model={}),
            store=Store(payload["run_dir"]),
            supervisor=supervisor,
        ),
        model=GPT(config.gpt),
        loss_fn=gpt_loss,
        rows=Rows.committed(Store(payload["data"])),
        collate=collate,
    )
    if ranks.rank() == 0:
        spent = (cpu_s[config.steps] - cpu_s[config.warmup]) / (config.steps - config.warmup)
        Store(payload["run_dir"]).write("cpu.json", json.dumps(spent).encode())


def _ours(config: Ddp, folder: str, number: int) -> dict[str, float]:
    """Means per timed step, in seconds, from what the run itself logged."""
    from pipeline.train.launch.fit import fit  # imports Ray, whose environment the session has to set first

    run_dir = f"{folder}/run-{number}"
    fit(
        worker,
        {"config": config, "data": f"{folder}/data", "run_dir": run_dir},
        name="bench_ddp",
        run_dir=run_dir,
        cluster=ClusterConfig(num_workers=config.workers),
        total_steps=config.steps,
        show_progress=False,
    )
    lines = [line for line in metrics.read(Store(run_dir)) if line["step"] > config.warmup and "step_s" in line]
    out = {
        name: sum(line.get(name, 0.0) for line in lines) / len(lines) for name in ("step_s", "data_s", "checkpoint_s")
    }
    return out | {"cpu_s": json.loads(Store(run_dir).read("cpu.json"))}


def _bare(config: Ddp, folder: str, number: int) -> dict[str, float]:
    """The same two times of the other side."""
    path = f"{folder}/bare-{number}"
    mp.spawn(_bare_rank, args=(config, path), nprocs=config.workers)
    return json.loads(Path(f"{path}.json").read_text())


def _bare_rank(rank: int, config: Ddp, path: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=config.workers)
    torch.manual_seed(0)
    model = DistributedDataParallel(GPT(config.gpt))
    optim = OptimConfig()
    adamw = torch.optim.AdamW(
        model.parameters(), lr=optim.lr, betas=optim.betas, weight_decay=optim.weight_decay, fused=True
    )
    share = config.global_batch // config.workers
    tokens = torch.randint(0, _VOCAB, (config.steps, share, config.seq_len + 1))
    start = cpu_start = 0.0
    for step in range(config.steps):
        if step == config.warmup:
            dist.barrier()
            start, cpu_start = time.perf_counter(), time.process_time()
        batch = {
            "tokens": tokens[step, :, :-1],
            "targets": tokens[step, :, 1:],
            "weights": torch.ones(share, config.seq_len),
        }
        loss_sum, weight, _ = gpt_loss(model, batch)
        (loss_sum / weight).backward()
        adamw.step()
        adamw.zero_grad()
    cpu_s = time.process_time() - cpu_start
    dist.barrier()
    if rank == 0:
        steps = config.steps - config.warmup
        spent = {"step_s": (time.perf_counter() - start) / steps, "cpu_s": cpu_s / steps}
        Path(f"{path}.json").write_text(json.dumps(spent))
    dist.destroy_process_group()
