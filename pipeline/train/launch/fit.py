"""Run a training function on the workers of a Ray cluster (Ray Train V2), and show on the driver how it goes.

Guarantees: the same function, run again on the same `run_dir`, resumes by our own checkpoints; what Ray keeps under
`run_dir`/ray only points at them, is made anew at each start, and can be torn without harm. A worker that dies or
stalls is replaced, with all its group, at most `max_failures` times; what the user must mend (ValueError, or training
that diverged) is raised here as it was raised there, and not tried again. SIGTERM to this process saves a checkpoint
first. One driver at a time holds a `run_dir`, by a lease that a dead one loses. Ray must be running: `ray.init` is the
caller's.
"""

import contextlib
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Generic, TypeVar, cast

import ray
import torch
from ray.train.v2.api.callback import UserCallback
from ray.train.v2.api.config import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.v2.api.exceptions import TrainingFailedError
from ray.train.v2.torch.torch_trainer import TorchTrainer

from cluster import env
from pipeline import log, signals
from pipeline.lease import hold
from pipeline.storage import Store
from pipeline.train import ranks
from pipeline.train.launch import mailbox as mailboxes
from pipeline.train.launch.config import ClusterConfig
from pipeline.train.launch.mailbox import POLL_S, MailboxHandle, save_now
from pipeline.train.launch.rendezvous import Rendezvous
from pipeline.train.launch.watchdog import Watchdog
from pipeline.train.launch.worker import OnTerminate, RaySupervisor, WarningsToDriver
from pipeline.train.loop import Supervisor

C = TypeVar("C")
WorkerFn = Callable[[C, Supervisor], None]
"""Runs on every worker, in a process group: builds model and rows from the config, calls `loop.train`."""

_FINAL = (ValueError, FloatingPointError)
_SAVE_S = 60.0  # how long a group is waited for that is asked for a checkpoint before it is ended


@dataclass(frozen=True, kw_only=True)
class _Task(Generic[C]):
    """What a worker is sent."""

    worker_fn: WorkerFn[C]
    config: C
    name: str
    total_steps: int
    threads: int
    folder: str
    """That the driver works in."""
    run_dir: str
    lease: str
    """A file in `run_dir` that tells it from another folder of that name."""
    mailbox: MailboxHandle


def _entry(sent: dict[str, _Task[C]]) -> None:
    task = sent["task"]
    mailbox = task.mailbox
    if ray.get(mailbox.final.remote()):  # a group started again after an error that trying again cannot mend
        return
    handler = WarningsToDriver(mailbox)
    log.logger.addHandler(handler)
    torch.set_num_threads(task.threads)
    try:
        _enter(task.folder, task.run_dir, task.lease)
        task.worker_fn(task.config, RaySupervisor(mailbox, task.name, task.total_steps))
    except _FINAL as error:
        if not _all_failed(mailbox, error):
            raise  # the others wait for this rank: let Ray end them
    finally:
        log.logger.removeHandler(handler)


def _enter(folder: str, run_dir: str, lease: str) -> None:
    """Work in the driver's folder, as Ray Train has one of its own; ValueError unless the run's folder is that of the
    driver."""
    with contextlib.suppress(OSError):  # on another node there may be none: then only absolute paths and URLs are found
        os.chdir(folder)
    store = Store(run_dir)
    if not store.exists(lease):
        raise ValueError(
            f"{store.url} is another folder on {socket.gethostname()} than where this was started; use an s3:// "
            "URL, or a disk that all nodes mount"
        )


def _all_failed(mailbox: MailboxHandle, error: Exception) -> bool:
    """Whether every rank has met such an error, within a moment: then all may end in peace, and at once."""
    end = time.monotonic() + 5.0
    while time.monotonic() < end:
        if ray.get(mailbox.fail.remote(ranks.rank(), type(error).__name__, str(error))) == ranks.world_size():
            return True
        time.sleep(0.1)
    return False


def fit(
    worker_fn: WorkerFn[C],
    config: C,
    *,
    name: str,
    run_dir: str,
    cluster: ClusterConfig,
    total_steps: int,
    show_progress: bool = True,
) -> None:
    """Run `worker_fn(config, supervisor)` on all workers until it returns on each.

    `config` must be picklable. Raises HeldError if another driver trains in `run_dir`, ValueError or FloatingPointError
    as a worker did, RuntimeError with one line if workers failed otherwise more than `cluster.max_failures` times,
    SystemExit(143) after SIGTERM.
    """
    with hold(Store(run_dir)) as lease:
        Store(run_dir).delete("ray")
        env.apply("train", *(("elastic",) if cluster.max_workers else ()))
        _check_fits(cluster)
        task = _Task(
            worker_fn=worker_fn,
            config=config,
            name=name,
            total_steps=total_steps,
            threads=cluster.cpus_per_worker,
            folder=os.getcwd(),
            run_dir=run_dir,
            lease=lease.name,
            mailbox=mailboxes.start(),
        )
        _fit(task, cluster, show_progress)


def _fit(task: _Task[C], cluster: ClusterConfig, show_progress: bool) -> None:
    trainer = _trainer(task, cluster)
    display = _Display(task.mailbox, task.name, task.total_steps if show_progress else None)
    try:
        with _raising_at_sigterm():
            failure = _failure_of(trainer)
    except _Terminated:
        step = save_now(task.mailbox, _SAVE_S)
        done = "no checkpoint in time" if step is None else f"after the checkpoint of step {step}"
        signals.told(signal.SIGTERM)
        signals.say(f"stopped, {done}")
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        display.close()
    final = ray.get(task.mailbox.final.remote())
    mailboxes.stop(task.mailbox)
    if final:
        kind, text = final
        raise (FloatingPointError if kind == "FloatingPointError" else ValueError)(text)
    if failure is not None:
        raise RuntimeError(_one_line(failure)) from failure


def _trainer(task: _Task[C], cluster: ClusterConfig) -> TorchTrainer:
    store, fewest = Store(task.run_dir), cluster.num_workers
    watchdog = Watchdog(
        task.mailbox,
        stall_timeout_s=cluster.stall_timeout_s,
        start_timeout_s=cluster.timeout_s,
        save_timeout_s=_SAVE_S,
    )
    return TorchTrainer(
        _entry,
        train_loop_config={"task": task},
        scaling_config=ScalingConfig(
            num_workers=(fewest, cluster.max_workers) if cluster.max_workers else fewest,
            elastic_resize_monitor_interval_s=cluster.resize_every_s,
            use_gpu=cluster.use_gpu,
            resources_per_worker={"CPU": cluster.cpus_per_worker, "GPU": int(cluster.use_gpu)},
        ),
        torch_config=Rendezvous(timeout_s=math.ceil(cluster.timeout_s)),
        run_config=RunConfig(
            name=task.name,
            storage_path=f"{store.local_path if store.is_local else store.url.rstrip('/')}/ray",
            failure_config=FailureConfig(max_failures=cluster.max_failures),
            checkpoint_config=CheckpointConfig(num_to_keep=1),
            callbacks=cast(list[UserCallback], [OnTerminate(), watchdog]),  # Ray takes its own kinds here as well
        ),
    )


def _failure_of(trainer: TorchTrainer) -> TrainingFailedError | None:
    """`trainer.fit()` in a thread of its own: while Ray waits for an answer, no signal can end it."""
    ends: list[BaseException | None] = []

    def run() -> None:
        try:
            trainer.fit()
            ends.append(None)
        except BaseException as error:  # noqa: BLE001 - raised below
            ends.append(error)

    thread = threading.Thread(target=run, name="fit", daemon=True)
    thread.start()
    thread.join()
    if ends[0] is None or isinstance(ends[0], TrainingFailedError):
        return ends[0]
    raise ends[0]


class _Terminated(BaseException):
    pass


@contextlib.contextmanager
def _raising_at_sigterm() -> Iterator[None]:
    """The first SIGTERM raises; the second does what it did before. Only a main thread can be told of signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    usual = signal.getsignal(signal.SIGTERM)

    def terminate(number: int, frame: FrameType | None) -> None:
        signals.heard()
        signal.signal(signal.SIGTERM, usual)
        raise _Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, usual)


def _check_fits(cluster: ClusterConfig) -> None:
    have = ray.cluster_resources()
    for unit, each in (("CPU", cluster.cpus_per_worker), ("GPU", int(cluster.use_gpu))):
        if cluster.num_workers * each > have.get(unit, 0):
            mend = "lower --cluster.num_workers" if unit == "CPU" or have.get(unit) else "leave out --cluster.use-gpu"
            raise ValueError(
                f"{cluster.num_workers} workers need {cluster.num_workers * each} {unit}s and the Ray "
                f"cluster has {have.get(unit, 0):g}; {mend}"
            )


class _Display:
    """Reads the mailbox in a thread: progress becomes one line on the terminal, warnings are logged once each."""

    def __init__(self, mailbox: MailboxHandle, name: str, total_steps: int | None) -> None:
        self._mailbox = mailbox
        self._name = name
        self._total = total_steps
        self._end = threading.Event()
        self._warnings = 0
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
                ended = self._end.wait(POLL_S)
                step, loss = self._poll()
                if loss is None or self._total is None:
                    continue
                if progress is None:  # only now, so that the rate counts steps and not the start of the workers
                    progress = stack.enter_context(log.Progress(self._name, self._total, "steps"))
                    progress.start_at(step)
                progress.set(step, f"loss {loss:.4g}")

    def _poll(self) -> tuple[int, float | None]:
        try:
            step, loss, warnings = ray.get(self._mailbox.read.remote(self._warnings), timeout=10)
        except ray.exceptions.RayError:
            return 0, None
        for warning in warnings:
            log.logger.warning(warning)
        self._warnings += len(warnings)
        return step, loss


def _one_line(error: TrainingFailedError) -> str:
    failures = getattr(error, "worker_failures", None) or {0: error}
    rank, cause = min(failures.items())
    first = next((line.strip() for line in str(cause).splitlines() if line.strip()), "")
    if isinstance(cause, ray.exceptions.RayError):  # a worker that is gone; its first sentence says so
        return f"training failed on worker {rank}: {log.clean(first.partition('.')[0])}"
    return f"training failed on worker {rank}: {type(cause).__name__}: {log.clean(first)}"
