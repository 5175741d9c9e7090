import pytest
import torch
import torch.nn.functional as F
from diffusers.models.embeddings import get_timestep_embedding
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from pipeline.models import layers

torch.set_num_threads(1)


def test_rms_norm_is_torch_s_and_stays_float32_inside() -> None:
    torch.manual_seed(0)
    ours, theirs = layers.RMSNorm(16, eps=1e-5), nn.RMSNorm(16, eps=1e-5)
    with torch.no_grad():
        ours.weight.normal_()
        theirs.weight.copy_(ours.weight)
    x = torch.randn(3, 5, 16) * 100
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-6, atol=1e-6)
    tiny = torch.full((1, 16), 1e-3, dtype=torch.bfloat16)  # squares to 1e-6, comparable to eps
    assert ours(tiny).dtype == torch.bfloat16
    torch.testing.assert_close(ours(tiny), theirs(tiny.float()).bfloat16(), rtol=0, atol=0)


def test_rotary_is_llama_s() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(2, 3, 7, 8), torch.randn(2, 3, 7, 8)
    positions = torch.arange(7)[None] + 1000
    cos, sin = layers.rotary(positions, 8, base=500.0)
    theirs = apply_rotary_pos_emb(q, k, cos[:, 0], sin[:, 0])
    torch.testing.assert_close(layers.rotate(q, cos, sin), theirs[0])
    torch.testing.assert_close(layers.rotate(k, cos, sin), theirs[1])


def test_rotary_scores_depend_on_distance_alone() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 1, 64), torch.randn(1, 1, 1, 64)
    scores = []
    for start in (0, 3, 90_000):
        a = layers.rotate(q, *layers.rotary(torch.tensor([[start]]), 64, 10_000.0))
        b = layers.rotate(k, *layers.rotary(torch.tensor([[start + 5]]), 64, 10_000.0))
        scores.append((a * b).sum())
    torch.testing.assert_close(scores[0], scores[1])
    torch.testing.assert_close(scores[0], scores[2], rtol=1e-2, atol=1e-2)  # float32 angles at position 90,000


def test_attend_with_grouped_queries_is_softmax_of_products() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 8)
    wide_k, wide_v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    scores = q.double() @ wide_k.double().transpose(-1, -2) / 8**0.5
    scores = scores.masked_fill(~torch.ones(5, 5, dtype=torch.bool).tril(), -torch.inf)
    expected = scores.softmax(-1) @ wide_v.double()
    torch.testing.assert_close(layers.attend(q, k, v, None, causal=True).double(), expected, rtol=1e-5, atol=1e-6)


def test_timestep_embedding_is_diffusers_() -> None:
    t = torch.tensor([0, 1, 17, 999])
    torch.testing.assert_close(layers.timestep_embedding(t, 32), get_timestep_embedding(t, 32))


@pytest.mark.parametrize("dims", [1, 2])
def test_blocks_keep_double_and_halve_lengths_in_one_and_two_dimensions(dims: layers.Dims) -> None:
    x = torch.randn(2, 6, *[8] * dims)
    assert layers.conv(dims, 6, 4, kernel=7)(x).shape == (2, 4, *[8] * dims)
    assert layers.conv(dims, 6, 4, kernel=4, stride=2)(x).shape == (2, 4, *[4] * dims)
    assert layers.Upsample(dims, 6, 4)(x).shape == (2, 4, *[16] * dims)
    assert layers.ResBlock(dims, 6, 8, groups=2, d_cond=5)(x, torch.randn(2, 5)).shape == (2, 8, *[8] * dims)


def test_upsample_repeats_pixels_before_its_convolution() -> None:
    up = layers.Upsample(2, 1, 1)
    with torch.no_grad():
        up.conv.weight.zero_()[:, :, 1, 1] = 1
        up.conv.bias.zero_()
    x = torch.arange(4.0).view(1, 1, 2, 2)
    torch.testing.assert_close(up(x), x.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_res_block_starts_as_the_identity() -> None:
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(layers.ResBlock(2, 8, 8)(x), x)


def test_res_block_with_film_is_its_formula() -> None:
    torch.manual_seed(0)
    block = layers.ResBlock(2, 4, 4, groups=2, d_cond=3)
    nn.init.normal_(block.conv_out.weight)
    x, cond = torch.randn(2, 4, 5, 5), torch.randn(2, 3)
    h = F.conv2d(F.silu(F.group_norm(x, 2)), block.conv_in.weight, block.conv_in.bias, padding=1)
    film = cond @ block.film.weight.T + block.film.bias
    h = F.group_norm(h, 2) * (1 + film[:, :4, None, None]) + film[:, 4:, None, None]
    expected = x + F.conv2d(F.silu(h), block.conv_out.weight, block.conv_out.bias, padding=1)
    torch.testing.assert_close(block(x, cond), expected)


def test_swiglu_is_its_formula() -> None:
    torch.manual_seed(0)
    mlp, x = layers.SwiGLU(6, 10), torch.randn(2, 3, 6)
    gate = x @ mlp.gate.weight.T
    expected = (gate * gate.sigmoid() * (x @ mlp.up.weight.T)) @ mlp.down.weight.T
    torch.testing.assert_close(mlp(x), expected)


@pytest.mark.parametrize(
    ("dtype", "masked", "heads"), [(torch.bfloat16, False, 2), (torch.bfloat16, True, 4), (torch.float32, False, 4)]
)
def test_on_a_gpu_groups_are_spread_where_no_fast_kernel_takes_them(
    dtype: torch.dtype, masked: bool, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def attention(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: object) -> torch.Tensor:
        seen.append((k.shape[1], v.shape[1], options["enable_gqa"]))
        return torch.empty_like(q)

    monkeypatch.setattr(layers.F, "scaled_dot_product_attention", attention)
    with FakeTensorMode():
        q, k = (torch.empty(1, n, 8, 16, dtype=dtype, device="cuda") for n in (4, 2))
        mask = torch.empty(1, 1, 8, 8, dtype=torch.bool, device="cuda") if masked else None
        layers.attend(q, k, k, mask, causal=not masked)
    assert seen == [(heads, heads, heads == 2)]
