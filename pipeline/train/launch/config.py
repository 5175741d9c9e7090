"""How much of a cluster a training run takes. Apart from `launch`, so that reading a config does not import Ray."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """What of the cluster a training run takes."""

    num_workers: int = 2
    max_workers: int | None = None
    """Take up to so many workers while the cluster has room for them, and never fewer than `num_workers`; None: always
    `num_workers`."""
    resize_every_s: float = 60.0
    """With `max_workers`: how often a change of size is considered. Each costs a checkpoint and a start of the
    workers."""
    cpus_per_worker: int = 1
    use_gpu: bool = False
    """One GPU for each worker."""
    max_failures: int = 3
    """How often a failed group of workers is replaced; nodes that were drained do not count."""
    timeout_s: float = 600.0
    """After this long without an answer from another worker, or without a first step, the group is replaced."""
    stall_timeout_s: float = 600.0
    """After this long without a next step, the group is replaced, whatever it waits for; must exceed the longest step,
    evaluation, checkpoint and export. 0: never, and no limit for the first step."""

    def __post_init__(self) -> None:
        for name in ("num_workers", "cpus_per_worker"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"cluster.{name} is {getattr(self, name)}; use 1 or more")
        if self.max_workers is not None and self.max_workers < self.num_workers:
            raise ValueError(
                f"cluster.max_workers is {self.max_workers}, and cluster.num_workers, the fewest, is "
                f"{self.num_workers}; use {self.num_workers} or more"
            )
        if not self.max_failures >= 0:
            raise ValueError(f"cluster.max_failures is {self.max_failures}; use 0 or more")
        for name in ("resize_every_s", "timeout_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"cluster.{name} is {getattr(self, name)}; use a finite number of seconds above 0")
        if not 0 <= self.stall_timeout_s < math.inf:
            raise ValueError(
                f"cluster.stall_timeout_s is {self.stall_timeout_s}; use 0 (never) or a finite number of seconds"
            )

    @property
    def cpus(self) -> int:
        """CPUs of all workers together, of as few as may be."""
        return self.num_workers * self.cpus_per_worker
