import pytest
import torch
from diffusers import DDPMScheduler

from pipeline.models.config import NUM_TIMESTEPS
from pipeline.models.diffusion import add_noise, alpha_bar, precondition, velocity, x0_of

torch.set_num_threads(1)
REFERENCE = DDPMScheduler(NUM_TIMESTEPS, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction")
SHAPES = [(5, 1, 4, 4), (5, 80, 7), (5, 3), (5, 1, 2, 3, 4)]
TIMES = torch.tensor([0, 1, 500, 998, 999])


def test_alpha_bar_is_diffusers_squaredcos_cap_v2() -> None:
    ours = alpha_bar()
    assert ours.shape == (NUM_TIMESTEPS,) and (ours.diff() < 0).all()
    assert ours[0] > 0.9999 and 0 < ours[-1] < 1e-6
    torch.testing.assert_close(ours[:-1], REFERENCE.alphas_cumprod[:-1].double(), rtol=2e-5, atol=0)
    # the last beta is capped, so that 1 - beta loses three digits in the reference's float32
    torch.testing.assert_close(ours[-1], REFERENCE.alphas_cumprod[-1].double(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_noise_and_velocity_are_diffusers_for_any_number_of_axes(shape: tuple[int, ...]) -> None:
    x, noise, t = torch.randn(shape), torch.randn(shape), TIMES
    torch.testing.assert_close(add_noise(x, noise, t), REFERENCE.add_noise(x, noise, t), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(velocity(x, noise, t), REFERENCE.get_velocity(x, noise, t), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_x0_comes_back_from_its_velocity(shape: tuple[int, ...]) -> None:
    x, noise, t = torch.randn(shape), torch.randn(shape), TIMES
    torch.testing.assert_close(x0_of(add_noise(x, noise, t), velocity(x, noise, t), t), x, rtol=1e-5, atol=1e-5)


STD = 0.1


@pytest.mark.parametrize("t", [1, 40, 300, 900, 999])
def test_what_the_network_sees_and_has_to_find_have_unit_variance(t: int) -> None:
    generator = torch.Generator().manual_seed(t)
    n = 200_000
    recon = torch.full((n, 1, 1, 1), 0.3)
    x = recon + STD * torch.randn(n, 1, 1, 1, generator=generator)
    noise, times = torch.randn(n, 1, 1, 1, generator=generator), torch.full((n,), t)
    seen, known, error = precondition(add_noise(x, noise, times), recon, STD, times)
    rest = (velocity(x, noise, times) - known) / error
    for value in (seen, rest):
        assert value.mean().item() == pytest.approx(0, abs=0.01)
        assert value.std().item() == pytest.approx(1, abs=0.01)
    assert (seen * rest).mean().item() == pytest.approx(0, abs=0.01)  # nothing is left that the formula could explain
