"""The three networks at sizes that take steps in milliseconds, with batches of 8 made of noise."""

from collections.abc import Callable

import torch
from torch import nn

from pipeline.models.config import DenoiserConfig, DVAEConfig, GPTConfig
from pipeline.models.denoiser import Denoiser, denoiser_loss
from pipeline.models.dvae import DVAE, dvae_loss
from pipeline.models.gpt import GPT, gpt_loss
from pipeline.models.networks import LossFn
from pipeline.models.quantizers import FSQ
from pipeline.train import engine as engines
from pipeline.train import ranks
from pipeline.train.config import EngineConfig, OptimConfig
from pipeline.train.loss import added
from pipeline.train.slices import masters
from tests.train import tiny

Batch = dict[str, torch.Tensor]


def dvae_batch(generator: torch.Generator) -> Batch:
    return {"x": torch.rand(8, 1, 16, 16, generator=generator)}


def gpt_batch(generator: torch.Generator) -> Batch:
    tokens = torch.randint(0, 61, (8, 25), generator=generator)
    weights = torch.rand(8, 24, generator=generator) * torch.linspace(0, 1, 8)[:, None]
    return {"tokens": tokens[:, :-1], "targets": tokens[:, 1:], "weights": weights}


def denoiser_batch(generator: torch.Generator) -> Batch:
    def image() -> torch.Tensor:
        return torch.rand(8, 1, 16, 16, generator=generator)

    return {
        "x": image(),
        "recon": image(),
        "noise": torch.randn(8, 1, 16, 16, generator=generator),
        "vectors": FSQ((5, 10)).vectors(torch.randint(0, 50, (8, 4, 4), generator=generator)),
        "corruption": torch.zeros(8),
        "t": torch.randint(0, 1000, (8,), generator=generator),
    }


NETWORKS: dict[str, tuple[Callable[[], nn.Module], LossFn, Callable[[torch.Generator], Batch]]] = {
    "dvae": (lambda: DVAE(DVAEConfig(size=16, width=8)), dvae_loss, dvae_batch),
    "gpt": (
        lambda: GPT(GPTConfig(vocab_size=61, n_layer=2, d_model=32, n_head=4, n_kv_head=2, seq_len=24)),
        gpt_loss,
        gpt_batch,
    ),
    "denoiser": (lambda: Denoiser(DenoiserConfig(code_width=2, width=16)), denoiser_loss, denoiser_batch),
}


Case = tuple[str, str, int, int, float] | tuple[str, str, int, int, float, str]


def steps(
    name: str, backend: str, stage: int, micro: int, clip: float, *options: str
) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses of 20 steps and the parameters after them, with these options of the engine switched on."""
    build, loss_fn, batch_of = NETWORKS[name]
    torch.manual_seed(0)
    settings = EngineConfig(backend=backend, zero_stage=stage, grad_clip=clip, **dict.fromkeys(options, True))
    engine = engines.build(build(), loss_fn, settings, OptimConfig(lr=1e-4), torch.device("cpu"), micro)
    generator = torch.Generator().manual_seed(1)
    losses, share = [], 8 // ranks.world_size()
    for _ in range(20):
        mine = {k: v[ranks.rank() * share : (ranks.rank() + 1) * share] for k, v in batch_of(generator).items()}
        parts = [{k: v.chunk(micro)[i] for k, v in mine.items()} for i in range(micro)]
        sums, _ = added(engine.backward(part, last=part is parts[-1]) for part in parts).over_ranks()
        engine.step(1e-4, sums.weight)
        losses.append(sums.loss)
    return losses, {n: full.clone() for n, full in engine.assembled(masters(engine.owned()))}


def all_steps(cases: list[Case]) -> list[tuple[list[float], dict[str, torch.Tensor]]]:
    return [steps(*case) for case in cases]


def tiny_and_networks(
    tiny_cases: list[tuple[str, int, int, float]], cases: list[Case]
) -> tuple[list[object], list[object]]:
    """Both in one start of processes, which costs more than the steps."""
    return tiny.engine_cases(tiny_cases), all_steps(cases)
