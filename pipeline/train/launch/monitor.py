"""What the workers of a run tell its driver, and what the driver and the cluster ask of them.

Guarantees: a checkpoint that is asked for (a node is about to go, a worker got SIGTERM, the group is about to change
its size, the driver is told to stop) is taken after the step that runs at that moment, on all ranks, and is committed
before the next step. Asking costs a step nothing: the question travels with the sums that ranks exchange anyway.
"""

import json
import logging
import re
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import ray
from ray.train import Checkpoint
from ray.train.v2._internal.execution.callback import WorkerCallback
from ray.train.v2._internal.execution.context import get_train_context
from ray.util.metrics import Gauge
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pipeline.train import ranks
from pipeline.train.loop import Supervisor

POLL_S = 1.0
"""How often, at most, workers tell their progress and the driver reads it."""

_DRAIN_S = 120.0  # what Ray Train grants a node that is drained without a deadline
_AGAIN_S = 2.0
_terminated = threading.Event()


@ray.remote(num_cpus=0)
class Monitor:
    """Where workers leave word for the driver."""

    def __init__(self) -> None:
        self._step, self._loss, self._words = 0, None, []
        self._final, self._failed = None, set()
        self._saved, self._asked = -1, None
        self._alive, self._stepped = time.monotonic(), False

    def started(self) -> None:
        """A new group of workers begins, at a checkpoint: what was asked of the one before is asked of it."""
        self._alive, self._stepped = time.monotonic(), False
        self._step = max(self._saved, 0)
        if self._asked is not None:
            self._asked = self._step

    def progress(self, step: int, loss: float) -> bool:
        """A step was done; whether a checkpoint is wanted after the next."""
        self._step, self._loss = step, loss
        self._alive, self._stepped = time.monotonic(), True
        return self._asked is not None

    def checkpointed(self, step: int) -> None:
        """The checkpoint of a step was committed."""
        self._saved = step
        if self._asked is not None and step >= self._asked:
            self._asked = None
        self._alive = time.monotonic()

    def ask(self) -> None:
        """Ask for a checkpoint of this step or a later one, unless there is one."""
        if self._saved < self._step:
            self._asked = self._step

    def saved(self) -> int | None:
        """The last step whose checkpoint was committed in this run, -1 before the first; None while one is asked
        for."""
        return self._saved if self._asked is None else None

    def silent(self) -> tuple[float, bool]:
        """Seconds since the last start, step or checkpoint, and whether this group has made a step."""
        return time.monotonic() - self._alive, self._stepped

    def warn(self, text: str) -> None:
        """A warning to show."""
        self._words.append(text)

    def fail(self, rank: int, kind: str, text: str) -> int:
        """An error that trying again cannot mend; how many ranks have met one."""
        self._final = self._final or (kind, text)
        self._failed.add(rank)
        return len(self._failed)

    def final(self) -> tuple[str, str] | None:
        """The first such error."""
        return self._final

    def read(self, words: int) -> tuple[int, float | None, list[str]]:
        """Step, loss (None before this group's first step), and the warnings after the first `words`."""
        return self._step, self._loss if self._stepped else None, self._words[words:]


def start() -> Any:
    """A monitor on this process's node: it must not go with a node of the workers."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return Monitor.options(scheduling_strategy=here).remote()


class RaySupervisor(Supervisor):
    """Passes on what the loop says: progress and warnings to the driver, checkpoints to Ray Train, numbers to its
    metrics."""

    def __init__(self, monitor: Any, name: str, total_steps: int) -> None:
        self._monitor, self._name, self._total = monitor, name, total_steps
        self._told, self._answer, self._notice = 0.0, None, _Notice()
        self._gauges: dict[str, Gauge] = {}

    def progress(self, step: int, loss: float) -> None:
        """Tell the driver, now and then."""
        if ranks.rank() == 0 and (step == self._total or time.monotonic() - self._told >= POLL_S):
            self._told = time.monotonic()
            self._answer = self._monitor.progress.remote(step, loss)

    def should_checkpoint(self) -> bool:
        """Whether this worker was told to end, its group loses a node, or the driver asks."""
        if _terminated.is_set():
            _terminated.clear()
            return True
        if ranks.rank() != 0:
            return False
        if self._notice.due():
            return True
        if self._answer is None or not ray.wait([self._answer], timeout=0)[0]:
            return False
        answer, self._answer = ray.get(self._answer), None
        return answer

    def measured(self, step: int, values: dict[str, float]) -> None:
        """Show the numbers of rank 0 as gauges `triptych_train_*` of Ray's metrics, tagged with the run's name."""
        if ranks.rank() != 0:
            return
        for key, value in {"step": step, **values}.items():
            name = "triptych_train_" + re.sub(r"\W", "_", key)
            if name not in self._gauges:
                self._gauges[name] = Gauge(name, description=f"{key} of a training run", tag_keys=("run",))
            self._gauges[name].set(value, tags={"run": self._name})

    def checkpointed(self, step: int, path: str) -> None:
        """Tell the driver at once, then Ray Train, for which every rank must come."""
        if ranks.rank() == 0:
            self._answer = None  # it was given before this checkpoint
            self._monitor.checkpointed.remote(step)
        with tempfile.TemporaryDirectory() as folder:
            pointer = None
            if ranks.rank() == 0:
                (Path(folder) / "pointer.json").write_text(json.dumps({"step": step, "checkpoint": path}))
                pointer = Checkpoint.from_directory(folder)
            ray.train.report({"step": step}, checkpoint=pointer, checkpoint_dir_name=path)


class _Notice:
    """When to checkpoint once a node of the group is to go: at once, and again whenever half of what time is left is
    over.

    So of the work up to the end no more is lost than the last few seconds, with a handful of checkpoints.
    """

    def __init__(self) -> None:
        self._first, self._next = None, 0.0

    def due(self) -> bool:
        info = get_train_context().preemption_context.preemption_info  # public `get_preemption_info` is a barrier
        if info is None:
            return False
        now = time.time()
        self._first = self._first or now
        end = info.deadline_ms / 1000 if info.deadline_ms else self._first + _DRAIN_S
        if not self._next <= now < end:
            return False
        self._next = now + max((end - now) / 2, _AGAIN_S)
        return True


class OnTerminate(WorkerCallback):
    """Makes the first SIGTERM to a worker a notice; the second ends it, as Ray's own handler does."""

    def after_init_train_context(self) -> None:
        """In the worker's main thread, before training starts."""
        usual = signal.getsignal(signal.SIGTERM)

        def notice(number: int, frame: Any) -> None:
            _terminated.set()
            signal.signal(signal.SIGTERM, usual)

        signal.signal(signal.SIGTERM, notice)


class Forward(logging.Handler):
    """Warnings of a worker go to the driver."""

    def __init__(self, monitor: Any) -> None:
        super().__init__(logging.WARNING)
        self._monitor = monitor

    def emit(self, record: logging.LogRecord) -> None:
        """Send the message."""
        self._monitor.warn.remote(record.getMessage())
