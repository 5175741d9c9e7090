"""What runs in a worker beside the loop: it tells the driver and Ray how the run goes, and hears when to save.

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
from types import FrameType

import ray
from ray.train import Checkpoint
from ray.train.v2._internal.execution.callback import WorkerCallback
from ray.train.v2._internal.execution.context import get_train_context
from ray.util.metrics import Gauge

from pipeline.train import ranks
from pipeline.train.launch.mailbox import POLL_S, MailboxHandle
from pipeline.train.loop import Supervisor

_DRAIN_S = 120.0  # what Ray Train grants a node that is drained without a deadline
_AGAIN_S = 2.0
_terminated = threading.Event()


class RaySupervisor(Supervisor):
    """Passes on what the loop says: progress and warnings to the driver, checkpoints to Ray Train, numbers to its
    metrics."""

    def __init__(self, mailbox: MailboxHandle, name: str, total_steps: int) -> None:
        self._mailbox = mailbox
        self._name = name
        self._total = total_steps
        self._told_s = 0.0
        self._answer: ray.ObjectRef[bool] | None = None
        self._notice = _Notice()
        self._gauges: dict[str, Gauge] = {}

    def progress(self, step: int, loss: float) -> None:
        """Tell the driver, now and then."""
        if ranks.rank() == 0 and (step == self._total or time.monotonic() - self._told_s >= POLL_S):
            self._told_s = time.monotonic()
            self._answer = self._mailbox.progress.remote(step, loss)

    def should_checkpoint(self) -> bool:
        """Whether this worker was told to end, its group loses a node, or the driver asks."""
        if _terminated.is_set():
            _terminated.clear()
            return True
        if ranks.rank() != 0:
            return False
        if self._notice.due():
            return True
        if self._answer is None or not ray.wait([self._answer], timeout=0)[0]:  # no step waits for the driver
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
            self._mailbox.checkpointed.remote(step)
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
        self._first_s: float | None = None
        self._next_s = 0.0

    def due(self) -> bool:
        info = get_train_context().preemption_context.preemption_info  # public `get_preemption_info` is a barrier
        if info is None:
            return False
        now_s = time.time()
        self._first_s = self._first_s or now_s
        end_s = info.deadline_ms / 1000 if info.deadline_ms else self._first_s + _DRAIN_S
        if not self._next_s <= now_s < end_s:
            return False
        self._next_s = now_s + max((end_s - now_s) / 2, _AGAIN_S)
        return True


class OnTerminate(WorkerCallback):
    """Makes the first SIGTERM to a worker a notice; the second ends it, as Ray's own handler does."""

    def after_init_train_context(self) -> None:
        """In the worker's main thread, before training starts."""
        usual = signal.getsignal(signal.SIGTERM)

        def notice(number: int, frame: FrameType | None) -> None:
            _terminated.set()
            signal.signal(signal.SIGTERM, usual)

        signal.signal(signal.SIGTERM, notice)


class WarningsToDriver(logging.Handler):
    """Warnings of a worker are shown where the run was started."""

    def __init__(self, mailbox: MailboxHandle) -> None:
        super().__init__(logging.WARNING)
        self._mailbox = mailbox

    def emit(self, record: logging.LogRecord) -> None:
        """Send the message."""
        self._mailbox.warn.remote(record.getMessage())
