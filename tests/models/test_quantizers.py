import math

import pytest
import torch
import vector_quantize_pytorch as reference_library

from pipeline.models.config import MAX_CODES, QuantizerConfig
from pipeline.models.quantizers import FSQ, build

torch.set_num_threads(1)
LEVELS = [(8, 5, 5, 5), (7, 5, 5, 5, 5), (3, 4), (8, 8, 8, 6, 5), (4,)]


@pytest.mark.parametrize("levels", LEVELS)
def test_equals_the_reference_library(levels: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    z = torch.randn(4, len(levels), 6, 5) * 3
    ours, reference = FSQ(levels), reference_library.FSQ(list(levels))
    a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
    vectors, indices, aux = ours(a)
    theirs, their_indices = reference(b)
    torch.testing.assert_close(vectors, theirs, rtol=1e-6, atol=1e-6)
    assert torch.equal(indices, their_indices.long())
    assert torch.equal(aux, torch.zeros(4))
    weight = torch.randn_like(z)
    (vectors * weight).sum().backward()
    (theirs * weight).sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("levels", LEVELS)
def test_every_index_survives_the_round_trip(levels: tuple[int, ...]) -> None:
    quantizer = FSQ(levels)
    assert quantizer.codebook_size == math.prod(levels)
    indices = torch.arange(quantizer.codebook_size)[None]
    vectors = quantizer.vectors(indices)
    assert vectors.shape == (1, len(levels), quantizer.codebook_size)
    assert len(vectors[0].T.unique(dim=0)) == quantizer.codebook_size
    theirs = reference_library.FSQ(list(levels)).indices_to_codes(indices)[0]
    torch.testing.assert_close(vectors[0].T, theirs, rtol=0, atol=0)
    # The z whose bound is exactly the code: inverse of the bounding function, in float64.
    half = torch.tensor([(n - 1) * 1.001 / 2 for n in levels], dtype=torch.float64)[:, None]
    offset = torch.tensor([0.0 if n % 2 else 0.5 for n in levels], dtype=torch.float64)[:, None]
    width = torch.tensor([n // 2 for n in levels], dtype=torch.float64)[:, None]
    z = torch.atanh((vectors[0].double() * width + offset) / half) - torch.atanh(offset / half)
    again, back, _ = quantizer(z[None].float())
    assert torch.equal(back, indices)
    torch.testing.assert_close(again, vectors, rtol=0, atol=1e-6)


def test_even_levels_are_all_reached_and_zero_stays_zero() -> None:
    quantizer = FSQ((4, 5))
    z = torch.linspace(-20, 20, 4001)
    _, indices, _ = quantizer(torch.stack([z, z])[None])
    assert indices[0].remainder(4).unique().tolist() == [0, 1, 2, 3]
    assert (indices[0] // 4).unique().tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(quantizer(torch.zeros(1, 2, 1))[0], torch.zeros(1, 2, 1))


def test_is_float32_under_bf16_autocast_and_for_bf16_input() -> None:
    z = torch.randn(2, 4, 16) * 2
    quantizer = FSQ((8, 5, 5, 5))
    expected = quantizer(z)
    with torch.autocast("cpu", torch.bfloat16):
        got = quantizer(z)
    assert torch.equal(got[1], expected[1]) and torch.equal(got[0], expected[0])
    assert quantizer(z.bfloat16())[0].dtype == torch.float32
    assert not list(quantizer.buffers())  # nothing that a cast of the model could round


def test_margin_is_the_distance_to_the_nearest_boundary() -> None:
    quantizer = FSQ((5,))
    half = 4 * 1.001 / 2
    z = torch.atanh(torch.tensor([0.0, 0.5, 0.8, -1.45]) / half)[:, None, None]
    torch.testing.assert_close(quantizer.margin(z), torch.tensor([0.5, 0.0, 0.3, 0.05]), rtol=0, atol=1e-6)


def test_a_quantizer_is_what_its_config_says() -> None:
    config = QuantizerConfig(levels=(8, 5, 5))
    quantizer = build(config)
    assert isinstance(quantizer, FSQ) and quantizer.levels == (8, 5, 5)
    assert config.width == quantizer.width == 3 and config.codebook_size == quantizer.codebook_size == 200


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ((), r"is \(\); give it one number"),
        ((8, 2), "use 3 or more"),
        ((300, 300, 300), f"product is {MAX_CODES} at most"),
    ],
)
def test_levels_that_cannot_be_told_apart_are_refused(levels: tuple[int, ...], said: str) -> None:
    with pytest.raises(ValueError, match=f"levels .*{said}"):
        QuantizerConfig(levels=levels)
