"""Train the discrete VAE on curated images and export it as a tokenizer package.

python -m jobs.train_dvae jobs/configs/train_dvae_demo.toml
python -m jobs.train_dvae --run-dir s3://b/dvae --images s3://b/images --cluster.num-workers 8 --cluster.use-gpu
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobs._main import run
from jobs._ray import RayConfig
from pipeline.config import to_json
from pipeline.models.config import DVAEConfig
from pipeline.storage import Store
from pipeline.train.config import TrainConfig
from pipeline.train.launch.config import ClusterConfig

if TYPE_CHECKING:
    from pipeline.train.data.rows import Rows
    from pipeline.train.loop import Sample, Supervisor


@dataclass(frozen=True, kw_only=True)
class TrainDVAE:
    """Train the discrete VAE."""

    run_dir: str
    """Folder for checkpoints, metrics, and the package in `tokenizer/`."""
    images: str
    """Folder of a finished jobs.curate_images run."""
    held_out: str | None = None
    """Another such folder, to evaluate on."""
    model: DVAEConfig = field(default_factory=DVAEConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    verbose: bool = False
    """Show all that Ray says, and the whole of an error."""

    def __post_init__(self) -> None:
        for name, allowed in (("dims", (2,)), ("channels", (1, 3))):
            if (value := getattr(self.model, name)) not in allowed:
                raise ValueError(f"model.{name} is {value}; images have 2 dims and 1 or 3 channels")


def sampler(rows: "Rows", model: DVAEConfig) -> "Sample":
    """Draws the first images above what the network makes of their codes."""
    # Imported here: torch and Ray take seconds, and a mistake in an option is told before that.
    import numpy as np
    from torch import nn

    from pipeline.tokenize.collate import pictures
    from pipeline.tokenize.pixels import grid

    x = pictures(rows.take(np.arange(min(8, len(rows)))), model.channels, model.image_size)

    def sample(network: nn.Module) -> dict[str, np.ndarray]:
        made, _, _ = network(x.to(next(network.parameters()).device))
        return {"reconstruction": grid(x.numpy(), made.float().cpu().numpy())}

    return sample


def worker(config: TrainDVAE, supervisor: "Supervisor") -> None:
    """What each worker runs."""
    import torch  # as above

    from jobs._train import accept, open_rows
    from pipeline.models.dvae import DVAE, dvae_loss
    from pipeline.tokenize.collate import ImageCollate
    from pipeline.train import ranks
    from pipeline.train.heldout import held_out
    from pipeline.train.loop import Run, train
    from pipeline.train.manifest import NetworkSpec

    torch.manual_seed(config.train.seed)
    rows = open_rows(config.images)
    device = ranks.device(config.cluster.use_gpu)
    collate = ImageCollate(channels=config.model.channels, size=config.model.image_size)
    train(
        Run(
            config=config.train,
            network=NetworkSpec(kind="dvae", model=to_json(config.model)),
            store=Store(config.run_dir),
            device=device,
            supervisor=supervisor,
            accepted=lambda: accept(config, "tokenizer"),
        ),
        model=DVAE(config.model),
        loss_fn=dvae_loss,
        rows=rows,
        collate=collate,
        evaluate=held_out(open_rows(config.held_out), collate, dvae_loss, config.train, device)
        if config.held_out
        else None,
        sample=sampler(rows, config.model) if config.train.sample_every else None,
    )


def export(config: TrainDVAE, store: Store) -> None:
    """Make the tokenizer package of the trained weights."""
    import numpy as np  # as above

    from jobs._train import open_rows
    from pipeline.generate.load import load_model
    from pipeline.tokenize import package
    from pipeline.tokenize.collate import pictures

    model, rows = load_model(store.sub("model"), "dvae").model, open_rows(config.images)
    some = rows.take(np.arange(min(len(rows), 4 * package.NUM_GOLDEN)))
    golden = pictures(some, config.model.channels, config.model.image_size)
    package.export(
        model, store.sub("tokenizer"), golden, data_facts={"dataset_sha256": rows.digest, "images": len(rows)}
    )


def main(config: TrainDVAE) -> None:
    """Train and export, or say that it is done."""
    from jobs._train import launch  # as above
    from pipeline.tokenize.corpus import source_files

    for url in (config.images, config.held_out or config.images):
        source_files(Store(url))
    store = Store(config.run_dir)
    if launch(worker, config, "train_dvae") or not store.exists("tokenizer/tokenizer.json"):
        export(config, store)


if __name__ == "__main__":
    run(TrainDVAE, main)
