"""Train the diffusion decoder: from a tokenizer's codes and blurry reconstructions back to the images.

python -m jobs.train_decoder jobs/configs/train_decoder_demo.toml
python -m jobs.train_decoder --run-dir s3://b/decoder --images s3://b/images --tokenizer s3://b/dvae/tokenizer
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jobs._main import run
from jobs._ray import RayConfig
from pipeline.config import to_json
from pipeline.models.config import DecodingConfig, DenoiserConfig
from pipeline.ranges import check_range
from pipeline.storage import Store
from pipeline.train.config import TrainConfig
from pipeline.train.launch.config import ClusterConfig

if TYPE_CHECKING:
    from pipeline.tokenize.package import Tokenizer
    from pipeline.train.data.rows import Rows
    from pipeline.train.loop import Sample, Supervisor


@dataclass(frozen=True, kw_only=True)
class TrainDecoder:
    """Train the diffusion decoder."""

    run_dir: str
    """Folder for checkpoints, metrics and the weights in `model/`, any fsspec URL."""
    images: str
    """Folder of a finished jobs.curate_images run."""
    held_out: str | None = None
    """Another such folder, to evaluate on."""
    tokenizer: str
    """Tokenizer package, as jobs.train_dvae leaves it."""
    width: int = 32
    """Channels at full resolution."""
    multipliers: tuple[int, ...] = (1, 2, 4)
    """Channels at each resolution, in units of `width`; each resolution halves the one before."""
    blocks: int = 1
    """Residual blocks per resolution."""
    max_corruption: float = 0.2
    """Largest share of codes replaced at random, since sampled codes have errors too."""
    train: TrainConfig = field(default_factory=TrainConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    verbose: bool = False
    """Show all that Ray says, and the whole of an error."""

    def __post_init__(self) -> None:
        check_range(self, "max_corruption", low=0, high=1)
        DenoiserConfig(
            levels=(8,), width=self.width, multipliers=self.multipliers, blocks=self.blocks
        )  # refuses bad sizes


def sampler(rows: "Rows", tokenizer: "Tokenizer") -> "Sample":
    """Draws the first images, their reconstructions, and what the network makes of those."""
    # Imported here: torch and Ray take seconds, and a mistake in an option is told before that.
    import numpy as np
    import torch

    from pipeline.generate.sample import denoise
    from pipeline.tokenize.collate import pictures
    from pipeline.tokenize.pixels import grid

    x = pictures(rows.take(np.arange(min(8, len(rows)))), tokenizer.config.channels, tokenizer.config.image_size)
    codes, noise = tokenizer.encode(x), torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    recon = tokenizer.decode(codes)

    def sample(network: torch.nn.Module) -> dict[str, np.ndarray]:
        there = [t.to(next(network.parameters()).device) for t in (recon, codes, noise)]
        made = denoise(network, *there, DecodingConfig())
        return {"decoded": grid(x.numpy(), recon.numpy(), made.float().cpu().numpy())}

    return sample


def worker(config: TrainDecoder, supervisor: "Supervisor") -> None:
    """What each worker runs."""
    import torch  # as above

    from jobs._train import accept, open_rows
    from pipeline.models.denoiser import Denoiser, denoiser_loss
    from pipeline.tokenize import package
    from pipeline.tokenize.collate import DecoderCollate
    from pipeline.train import ranks
    from pipeline.train.heldout import held_out
    from pipeline.train.loop import Run, train
    from pipeline.train.manifest import NetworkSpec

    device = ranks.device(config.cluster.use_gpu)
    tokenizer = package.load(Store(config.tokenizer), device)  # the loader runs it: on a CPU it would starve a GPU
    model = DenoiserConfig(
        levels=tokenizer.config.levels,
        channels=tokenizer.config.channels,
        width=config.width,
        multipliers=config.multipliers,
        blocks=config.blocks,
    )
    torch.manual_seed(config.train.seed)
    rows, collate = open_rows(config.images), DecoderCollate(tokenizer=tokenizer, max_corruption=config.max_corruption)
    unseen = open_rows(config.held_out) if config.held_out else None
    train(
        Run(
            config=config.train,
            network=NetworkSpec(kind="denoiser", model=to_json(model), facts={"tokenizer_sha256": tokenizer.sha256}),
            store=Store(config.run_dir),
            device=device,
            supervisor=supervisor,
            accepted=lambda: accept(config),
        ),
        model=Denoiser(model),
        loss_fn=denoiser_loss,
        rows=rows,
        collate=collate,
        evaluate=held_out(unseen, collate, denoiser_loss, config.train, device) if unseen else None,
        sample=sampler(rows, tokenizer) if config.train.sample_every else None,
    )


def main(config: TrainDecoder) -> None:
    """Train, or say that it is done."""
    from jobs._train import launch  # as above
    from pipeline.tokenize import package
    from pipeline.tokenize.corpus import source_files

    for url in (config.images, config.held_out or config.images):
        source_files(Store(url))
    package.load(Store(config.tokenizer))
    launch(worker, config, "train_decoder")


if __name__ == "__main__":
    run(TrainDecoder, main)
