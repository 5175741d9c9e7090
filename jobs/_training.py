"""The options that the training jobs share; what they share in code is in `_train`, which imports torch."""

from dataclasses import dataclass, field

from jobs._ray import RayConfig
from pipeline.train.config import TrainConfig
from pipeline.train.launch.config import ClusterConfig


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """Train a network."""

    run_dir: str
    """Folder for checkpoints, metrics and the weights in `model/`, any fsspec URL."""
    held_out: str | None = None
    """Another folder of what it trains on, to evaluate on."""
    train: TrainConfig = field(default_factory=TrainConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    verbose: bool = False
    """Show all that Ray says, and the whole of an error."""
