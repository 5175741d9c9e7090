"""How much of a cluster a training run takes. Apart from `launch`, so that reading a config does not import Ray."""

from dataclasses import dataclass

from pipeline.ranges import check_range


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """What of the cluster a training run takes."""

    num_workers: int = 2
    """Workers, each a process of its own; the fewest, with `max_workers`."""
    max_workers: int | None = None
    """Take up to so many workers while the cluster has room for them, and never fewer than `num_workers`; None: always
    `num_workers`."""
    resize_every_s: float = 60.0
    """With `max_workers`: seconds between looks at the size. A change costs a checkpoint and a start of the
    workers."""
    cpus_per_worker: int = 1
    """CPUs, and threads, of each worker."""
    use_gpu: bool = False
    """One GPU for each worker."""
    max_failures: int = 3
    """Number of times that a failed group of workers is replaced; nodes that were drained do not count."""
    timeout_s: float = 600.0
    """Seconds without an answer from another worker, or without a first step, after which the group is replaced."""
    stall_timeout_s: float = 600.0
    """Seconds without a next step after which the group is replaced, whatever it waits for; more than the longest step,
    evaluation, checkpoint or export takes. 0: never, and no limit for the first step."""

    def __post_init__(self) -> None:
        check_range(self, "num_workers", "cpus_per_worker", low=1)
        if self.max_workers is not None and self.max_workers < self.num_workers:
            raise ValueError(
                f"max_workers is {self.max_workers}, and num_workers, the fewest, is {self.num_workers}; "
                f"use {self.num_workers} or more"
            )
        check_range(self, "max_failures", low=0)
        check_range(self, "resize_every_s", "timeout_s", above=0)
        check_range(self, "stall_timeout_s", low=0)

    @property
    def cpus(self) -> int:
        """CPUs of all workers together, of as few as may be."""
        return self.num_workers * self.cpus_per_worker
