import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from pipeline.models.config import DenoiserConfig, DVAEConfig, GPTConfig
from pipeline.models.denoiser import Denoiser, denoiser_loss
from pipeline.models.dvae import DVAE, dvae_loss
from pipeline.models.gpt import GPT, gpt_loss
from pipeline.train import flops
from tests.train import networks

GENERATOR = torch.Generator().manual_seed(0)
CASES = {
    "gpt": (
        GPT(GPTConfig(vocab_size=61, n_layer=3, d_model=48, n_head=6, n_kv_head=2, seq_len=24)),
        gpt_loss,
        networks.gpt_batch(GENERATOR),
    ),
    "denoiser": (
        Denoiser(DenoiserConfig(levels=(5, 10), width=16, multipliers=(1, 3, 2), blocks=2)),
        denoiser_loss,
        networks.denoiser_batch(GENERATOR),
    ),
    "dvae": (
        DVAE(DVAEConfig(image_size=16, width=8, multipliers=(1, 3, 2), blocks=2)),
        dvae_loss,
        networks.dvae_batch(GENERATOR),
    ),
    "dvae of sequences": (DVAE(DVAEConfig(dims=1, width=8, blocks=2)), dvae_loss, {"x": torch.rand(3, 1, 32)}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_formula_is_what_torch_counts(case):
    model, loss_fn, batch = CASES[case]
    # In this kernel attention is two batched products, as in the formula; others count a recomputation as well.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as forward:
        loss = loss_fn(model, batch)[0]
    assert 3 * forward.get_total_flops() == flops.of_batch(model, batch)
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    # The gradient of the input is never computed: the only difference, of the first convolution alone.
    assert 0.97 < backward.get_total_flops() / (2 * forward.get_total_flops()) <= 1


def test_another_network_has_no_formula():
    assert flops.of_batch(torch.nn.Linear(2, 2), {}) is None
