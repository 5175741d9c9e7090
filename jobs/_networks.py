"""The networks that the training jobs would build, by their configs: for those who plan a run."""

from typing import Any

import torch

from jobs import train_decoder, train_dvae, train_gpt
from pipeline.models.config import DenoiserConfig, GPTConfig
from pipeline.models.denoiser import Denoiser, denoiser_loss
from pipeline.models.dvae import DVAE, dvae_loss
from pipeline.models.gpt import GPT, gpt_loss
from pipeline.storage import Store
from pipeline.tokenize import package
from pipeline.tokenize.corpus import shared_facts
from pipeline.tokenize.grammar import Grammar
from pipeline.train.preflight import Network

JOBS = {
    "train_dvae": train_dvae.TrainDVAE,
    "train_gpt": train_gpt.TrainGPT,
    "train_decoder": train_decoder.TrainDecoder,
}
"""Config of each job."""


def network(config: Any, vocab_size: int | None) -> Network:
    """The network that a job's config asks for, and the shapes that it trains on."""
    if isinstance(config, train_gpt.TrainGPT):
        vocab_size = vocab_size or Grammar.from_json(shared_facts(config.codes)["grammar"]).vocab_size
        gpt = GPTConfig(vocab_size=vocab_size, **config.sizes)
        tokens = torch.arange(gpt.seq_len)[None] % vocab_size
        return Network(
            build=lambda: GPT(gpt),
            loss_fn=gpt_loss,
            row={"tokens": tokens, "targets": tokens, "weights": torch.ones(1, gpt.seq_len)},
        )
    tokenizer = None if isinstance(config, train_dvae.TrainDVAE) else package.load(Store(config.tokenizer))
    dvae = tokenizer.config if tokenizer else config.model
    image = torch.rand(1, dvae.channels, *[dvae.image_size] * dvae.dims)
    if tokenizer is None:
        return Network(build=lambda: DVAE(dvae), loss_fn=dvae_loss, row={"x": image})
    denoiser = DenoiserConfig(
        levels=dvae.levels,
        channels=dvae.channels,
        width=config.width,
        multipliers=config.multipliers,
        blocks=config.blocks,
    )
    row = dict.fromkeys(("x", "recon", "noise"), image) | {"corruption": torch.zeros(1)}
    row |= {"codes": torch.zeros(1, *tokenizer.code_shape, dtype=torch.int64), "t": torch.zeros(1, dtype=torch.int64)}
    return Network(build=lambda: Denoiser(denoiser), loss_fn=denoiser_loss, row=row)
