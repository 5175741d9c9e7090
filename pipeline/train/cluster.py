"""How much of a cluster a training run takes. Apart from `launch`, so that reading a config does not import Ray."""
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """What of the cluster a training run takes."""

    num_workers: int = 2
    cpus_per_worker: int = 1
    use_gpu: bool = False
    """One GPU for each worker."""
    max_failures: int = 3
    """How often a failed group of workers is replaced."""
    timeout_s: float = 600.0
    """After this long without an answer from another worker, one counts as hung, and the group is replaced."""

    def __post_init__(self) -> None:
        for name in ("num_workers", "cpus_per_worker"):
            if getattr(self, name) < 1:
                raise ValueError(f"cluster.{name} is {getattr(self, name)}; use 1 or more")
        if self.max_failures < 0:
            raise ValueError(f"cluster.max_failures is {self.max_failures}; use 0 or more")

    @property
    def cpus(self) -> int:
        """CPUs of all workers together."""
        return self.num_workers * self.cpus_per_worker
