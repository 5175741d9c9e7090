"""Train the diffusion decoder: from a tokenizer's codes and blurry reconstructions back to the images.

python -m jobs.train_decoder jobs/configs/train_decoder_demo.toml
python -m jobs.train_decoder --run-dir s3://b/decoder --images s3://b/images --tokenizer s3://b/dvae/tokenizer
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobs._main import run
from jobs._training import TrainJob
from pipeline.config import to_json
from pipeline.models.config import DecodingConfig, DenoiserConfig, DVAEConfig
from pipeline.ranges import check_range
from pipeline.storage import Store

if TYPE_CHECKING:
    from pipeline.tokenize.tokenizer import Tokenizer
    from pipeline.train.data.rows import Rows
    from pipeline.train.loop import Sample, Supervisor
    from pipeline.train.preflight import Workload


@dataclass(frozen=True, kw_only=True)
class TrainDecoder(TrainJob):
    """Train the diffusion decoder."""

    images: str
    """Folder of a finished jobs.curate_images run."""
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

    def __post_init__(self) -> None:
        check_range(self, "max_corruption", low=0, high=1)
        self.model(DVAEConfig())  # refuses bad sizes

    def model(self, decodes: DVAEConfig) -> DenoiserConfig:
        """Sizes of the network behind this DVAE."""
        return DenoiserConfig(
            code_width=decodes.quantizer.width,
            dims=decodes.dims,
            channels=decodes.channels,
            width=self.width,
            multipliers=self.multipliers,
            blocks=self.blocks,
        )


def sampler(rows: "Rows", tokenizer: "Tokenizer") -> "Sample":
    """Draws the first samples, their reconstructions, and what the network makes of those."""
    # Imported here: torch and Ray take seconds, and a mistake in an option is told before that.
    import numpy as np
    import torch

    from jobs._train import first_samples
    from pipeline.generate.sample import denoise

    medium = tokenizer.medium
    x = first_samples(rows, medium, tokenizer.config, 8)
    codes = tokenizer.encode(x)
    recon = tokenizer.decode(codes)
    vectors = tokenizer.vectors(codes)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))

    def sample(network: torch.nn.Module) -> dict[str, np.ndarray]:
        device = next(network.parameters()).device
        decoded = denoise(network, recon.to(device), vectors.to(device), noise.to(device), DecodingConfig())
        return {"decoded": medium.draw(x.numpy(), recon.numpy(), decoded.float().cpu().numpy())}

    return sample


def workload(config: TrainDecoder) -> "Workload":
    """The network and the shapes of a sample, for a plan."""
    import torch  # as above

    from pipeline.tokenize.tokenizer import load_tokenizer
    from pipeline.train.preflight import Workload

    tokenizer = load_tokenizer(Store(config.tokenizer))
    sample = torch.rand(1, *tokenizer.config.shape)
    row = {
        "x": sample,
        "recon": sample,
        "noise": sample,
        "vectors": tokenizer.vectors(torch.zeros(1, *tokenizer.code_shape, dtype=torch.int64)),
        "corruption": torch.zeros(1),
        "t": torch.zeros(1, dtype=torch.int64),
    }
    return Workload.of("denoiser", config.model(tokenizer.config), row)


def worker(config: TrainDecoder, supervisor: "Supervisor") -> None:
    """What each worker runs."""
    import torch  # as above

    from jobs._train import accept, open_rows
    from pipeline.exported import NetworkSpec
    from pipeline.generate.load import TrainedOn
    from pipeline.models.denoiser import Denoiser, denoiser_loss
    from pipeline.tokenize.collate import DecoderCollate
    from pipeline.tokenize.tokenizer import load_tokenizer
    from pipeline.train import ranks
    from pipeline.train.heldout import held_out
    from pipeline.train.loop import Run, train

    device = ranks.device(config.cluster.use_gpu)
    tokenizer = load_tokenizer(Store(config.tokenizer), device)  # the loader runs it: on a CPU it would starve a GPU
    model = config.model(tokenizer.config)
    trained_on = TrainedOn(tokenizer_sha256=tokenizer.sha256)
    # Every rank builds the same weights.
    torch.manual_seed(config.train.seed)
    rows = open_rows(config.images, tokenizer.medium)
    unseen = open_rows(config.held_out, tokenizer.medium) if config.held_out else None
    collate = DecoderCollate(tokenizer=tokenizer, max_corruption=config.max_corruption)
    train(
        Run(
            config=config.train,
            network=NetworkSpec(kind="denoiser", model=to_json(model), facts=to_json(trained_on)),
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
    from pipeline.tokenize.corpus import source_files
    from pipeline.tokenize.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(Store(config.tokenizer))
    for url in (config.images, config.held_out or config.images):
        source_files(Store(url), tokenizer.medium)
    launch(worker, config, "train_decoder")


if __name__ == "__main__":
    run(TrainDecoder, main)
