"""What is done to a group of workers from outside, by Ray Train's controller: a stalled one is ended, a resized one
saves first.

Guarantees: a group of which no step or checkpoint was heard for `stall_timeout_s` (before its first step: for
`start_timeout_s`) is killed within a poll of the controller, whatever its processes are stuck in: a stopped process, a
dead file server, a collective that not all join. It then counts as one failure. A group that is about to change its
size is asked for a checkpoint, and waited for.
"""

import ray
from ray.actor import ActorHandle
from ray.train.v2._internal.execution.callback import ControllerCallback, WorkerGroupCallback
from ray.train.v2._internal.execution.controller.state import ResizingState, TrainControllerState
from ray.train.v2._internal.execution.worker_group import WorkerGroup, WorkerGroupPollStatus

from pipeline.train.launch.mailbox import MailboxHandle, save_now


class Watchdog(ControllerCallback, WorkerGroupCallback):
    """Ends a group that its mailbox no longer hears of; `stall_timeout_s` 0: ends none."""

    def __init__(
        self, mailbox: MailboxHandle, *, stall_timeout_s: float, start_timeout_s: float, save_timeout_s: float
    ) -> None:
        self._mailbox = mailbox
        self._stall_s = stall_timeout_s
        self._start_s = start_timeout_s
        self._save_s = save_timeout_s
        self._workers: list[ActorHandle[object]] = []

    def after_worker_group_training_start(self, worker_group: WorkerGroup) -> None:
        """A new group: its time starts now."""
        self._workers = [worker.actor for worker in worker_group.get_workers()]
        ray.get(self._mailbox.started.remote())

    def after_worker_group_poll_status(self, worker_group_status: WorkerGroupPollStatus) -> None:
        """End a group that stalls; the next poll finds it dead, and Ray Train starts another."""
        if not self._stall_s or not self._workers:
            return
        silent_s, stepped = ray.get(self._mailbox.silent.remote())
        if silent_s > (self._stall_s if stepped else self._start_s):
            limit = f"stall_timeout_s is {self._stall_s:g}" if stepped else f"timeout_s is {self._start_s:g}"
            self._mailbox.warn.remote(
                f"warning: no step for {silent_s:.0f} s; the workers are ended and started again (cluster.{limit})"
            )
            for worker in self._workers:
                ray.kill(worker)
            self._workers = []

    def after_controller_state_update(
        self, previous_state: TrainControllerState, current_state: TrainControllerState
    ) -> None:
        """Before workers that are well are stopped to be more, or fewer: have them save where they are."""
        if isinstance(current_state, ResizingState):
            save_now(self._mailbox, self._save_s)
