"""Run a training function on the workers of a Ray cluster (Ray Train V2), and show on the driver how it goes.

Guarantees: the same function, run again on the same `run_dir`, resumes by our own checkpoints; what Ray keeps under
`run_dir`/ray only points at them, is made anew at each start, and can be torn without harm. A worker that dies is
replaced, with all its group, at most `max_failures` times; what the user must mend (ValueError, or training that
diverged) is raised here as it was raised there, and not tried again. Ray must be running: `ray.init` is the caller's.
"""
import contextlib
import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import torch
from ray.train import Checkpoint, CheckpointConfig, FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer

from pipeline import log
from pipeline.storage import Store
from pipeline.train import ranks
from pipeline.train.cluster import ClusterConfig
from pipeline.train.loop import Host

WorkerFn = Callable[[dict[str, Any], Host], None]
"""Runs on every worker, in a process group: builds model and rows from the dict, calls `loop.train` with the host."""

_FINAL = (ValueError, FloatingPointError)
_POLL_S = 0.5


@ray.remote(num_cpus=0)
class _Monitor:
    """Where workers leave word for the driver."""

    def __init__(self) -> None:
        self._step, self._loss, self._words = 0, None, []
        self._final, self._failed = None, set()

    def progress(self, step: int, loss: float) -> None:
        self._step, self._loss = step, loss

    def warn(self, text: str) -> None:
        self._words.append(text)

    def fail(self, rank: int, kind: str, text: str) -> int:
        self._final = self._final or (kind, text)
        self._failed.add(rank)
        return len(self._failed)

    def final(self) -> tuple[str, str] | None:
        return self._final

    def read(self, words: int) -> tuple[int, float | None, list[str]]:
        return self._step, self._loss, self._words[words:]


class _RayHost(Host):
    """Passes on what the loop says: progress and warnings to the driver, checkpoints to Ray Train."""

    def __init__(self, monitor: Any, total_steps: int) -> None:
        self._monitor, self._total, self._told = monitor, total_steps, 0.0

    def progress(self, step: int, loss: float) -> None:
        if ranks.rank() == 0 and (step == self._total or time.monotonic() - self._told >= _POLL_S):
            self._told = time.monotonic()
            self._monitor.progress.remote(step, loss)

    def checkpointed(self, step: int, path: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            pointer = None
            if ranks.rank() == 0:
                (Path(folder) / "pointer.json").write_text(json.dumps({"step": step, "checkpoint": path}))
                pointer = Checkpoint.from_directory(folder)
            ray.train.report({"step": step}, checkpoint=pointer, checkpoint_dir_name=path)


class _Forward(logging.Handler):
    def __init__(self, monitor: Any) -> None:
        super().__init__(logging.WARNING)
        self._monitor = monitor

    def emit(self, record: logging.LogRecord) -> None:
        self._monitor.warn.remote(record.getMessage())


def _entry(payload: dict[str, Any]) -> None:
    monitor = payload["monitor"]
    if ray.get(monitor.final.remote()):  # a group started again after an error that trying again cannot mend
        return
    os.chdir(payload["folder"])  # Ray Train works in a folder of its own, where relative paths of a config mean nothing
    forward = _Forward(monitor)
    log.logger.addHandler(forward)
    torch.set_num_threads(payload["threads"])
    try:
        payload["worker_fn"](payload["config"], _RayHost(monitor, payload["steps"]))
    except _FINAL as error:
        if not _all_failed(monitor, error):
            raise  # the others wait for this rank: let Ray end them
    finally:
        log.logger.removeHandler(forward)


def _all_failed(monitor: Any, error: Exception) -> bool:
    """Whether every rank has met such an error, within a moment: then all may end in peace, and at once."""
    end = time.monotonic() + 5.0
    while time.monotonic() < end:
        if ray.get(monitor.fail.remote(ranks.rank(), type(error).__name__, str(error))) == ranks.world_size():
            return True
        time.sleep(0.1)
    return False


def fit(worker_fn: WorkerFn, config: dict[str, Any], *, name: str, run_dir: str, cluster: ClusterConfig,
        total_steps: int, show_progress: bool = True) -> None:
    """Run `worker_fn(config, host)` on all workers until it returns on each.

    `config` must be picklable. Raises ValueError or FloatingPointError as a worker did, RuntimeError with one line if
    workers failed otherwise more than `cluster.max_failures` times.
    """
    store = Store(run_dir)
    store.delete("ray")
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # how soon Ray notices an end or a death
    _check_fits(cluster)
    monitor = _Monitor.remote()
    trainer = TorchTrainer(
        _entry,
        train_loop_config={"worker_fn": worker_fn, "config": config, "monitor": monitor, "steps": total_steps,
                           "threads": cluster.cpus_per_worker, "folder": os.getcwd()},
        scaling_config=ScalingConfig(
            num_workers=cluster.num_workers, use_gpu=cluster.use_gpu,
            resources_per_worker={"CPU": cluster.cpus_per_worker, "GPU": int(cluster.use_gpu)}),
        torch_config=TorchConfig(timeout_s=int(cluster.timeout_s)),
        run_config=RunConfig(
            name=name, storage_path=f"{store.local_path if store.is_local else run_dir.rstrip('/')}/ray",
            failure_config=FailureConfig(max_failures=cluster.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=1)))
    shown = _Shown(monitor, name, total_steps if show_progress else None)
    failure = None
    try:
        trainer.fit()
    except TrainingFailedError as error:
        failure = error
    finally:
        shown.close()
    final = ray.get(monitor.final.remote())
    ray.kill(monitor)
    if final:
        kind, text = final
        raise (FloatingPointError if kind == "FloatingPointError" else ValueError)(text)
    if failure is not None:
        raise RuntimeError(_one_line(failure)) from failure


def _check_fits(cluster: ClusterConfig) -> None:
    have = ray.cluster_resources()
    for unit, each in (("CPU", cluster.cpus_per_worker), ("GPU", int(cluster.use_gpu))):
        if cluster.num_workers * each > have.get(unit, 0):
            raise ValueError(f"{cluster.num_workers} workers need {cluster.num_workers * each} {unit}s and the Ray "
                             f"cluster has {have.get(unit, 0):g}; lower --cluster.num_workers")


class _Shown:
    """Reads the monitor in a thread: progress becomes one line on the terminal, warnings are logged once each."""

    def __init__(self, monitor: Any, name: str, total_steps: int | None) -> None:
        self._monitor, self._name, self._total = monitor, name, total_steps
        self._end = threading.Event()
        self._words = 0
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Show what is left to show."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        with contextlib.ExitStack() as stack:
            progress, ended = None, False
            while not ended:
                ended = self._end.wait(_POLL_S)
                step, loss = self._poll()
                if loss is None or self._total is None:
                    continue
                if progress is None:  # only now, so that the rate counts steps and not the start of the workers
                    progress = stack.enter_context(log.Progress(self._name, self._total, "steps"))
                    progress.start_at(step)
                progress.set(step, f"loss {loss:.4g}")

    def _poll(self) -> tuple[int, float | None]:
        try:
            step, loss, words = ray.get(self._monitor.read.remote(self._words), timeout=10)
        except ray.exceptions.RayError:
            return 0, None
        for word in words:
            log.logger.warning(word)
        self._words += len(words)
        return step, loss


def _one_line(error: TrainingFailedError) -> str:
    failures = getattr(error, "worker_failures", None) or {0: error}
    rank, cause = min(failures.items())
    first = next((line.strip() for line in str(cause).splitlines() if line.strip()), "")
    if isinstance(cause, ray.exceptions.RayError):  # a worker that is gone; its first sentence says so
        return f"training failed on worker {rank}: {log.clean(first.partition('.')[0])}"
    return f"training failed on worker {rank}: {type(cause).__name__}: {log.clean(first)}"
