"""Train the discrete VAE on curated images and export it as a tokenizer package.

python -m jobs.train_dvae jobs/configs/train_dvae_demo.toml
python -m jobs.train_dvae --run-dir s3://b/dvae --images s3://b/images --cluster.num-workers 8 --cluster.use-gpu
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobs._main import run
from jobs._training import TrainJob
from pipeline.config import to_json
from pipeline.models.config import DVAEConfig
from pipeline.storage import Store
from pipeline.tokenize.media import Medium, medium_of

if TYPE_CHECKING:
    from pipeline.train.data.rows import Rows
    from pipeline.train.loop import Sample, Supervisor
    from pipeline.train.preflight import Workload


@dataclass(frozen=True, kw_only=True)
class TrainDVAE(TrainJob):
    """Train the discrete VAE."""

    run_dir: str
    """Folder for checkpoints, metrics, and the package in `tokenizer/`."""
    images: str
    """Folder of a finished jobs.curate_images run."""
    model: DVAEConfig = field(default_factory=DVAEConfig)

    def __post_init__(self) -> None:
        medium_of(self.model)  # refuses what is no medium

    @property
    def medium(self) -> Medium:
        """What it trains on."""
        return medium_of(self.model)


def sampler(rows: "Rows", model: DVAEConfig) -> "Sample":
    """Draws the first samples above what the network makes of their codes."""
    # Imported here: torch and Ray take seconds, and a mistake in an option is told before that.
    import numpy as np
    from torch import nn

    from jobs._train import first_samples

    medium = medium_of(model)
    x = first_samples(rows, medium, model, 8)

    def sample(network: nn.Module) -> dict[str, np.ndarray]:
        recon, _, _ = network(x.to(next(network.parameters()).device))
        return {"reconstruction": medium.draw(x.numpy(), recon.float().cpu().numpy())}

    return sample


def workload(config: TrainDVAE) -> "Workload":
    """The network and the shapes of a sample, for a plan."""
    import torch  # as above

    from pipeline.train.preflight import Workload

    return Workload.of("dvae", config.model, {"x": torch.rand(1, *config.model.shape)})


def worker(config: TrainDVAE, supervisor: "Supervisor") -> None:
    """What each worker runs."""
    import torch  # as above

    from jobs._train import accept, open_rows
    from pipeline.exported import NetworkSpec
    from pipeline.models.dvae import DVAE, dvae_loss
    from pipeline.tokenize.collate import MediaCollate
    from pipeline.train import ranks
    from pipeline.train.heldout import held_out
    from pipeline.train.loop import Run, train

    # Every rank builds the same weights.
    torch.manual_seed(config.train.seed)
    rows = open_rows(config.images, config.medium)
    unseen = open_rows(config.held_out, config.medium) if config.held_out else None
    device = ranks.device(config.cluster.use_gpu)
    collate = MediaCollate(medium=config.medium, config=config.model)
    train(
        Run(
            config=config.train,
            network=NetworkSpec(kind="dvae", model=to_json(config.model)),
            store=Store(config.run_dir),
            device=device,
            supervisor=supervisor,
            # The package of fewer steps would be taken for that of this run.
            accepted=lambda: accept(config, "tokenizer"),
        ),
        model=DVAE(config.model),
        loss_fn=dvae_loss,
        rows=rows,
        collate=collate,
        evaluate=held_out(unseen, collate, dvae_loss, config.train, device) if unseen else None,
        sample=sampler(rows, config.model) if config.train.sample_every else None,
    )


def export(config: TrainDVAE, store: Store) -> None:
    """Make the tokenizer package of the trained weights."""
    from jobs._train import first_samples, open_rows  # as above
    from pipeline.generate.load import load_model
    from pipeline.models.dvae import DVAE
    from pipeline.tokenize.tokenizer import NUM_GOLDEN, export_tokenizer

    rows = open_rows(config.images, config.medium)
    export_tokenizer(
        load_model(store.sub("model"), DVAE).model,
        store.sub("tokenizer"),
        first_samples(rows, config.medium, config.model, 4 * NUM_GOLDEN),
        medium=config.medium,
        data={"dataset_sha256": rows.digest, config.medium.noun: len(rows)},
    )


def main(config: TrainDVAE) -> None:
    """Train and export, or say that it is done."""
    from jobs._train import launch  # as above
    from pipeline.tokenize.corpus import source_files

    for url in (config.images, config.held_out or config.images):
        source_files(Store(url), config.medium)
    store = Store(config.run_dir)
    # A run that was killed between its last step and its export is made whole.
    if launch(worker, config, "train_dvae") or not store.exists("tokenizer/tokenizer.json"):
        export(config, store)


if __name__ == "__main__":
    run(TrainDVAE, main)
