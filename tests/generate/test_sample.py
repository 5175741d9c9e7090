import numpy as np
import pytest
import torch
from torch import nn

from pipeline.generate.sample import GrammarConstraint, decode_images, denoise, generate_images, sample_codes
from pipeline.models.config import DecodingConfig, DenoiserConfig, GPTConfig, SamplingConfig
from pipeline.models.denoiser import DETAIL_STD, Denoiser, alpha_bar
from pipeline.models.gpt import GPT
from pipeline.storage import Store
from pipeline.tokenize import package
from pipeline.tokenize.grammar import BOS, Grammar
from pipeline.tokenize.package import Tokenizer
from pipeline.tokenize.text import TextTokenizer
from tests.tokenize import toy

torch.set_num_threads(1)
TEXT = TextTokenizer.train(["a red square", "a blue circle"], 300)
GRAMMAR = Grammar(text_size=TEXT.vocab_size, image_size=60, max_side=8)
PROMPTS = ["a red square", "a blue circle, very large", "a red circle", "blue"]


def gpt(seq_len: int = 64) -> GPT:
    torch.manual_seed(0)
    model = GPT(GPTConfig(vocab_size=GRAMMAR.vocab_size, n_layer=2, d_model=32, n_head=4, n_kv_head=2, seq_len=seq_len))
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def denoiser() -> Denoiser:
    torch.manual_seed(0)
    model = Denoiser(DenoiserConfig(levels=(5, 4, 3), width=8, multipliers=(1, 2), groups=4)).eval()
    nn.init.normal_(model.out.weight, std=0.1)
    return model


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return package.export(toy.dvae(), Store(str(tmp_path_factory.mktemp("tokenizer"))), toy.images(20))


class Gaussian(nn.Module):
    """The exact v of data that is normal with mean `recon` and deviation `std` in every pixel."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std, self.unused = std, nn.Parameter(torch.zeros(()))

    def forward(
        self, x: torch.Tensor, t: torch.Tensor, recon: torch.Tensor, codes: torch.Tensor, corruption: torch.Tensor
    ) -> torch.Tensor:
        a = alpha_bar()[t].view(-1, 1, 1, 1)
        variance = a * self.std**2 + 1 - a
        noise = (1 - a).sqrt() * (x - a.sqrt() * recon) / variance  # E[noise | x_t]
        x0 = recon + a.sqrt() * self.std**2 * (x - a.sqrt() * recon) / variance  # E[x_0 | x_t]
        return (a.sqrt() * noise - (1 - a).sqrt() * x0).float()


def test_the_solver_reaches_the_mean_and_variance_of_gaussian_data() -> None:
    recon = torch.linspace(-0.3, 0.3, 4).view(4, 1, 1, 1).expand(4, 1, 32, 32)
    noise = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    codes = torch.zeros(4, 4, 4, dtype=torch.int64)
    errors = []
    for steps in (20, 40, 80):
        x = denoise(Gaussian(0.15), recon, codes, noise, DecodingConfig(num_steps=steps))
        # The flow of a Gaussian only scales the noise, and [-1, 1] is four deviations away.
        errors.append((x - (recon + 0.15 * noise)).abs().max().item())
    assert errors[2] < 0.005
    assert errors[1] < errors[0] / 3 and errors[2] < errors[1] / 3  # second order: a first-order solver halves them
    expected = (recon + 0.15 * noise).mean(dim=(1, 2, 3))
    assert x.mean(dim=(1, 2, 3)).tolist() == pytest.approx(expected.tolist(), abs=1e-3)
    assert x.std(dim=(1, 2, 3)).tolist() == pytest.approx((0.15 * noise.std(dim=(1, 2, 3))).tolist(), rel=0.01)


def test_an_untrained_denoiser_adds_normal_detail_to_the_reconstruction() -> None:
    model = Denoiser(DenoiserConfig(levels=(5, 4, 3), width=8, multipliers=(1, 2), groups=4))
    recon, codes = toy.images(2) * 0.3, torch.zeros(2, 4, 4, dtype=torch.int64)
    noise = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    config = DecodingConfig(num_steps=5)
    ours, exact = (denoise(m, recon, codes, noise, config) for m in (model, Gaussian(DETAIL_STD)))
    torch.testing.assert_close(ours, exact, rtol=1e-4, atol=1e-4)


def test_one_step_gives_the_mean_and_no_noise_gives_it_at_any_number_of_steps() -> None:
    recon = torch.full((1, 1, 8, 8), 0.4)
    noise, codes = torch.randn(1, 1, 8, 8), torch.zeros(1, 4, 4, dtype=torch.int64)
    one = denoise(Gaussian(0.2), recon, codes, noise, DecodingConfig(num_steps=1))
    torch.testing.assert_close(one, recon, rtol=0, atol=1e-3)
    still = denoise(Gaussian(0.2), recon, codes, noise, DecodingConfig(num_steps=10, noise_scale=0.0))
    torch.testing.assert_close(still, recon, rtol=0, atol=1e-3)


def test_pictures_depend_on_the_seed_and_their_place_alone() -> None:
    model, recon, codes = denoiser(), toy.images(5) * 0.5, torch.randint(0, 60, (5, 4, 4))
    config = DecodingConfig(num_steps=3)
    whole = decode_images(model, recon, codes, config, seed=1)
    assert whole.shape == recon.shape and whole.abs().max() <= 1
    parts = decode_images(model, recon, codes, config, seed=1, batch_rows=2)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(decode_images(model, recon, codes, config, seed=2), whole, atol=1e-2)


def test_each_row_is_what_it_is_alone() -> None:
    model, sampling = gpt(), SamplingConfig(guidance=2.0, temperature=1.0)
    together = sample_codes(PROMPTS, model, GRAMMAR, TEXT, (4, 4), sampling=sampling, seed=3)
    assert together.shape == (4, 4, 4) and 0 <= together.min() and together.max() < 60
    assert len(together.unique()) > 8
    for i, prompt in enumerate(PROMPTS):
        alone = sample_codes([prompt], model, GRAMMAR, TEXT, (4, 4), sampling=sampling, seed=3, first_row=i)
        assert torch.equal(alone[0], together[i]), prompt
    assert not torch.equal(sample_codes(PROMPTS, model, GRAMMAR, TEXT, (4, 4), sampling=sampling, seed=4), together)


def test_guidance_of_one_is_the_condition_alone() -> None:
    model = gpt()
    one = sample_codes(PROMPTS, model, GRAMMAR, TEXT, (4, 4), sampling=SamplingConfig(guidance=1.0))
    near = sample_codes(PROMPTS, model, GRAMMAR, TEXT, (4, 4), sampling=SamplingConfig(guidance=1.0 + 1e-9))
    assert torch.equal(one, near)  # the second runs both conditions
    zero = [
        sample_codes([prompt], model, GRAMMAR, TEXT, (4, 4), sampling=SamplingConfig(guidance=0.0))
        for prompt in PROMPTS
    ]
    assert all(torch.equal(codes, zero[0]) for codes in zero)  # without a caption all captions are one


def test_prompts_become_pictures_of_the_tokenizer(tokenizer: Tokenizer) -> None:
    made = generate_images(
        PROMPTS,
        gpt(),
        GRAMMAR,
        TEXT,
        tokenizer,
        denoiser(),
        sampling=SamplingConfig(),
        decoding=DecodingConfig(num_steps=2),
        seed=5,
        batch_rows=3,
    )
    assert made.codes.shape == (4, 4, 4) and made.images.shape == made.dvae_images.shape == (4, 1, 16, 16)
    assert torch.equal(made.dvae_images, tokenizer.decode(made.codes))
    again = generate_images(
        PROMPTS,
        gpt(),
        GRAMMAR,
        TEXT,
        tokenizer,
        denoiser(),
        sampling=SamplingConfig(),
        decoding=DecodingConfig(num_steps=2),
        seed=5,
    )
    assert torch.equal(again.codes, made.codes)
    torch.testing.assert_close(again.images, made.images, rtol=1e-4, atol=1e-4)


def test_the_constraint_follows_each_row() -> None:
    prompts = [np.array([BOS, 6, 16, 16]), np.array([BOS])]
    constraint = GrammarConstraint(GRAMMAR, prompts, torch.device("cpu"))
    allowed = constraint.allowed()
    assert allowed.shape == (2, GRAMMAR.vocab_size)
    offset = GRAMMAR.offset("image")
    assert allowed[0].nonzero().flatten().tolist() == list(range(offset, offset + 60))
    assert allowed[1].nonzero().flatten().tolist() == [2, 4, 6]
    constraint.advance(torch.tensor([offset, 4]))
    assert constraint.allowed()[0].nonzero().flatten().tolist() == [7]
    with pytest.raises(ValueError, match="cannot follow"):
        constraint.advance(torch.tensor([offset, 4]))


def test_bad_prompts_and_settings_are_refused(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="a prompt is empty"):
        generate_images(
            ["fine", " "],
            gpt(),
            GRAMMAR,
            TEXT,
            tokenizer,
            denoiser(),
            sampling=SamplingConfig(),
            decoding=DecodingConfig(),
        )
    with pytest.raises(ValueError, match="leaves no room for 16 codes"):
        sample_codes(["a red square " * 20], gpt(), GRAMMAR, TEXT, (4, 4), sampling=SamplingConfig())
    for bad in ({"num_steps": 0}, {"num_steps": 1001}, {"noise_scale": -1.0}, {"corruption": 1.5}):
        with pytest.raises(ValueError, match=f"^{next(iter(bad))} is .*; use "):
            DecodingConfig(**bad)


def test_a_prompt_that_just_fits_is_drawn() -> None:
    length = 1 + 2 + len(TEXT.encode("a red square")) + 3
    codes = sample_codes(["a red square"], gpt(length + 15), GRAMMAR, TEXT, (4, 4), sampling=SamplingConfig())
    assert codes.shape == (1, 4, 4)
    with pytest.raises(ValueError, match="no room"):
        sample_codes(["a red square"], gpt(length + 14), GRAMMAR, TEXT, (4, 4), sampling=SamplingConfig())
