import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from pipeline.models.config import GPTConfig, SamplingConfig
from pipeline.models.gpt import GPT
from pipeline.models.sampling import Prompts, choose, draw, guide, keep_top_k, keep_top_p, sample_tokens

torch.set_num_threads(1)


@pytest.mark.parametrize("k", [1, 2, 17, 63, 64, 100])
def test_top_k_is_hugging_face_s(k: int) -> None:
    logits = torch.randn(8, 64, generator=torch.Generator().manual_seed(k))
    expected = TopKLogitsWarper(k)(None, logits.clone())
    assert torch.equal(keep_top_k(logits, k), expected)


@pytest.mark.parametrize("p", [0.01, 0.3, 0.8, 0.95, 0.999])
def test_top_p_is_hugging_face_s(p: float) -> None:
    logits = torch.randn(8, 64, generator=torch.Generator().manual_seed(0)) * 3
    assert torch.equal(keep_top_p(logits, p), TopPLogitsWarper(p)(None, logits.clone()))


def test_zero_k_and_p_of_one_keep_everything() -> None:
    logits = torch.randn(2, 5)
    assert torch.equal(keep_top_k(logits, 0), logits) and torch.equal(keep_top_p(logits, 1.0), logits)


def test_the_order_is_temperature_then_top_k_then_top_p() -> None:
    logits = torch.randn(16, 64, generator=torch.Generator().manual_seed(3)) * 2
    config = SamplingConfig(temperature=0.7, top_k=12, top_p=0.9)
    expected = logits.clone()
    for warper in (TemperatureLogitsWarper(0.7), TopKLogitsWarper(12), TopPLogitsWarper(0.9)):
        expected = warper(None, expected)
    for u in (0.0, 0.31, 0.77, 0.9999999):
        uniform = torch.full((16,), u, dtype=torch.float64)
        tokens = choose(logits, uniform, config)
        cdf = expected.double().softmax(-1).cumsum(-1)
        below = (cdf <= u * cdf[:, -1:]).sum(-1)  # brute force: how many cumulative sums lie at or below u
        assert torch.equal(tokens, below)


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = torch.randn(6, 9)
    assert torch.equal(choose(logits, torch.rand(6), SamplingConfig(temperature=0)), logits.argmax(-1))


def test_draws_have_the_distribution_of_the_logits() -> None:
    logits = torch.tensor([0.5, -1.0, 2.0, -torch.inf, 0.0])
    n = 100_000
    uniform = torch.rand(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    counts = torch.bincount(draw(logits.expand(n, 5), uniform), minlength=5).double()
    expected = logits.double().softmax(-1) * n
    assert counts[3] == 0
    keep = expected > 0
    chi2 = ((counts - expected)[keep] ** 2 / expected[keep]).sum()
    assert chi2 < 16.27  # 0.999 quantile for 3 degrees of freedom


@given(st.lists(st.floats(-30, 30), min_size=1, max_size=40), st.data())
@settings(max_examples=150, deadline=None)
def test_what_is_ruled_out_is_never_drawn(values: list[float], data: st.DataObject) -> None:
    n = len(values)
    legal = data.draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(any))
    u = data.draw(st.sampled_from([0.0, 1e-12, 0.5, 1 - 2**-53]) | st.floats(0, 1, exclude_max=True))
    logits = torch.tensor([values]).masked_fill(~torch.tensor([legal]), -torch.inf)
    config = SamplingConfig(
        temperature=data.draw(st.sampled_from([0.0, 0.01, 1.0, 5.0])),
        top_k=data.draw(st.integers(0, n)),
        top_p=data.draw(st.floats(0.001, 1)),
    )
    assert legal[choose(logits, torch.tensor([u], dtype=torch.float64), config).item()]


def test_guidance_of_one_is_the_condition_and_of_zero_the_null() -> None:
    cond, null = torch.randn(3, 50) * 4, torch.randn(3, 50) * 4
    torch.testing.assert_close(guide(cond, null, 1.0), cond.log_softmax(-1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(guide(cond, null, 0.0), null.log_softmax(-1), rtol=0, atol=0)
    p = guide(cond, null, 2.5).softmax(-1)
    expected = cond.double().softmax(-1) ** 2.5 * null.double().softmax(-1) ** -1.5
    torch.testing.assert_close(p.double(), expected / expected.sum(-1, keepdim=True), rtol=1e-4, atol=1e-7)


def test_guidance_ignores_a_constant_added_to_either_side() -> None:
    cond, null = torch.randn(3, 50), torch.randn(3, 50)
    torch.testing.assert_close(guide(cond + 7, null - 3, 2.0), guide(cond, null, 2.0), rtol=1e-5, atol=1e-5)


class Parity:
    """Allows even tokens at even places and odd ones at odd places."""

    def __init__(self, rows: int, vocab: int) -> None:
        self.place, self.rows, self.vocab = 0, rows, vocab
        self.seen: list[torch.Tensor] = []

    def allowed(self) -> torch.Tensor:
        return (torch.arange(self.vocab) % 2 == self.place % 2).expand(self.rows, -1)

    def advance(self, tokens: torch.Tensor) -> None:
        self.place += 1
        self.seen.append(tokens)


def model() -> GPT:
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(vocab_size=40, n_layer=2, d_model=32, n_head=4, n_kv_head=2, seq_len=32)).eval()
    for parameter in gpt.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return gpt


def test_sampling_with_a_cache_equals_full_forwards_of_two_separate_prompts() -> None:
    gpt, steps = model(), 9
    config = SamplingConfig(guidance=1.7, temperature=0.9, top_k=8, top_p=0.95)
    cond, null = torch.randint(0, 40, (3, 6)), torch.randint(0, 40, (3, 6))
    ones = torch.ones_like(cond)
    uniforms = torch.rand(3, steps, generator=torch.Generator().manual_seed(4))
    constraint = Parity(3, 40)
    tokens = sample_tokens(
        gpt, Prompts(tokens=cond, documents=ones), Prompts(tokens=null, documents=ones), constraint, uniforms, config
    )
    assert torch.equal(tokens, torch.stack(constraint.seen, 1))
    assert torch.equal(tokens % 2, torch.arange(steps).expand(3, -1) % 2)
    with torch.no_grad():
        for i in range(steps):
            a, b = (gpt(torch.cat([x, tokens[:, :i]], 1))[:, -1].log_softmax(-1) for x in (cond, null))
            logits = (b + 1.7 * (a - b)).masked_fill(torch.arange(40) % 2 != i % 2, -torch.inf)
            assert torch.equal(choose(logits, uniforms[:, i], config), tokens[:, i]), i


def test_rows_do_not_depend_on_their_neighbours() -> None:
    gpt, config = model(), SamplingConfig()
    prompt = torch.randint(0, 40, (4, 5))
    ones, uniforms = torch.ones_like(prompt), torch.rand(4, 8)
    together = sample_tokens(gpt, Prompts(tokens=prompt, documents=ones), None, Parity(4, 40), uniforms, config)
    alone = sample_tokens(
        gpt, Prompts(tokens=prompt[2:3], documents=ones[2:3]), None, Parity(1, 40), uniforms[2:3], config
    )
    assert torch.equal(alone, together[2:3])


def test_unequal_prompts_are_continued_as_if_alone_and_the_head_reads_one_token_a_row() -> None:
    gpt, config, uniforms = model(), SamplingConfig(), torch.rand(3, 8)
    rows = [torch.randint(1, 40, (n,)) for n in (5, 2, 4)]
    tokens, documents = torch.zeros(3, 5, dtype=torch.int64), torch.zeros(3, 5, dtype=torch.int64)
    for i, row in enumerate(rows):
        tokens[i, 5 - len(row) :], documents[i, 5 - len(row) :] = row, 1
    read = []
    gpt.head.register_forward_pre_hook(lambda head, inputs: read.append(inputs[0].shape[1]))
    prompts = Prompts(tokens=tokens, documents=documents)
    together = sample_tokens(gpt, prompts, None, Parity(3, 40), uniforms, config)
    for i, row in enumerate(rows):
        one = Prompts(tokens=row[None], documents=torch.ones_like(row)[None])
        alone = sample_tokens(gpt, one, None, Parity(1, 40), uniforms[i : i + 1], config)
        assert torch.equal(alone[0], together[i])
    assert set(read) == {1}


def test_a_cache_is_as_long_as_what_is_read() -> None:
    gpt = model()
    assert gpt.cache(2, 7).keys.shape == (2, 2, 2, 7, 8)


def test_bad_settings_are_refused() -> None:
    nan, inf = float("nan"), float("inf")
    for bad in (
        {"temperature": -1.0},
        {"temperature": nan},
        {"guidance": nan},
        {"guidance": -3.0},
        {"guidance": inf},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"top_p": nan},
    ):
        with pytest.raises(ValueError, match=f"^{next(iter(bad))} is .*; use "):
            SamplingConfig(**bad)
