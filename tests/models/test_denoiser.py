import re

import pytest
import torch
from diffusers import DDPMScheduler
from torch import nn

from pipeline.models.config import NUM_TIMESTEPS, DenoiserConfig
from pipeline.models.denoiser import DETAIL_STD, Denoiser, denoiser_loss
from pipeline.models.diffusion import precondition, x0_of
from pipeline.models.quantizers import FSQ

torch.set_num_threads(1)
QUANTIZER = FSQ((5, 6))
REFERENCE = DDPMScheduler(NUM_TIMESTEPS, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")


def small(**changes: object) -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(DenoiserConfig(**{"code_width": 2, "width": 8, "multipliers": (1, 2), "groups": 4} | changes))


def batch(n: int = 4) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    x = torch.rand(n, 1, 16, 16, generator=g) * 2 - 1
    return {
        "x": x,
        "recon": x * 0.5,
        "noise": torch.randn(n, 1, 16, 16, generator=g),
        "t": torch.linspace(0, 999, n).long(),
        "vectors": QUANTIZER.vectors(torch.randint(0, 30, (n, 4, 4), generator=g)),
        "corruption": torch.rand(n, generator=g),
    }


def test_the_untrained_network_returns_the_reconstruction() -> None:
    b = batch()
    t = torch.full((4,), NUM_TIMESTEPS - 1)
    v = small()(b["noise"], t, b["recon"], b["vectors"], b["corruption"])
    torch.testing.assert_close(x0_of(b["noise"], v, t), b["recon"], rtol=0, atol=1e-3)


def test_loss_is_the_squared_error_of_v_in_units_of_its_deviation_and_additive_over_samples() -> None:
    model, b = small(), batch()
    nn.init.normal_(model.out.weight, std=0.1)
    loss, weight, sums = denoiser_loss(model, b)
    a = REFERENCE.alphas_cumprod.double()[b["t"]].view(4, 1, 1, 1)
    x_t = (a.sqrt() * b["x"] + (1 - a).sqrt() * b["noise"]).float()
    v = model(x_t, b["t"], b["recon"], b["vectors"], b["corruption"])
    target = a.sqrt() * b["noise"] - (1 - a).sqrt() * b["x"]
    assert weight == 4
    variance = DETAIL_STD**2 / (a * DETAIL_STD**2 + 1 - a)
    expected = ((v - target).square() / variance).mean()
    torch.testing.assert_close((loss / weight).double(), expected, rtol=1e-3, atol=1e-6)
    x0 = a.sqrt() * x_t - (1 - a).sqrt() * v
    torch.testing.assert_close((sums["x0_mse"] / 4).double(), (x0 - b["x"]).square().mean(), rtol=1e-4, atol=1e-6)
    halves = [denoiser_loss(model, {k: v[s] for k, v in b.items()})[0] for s in (slice(0, 1), slice(1, 4))]
    torch.testing.assert_close(sum(halves), loss, rtol=1e-5, atol=1e-5)


def test_every_input_and_every_parameter_matters() -> None:
    model, b = small(blocks=2, multipliers=(1, 2, 2)), batch()
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    args = [b["noise"], b["t"], b["recon"], b["vectors"], b["corruption"]]
    out = model(*args)
    for i, changed in enumerate(
        (b["noise"] + 1, (b["t"] + 300) % 1000, b["recon"] + 1, b["vectors"] + 0.5, 1 - b["corruption"])
    ):
        assert not torch.allclose(model(*args[:i], changed, *args[i + 1 :]), out, atol=1e-4), i
    denoiser_loss(model, b)[0].backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_fine_detail_passes_by_the_coarse_resolutions() -> None:
    model, b = small(), batch()
    nn.init.normal_(model.out.weight, std=0.1)
    for grow in model.grow:
        nn.init.zeros_(grow.conv.weight)
        nn.init.zeros_(grow.conv.bias)
    t = torch.full((4,), NUM_TIMESTEPS - 1)
    known = precondition(b["noise"], b["recon"], DETAIL_STD, t)[1]
    a = model(b["noise"], t, b["recon"], b["vectors"], b["corruption"]) - known
    other = b["vectors"] + 0.5
    assert not torch.allclose(model(b["noise"], t, b["recon"], other, b["corruption"]) - known, a, atol=1e-4)


def test_samples_of_a_batch_are_independent() -> None:
    model, b = small(), batch()
    nn.init.normal_(model.out.weight, std=0.1)
    args = (b["noise"], b["t"], b["recon"], b["vectors"], b["corruption"])
    torch.testing.assert_close(model(*(a[2:3] for a in args)), model(*args)[2:3], rtol=1e-5, atol=1e-5)


def test_a_sequence_has_one_axis() -> None:
    model, g = small(dims=1, channels=5), torch.Generator().manual_seed(1)
    nn.init.normal_(model.out.weight, std=0.1)
    x, t = torch.randn(3, 5, 24, generator=g), torch.tensor([0, 500, 999])
    vectors = QUANTIZER.vectors(torch.randint(0, 30, (3, 6), generator=g))
    batch = {"x": x, "recon": x * 0.5, "noise": x.flip(0), "vectors": vectors, "t": t, "corruption": torch.zeros(3)}
    assert model(x, t, x * 0.5, vectors, torch.zeros(3)).shape == x.shape
    denoiser_loss(model, batch)[0].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="width is 12; use a multiple of groups, 8"):
        DenoiserConfig(code_width=1, width=12)
    for name, bad in (
        ("width", 0),
        ("multipliers", ()),
        ("multipliers", (1, 0)),
        ("blocks", 0),
        ("channels", 0),
        ("groups", 0),
        ("dims", 3),
        ("code_width", 0),
    ):
        with pytest.raises(ValueError, match=re.escape(name) + ".* " + re.escape(str(bad))):
            DenoiserConfig(**{"code_width": 1, name: bad})
    with pytest.raises(ValueError, match="cannot be halved"):
        x = torch.zeros(1, 1, 15, 16)
        small()(x, torch.zeros(1, dtype=torch.int64), x, torch.zeros(1, 2, 4, 4), torch.zeros(1))
