import re

import pytest
import torch

from pipeline.models.config import DVAEConfig
from pipeline.models.dvae import DVAE, dvae_loss

torch.set_num_threads(1)


def small(**changes: object) -> DVAE:
    torch.manual_seed(0)
    return DVAE(DVAEConfig(**{"width": 8, "multipliers": (1, 2, 2)} | changes)).eval()


@pytest.mark.parametrize("dims,shape,codes", [(2, (2, 3, 16, 24), (2, 4, 6)), (1, (2, 3, 40), (2, 10))])
def test_shapes_in_one_and_two_dimensions(dims: int, shape: tuple[int, ...], codes: tuple[int, ...]) -> None:
    model = small(dims=dims, channels=3, levels=(4, 3))
    x = torch.rand(shape) * 2 - 1
    recon, indices, aux = model(x)
    assert recon.shape == x.shape and indices.shape == codes and aux.shape == (2,)
    assert indices.dtype == torch.int64 and 0 <= indices.min() and indices.max() < 12
    assert torch.equal(model.encode(x), indices)
    torch.testing.assert_close(model.decode(indices), recon, rtol=1e-5, atol=1e-5)


def test_a_code_depends_on_its_receptive_field_alone() -> None:
    model = small()
    x = torch.rand(1, 1, 64, 64) * 2 - 1
    far = x.clone()
    far[..., 48:] = torch.rand(1, 1, 64, 16)
    before, after = model.latents(x), model.latents(far)
    changed = (before != after).any(1)[0].any(0)  # by column of codes
    assert changed[12:].all() and not changed[:7].any()


def test_loss_is_the_mean_absolute_error_and_additive_over_samples() -> None:
    model = small()
    x = torch.rand(6, 1, 32, 32) * 2 - 1
    loss, weight, sums = dvae_loss(model, {"x": x})
    recon = model(x)[0]
    assert weight == 6
    torch.testing.assert_close(loss / weight, (recon - x).abs().mean())
    torch.testing.assert_close(sums["mse"] / weight, (recon - x).square().mean())
    parts = [dvae_loss(model, {"x": part})[0] for part in x.split([1, 5])]
    torch.testing.assert_close(sum(parts), loss)


def test_every_parameter_learns_and_training_fits_a_batch() -> None:
    model = small().train()
    x = torch.zeros(4, 1, 32, 32) - 1
    for i in range(4):
        x[i, :, 4 * i : 4 * i + 8, 8:24] = 1
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    first = None
    for _ in range(60):
        loss, weight, _ = dvae_loss(model, {"x": x})
        first = first or (loss / weight).item()
        optimizer.zero_grad()
        (loss / weight).backward()
        optimizer.step()
    assert (loss / weight).item() < 0.25 * first
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_bad_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="image_size is 30; use a multiple of 4, the stride"):
        DVAEConfig(image_size=30)
    for name, bad in (
        ("width", 0),
        ("multipliers", ()),
        ("multipliers", (1, 0)),
        ("blocks", -1),
        ("channels", 0),
        ("dims", 3),
        ("image_size", 0),
        ("image_size", -32),
    ):
        with pytest.raises(ValueError, match=re.escape(name) + ".* " + re.escape(str(bad))):
            DVAEConfig(**{name: bad})
    with pytest.raises(ValueError, match="levels"):
        DVAEConfig(levels=(8, 2))
    with pytest.raises(ValueError, match="pad or crop"):
        small().encode(torch.zeros(1, 1, 32, 30))
