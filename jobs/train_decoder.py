"""Train the diffusion decoder: from a tokenizer's codes and blurry reconstructions back to the images.

python -m jobs.train_decoder jobs/configs/train_decoder_demo.toml
python -m jobs.train_decoder --run-dir s3://b/decoder --images s3://b/images --tokenizer s3://b/dvae/tokenizer
"""

from dataclasses import dataclass, field

import numpy as np
import torch

from jobs._main import run
from jobs._ray import RayConfig
from jobs._train import accept, launch, open_rows
from pipeline.config import check_range, to_json
from pipeline.generate.sample import DecodingConfig, denoise
from pipeline.models.denoiser import Denoiser, DenoiserConfig, denoiser_loss
from pipeline.storage import Store
from pipeline.tokenize import package
from pipeline.tokenize.collate import DecoderCollate, pictures
from pipeline.tokenize.corpus import source_files
from pipeline.tokenize.package import Tokenizer
from pipeline.tokenize.pixels import grid
from pipeline.train import ranks
from pipeline.train.data.rows import Rows
from pipeline.train.heldout import held_out
from pipeline.train.launch.config import ClusterConfig
from pipeline.train.loop import Run, Sample, Supervisor, TrainConfig, train
from pipeline.train.manifest import NetworkSpec


@dataclass(frozen=True, kw_only=True)
class TrainDecoder:
    """Train the diffusion decoder."""

    run_dir: str
    images: str
    """Folder of a finished jobs.curate_images run."""
    held_out: str | None = None
    """Another such folder, to evaluate on."""
    tokenizer: str
    """Tokenizer package, as jobs.train_dvae leaves it."""
    width: int = 32
    """Channels at full resolution."""
    multipliers: tuple[int, ...] = (1, 2, 4)
    """Width at each resolution, in units of `width`; each resolution halves the one before."""
    blocks: int = 1
    """Residual blocks per resolution."""
    max_corruption: float = 0.2
    """Largest share of codes replaced at random, since sampled codes have errors too."""
    train: TrainConfig = field(default_factory=TrainConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    ray: RayConfig = field(default_factory=RayConfig)
    verbose: bool = False

    def __post_init__(self) -> None:
        check_range(self, "max_corruption", low=0, high=1)
        DenoiserConfig(
            levels=(8,), width=self.width, multipliers=self.multipliers, blocks=self.blocks
        )  # refuses bad sizes


def sampler(rows: Rows, tokenizer: Tokenizer) -> Sample:
    """Draws the first images, their reconstructions, and what the network makes of those."""
    x = pictures(rows.take(np.arange(min(8, len(rows)))), tokenizer.config.channels, tokenizer.config.image_size)
    codes, noise = tokenizer.encode(x), torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    recon = tokenizer.decode(codes)

    def sample(network: torch.nn.Module) -> dict[str, np.ndarray]:
        there = [t.to(next(network.parameters()).device) for t in (recon, codes, noise)]
        made = denoise(network, *there, DecodingConfig())
        return {"decoded": grid(x.numpy(), recon.numpy(), made.float().cpu().numpy())}

    return sample


def worker(config: TrainDecoder, supervisor: Supervisor) -> None:
    """What each worker runs."""
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
    for url in (config.images, config.held_out or config.images):
        source_files(Store(url))
    package.load(Store(config.tokenizer))
    launch(worker, config, "train_decoder")


if __name__ == "__main__":
    run(TrainDecoder, main)
