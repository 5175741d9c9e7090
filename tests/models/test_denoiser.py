import re

import pytest
import torch
from diffusers import DDPMScheduler
from torch import nn

from pipeline.models.config import DenoiserConfig
from pipeline.models.denoiser import (
    DETAIL_STD,
    NUM_TIMESTEPS,
    Denoiser,
    add_noise,
    alpha_bar,
    denoiser_loss,
    precondition,
    velocity,
    x0_of,
)

torch.set_num_threads(1)
REFERENCE = DDPMScheduler(NUM_TIMESTEPS, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")


def small(**changes: object) -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(DenoiserConfig(**{"levels": (5, 6), "width": 8, "multipliers": (1, 2), "groups": 4} | changes))


def batch(n: int = 4) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    x = torch.rand(n, 1, 16, 16, generator=g) * 2 - 1
    return {
        "x": x,
        "recon": x * 0.5,
        "noise": torch.randn(n, 1, 16, 16, generator=g),
        "t": torch.linspace(0, 999, n).long(),
        "codes": torch.randint(0, 30, (n, 4, 4), generator=g),
        "corruption": torch.rand(n, generator=g),
    }


def test_alpha_bar_is_diffusers_squaredcos_cap_v2() -> None:
    ours = alpha_bar()
    assert ours.shape == (NUM_TIMESTEPS,) and (ours.diff() < 0).all()
    assert ours[0] > 0.9999 and 0 < ours[-1] < 1e-6
    torch.testing.assert_close(ours[:-1], REFERENCE.alphas_cumprod[:-1].double(), rtol=2e-5, atol=0)
    # the last beta is capped, so that 1 - beta loses three digits in the reference's float32
    torch.testing.assert_close(ours[-1], REFERENCE.alphas_cumprod[-1].double(), rtol=1e-4, atol=0)


def test_noise_and_velocity_are_diffusers_() -> None:
    x, noise, t = torch.randn(5, 1, 4, 4), torch.randn(5, 1, 4, 4), torch.tensor([0, 1, 500, 998, 999])
    torch.testing.assert_close(add_noise(x, noise, t), REFERENCE.add_noise(x, noise, t), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(velocity(x, noise, t), REFERENCE.get_velocity(x, noise, t), rtol=1e-4, atol=1e-5)


def test_x0_comes_back_from_its_velocity() -> None:
    x, noise, t = torch.randn(5, 1, 4, 4), torch.randn(5, 1, 4, 4), torch.tensor([0, 1, 500, 998, 999])
    torch.testing.assert_close(x0_of(add_noise(x, noise, t), velocity(x, noise, t), t), x, rtol=1e-5, atol=1e-5)


def test_the_untrained_network_returns_the_reconstruction() -> None:
    b = batch()
    t = torch.full((4,), NUM_TIMESTEPS - 1)
    v = small()(b["noise"], t, b["recon"], b["codes"], b["corruption"])
    torch.testing.assert_close(x0_of(b["noise"], v, t), b["recon"], rtol=0, atol=1e-3)


@pytest.mark.parametrize("t", [1, 40, 300, 900, 999])
def test_what_the_network_sees_and_has_to_find_have_unit_variance(t: int) -> None:
    generator = torch.Generator().manual_seed(t)
    n = 200_000
    recon = torch.full((n, 1, 1, 1), 0.3)
    x = recon + DETAIL_STD * torch.randn(n, 1, 1, 1, generator=generator)
    noise, times = torch.randn(n, 1, 1, 1, generator=generator), torch.full((n,), t)
    seen, known, error = precondition(add_noise(x, noise, times), recon, times)
    rest = (velocity(x, noise, times) - known) / error
    for value in (seen, rest):
        assert value.mean().item() == pytest.approx(0, abs=0.01)
        assert value.std().item() == pytest.approx(1, abs=0.01)
    assert (seen * rest).mean().item() == pytest.approx(0, abs=0.01)  # nothing is left that the formula could explain


def test_loss_is_the_squared_error_of_v_in_units_of_its_deviation_and_additive_over_samples() -> None:
    model, b = small(), batch()
    nn.init.normal_(model.out.weight, std=0.1)
    loss, weight, sums = denoiser_loss(model, b)
    a = REFERENCE.alphas_cumprod.double()[b["t"]].view(4, 1, 1, 1)
    x_t = (a.sqrt() * b["x"] + (1 - a).sqrt() * b["noise"]).float()
    v = model(x_t, b["t"], b["recon"], b["codes"], b["corruption"])
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
    args = [b["noise"], b["t"], b["recon"], b["codes"], b["corruption"]]
    out = model(*args)
    for i, changed in enumerate(
        (b["noise"] + 1, (b["t"] + 300) % 1000, b["recon"] + 1, (b["codes"] + 1) % 30, 1 - b["corruption"])
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
    known = precondition(b["noise"], b["recon"], t)[1]
    a = model(b["noise"], t, b["recon"], b["codes"], b["corruption"]) - known
    other = (b["codes"] + 1) % 30
    assert not torch.allclose(model(b["noise"], t, b["recon"], other, b["corruption"]) - known, a, atol=1e-4)


def test_samples_of_a_batch_are_independent() -> None:
    model, b = small(), batch()
    nn.init.normal_(model.out.weight, std=0.1)
    args = (b["noise"], b["t"], b["recon"], b["codes"], b["corruption"])
    torch.testing.assert_close(model(*(a[2:3] for a in args)), model(*args)[2:3], rtol=1e-5, atol=1e-5)


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="width is 12; use a multiple of groups, 8"):
        DenoiserConfig(levels=(8,), width=12)
    for name, bad in (
        ("width", 0),
        ("multipliers", ()),
        ("multipliers", (1, 0)),
        ("blocks", 0),
        ("channels", 0),
        ("groups", 0),
    ):
        with pytest.raises(ValueError, match=re.escape(name) + ".* " + re.escape(str(bad))):
            DenoiserConfig(levels=(8,), **{name: bad})
    with pytest.raises(ValueError, match="cannot be halved"):
        x = torch.zeros(1, 1, 15, 16)
        small()(x, torch.zeros(1, dtype=torch.int64), x, torch.zeros(1, 4, 4, dtype=torch.int64), torch.zeros(1))
