import math

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from sklearn.datasets import load_digits
from torchmetrics.image import PeakSignalNoiseRatio

from pipeline.generate.evaluate import DigitJudge, bits_per_code, codebook_use, psnr_db
from pipeline.models.config import GPTConfig
from pipeline.models.gpt import GPT
from pipeline.tokenize.grammar import Grammar, Segment
from pipeline.tokenize.text import TextTokenizer

torch.set_num_threads(1)
TEXT = TextTokenizer.train(["a small picture", "a large one"], 280)
GRAMMAR = Grammar(text_size=TEXT.vocab_size, image_size=24, max_side=4)


def model() -> GPT:
    torch.manual_seed(0)
    gpt = GPT(GPTConfig(vocab_size=GRAMMAR.vocab_size, n_layer=2, d_model=32, n_head=4, n_kv_head=2, seq_len=48)).eval()
    for parameter in gpt.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return gpt


def test_psnr_is_its_closed_form_and_torchmetrics_() -> None:
    truth = torch.rand(3, 1, 8, 8) * 2 - 1
    assert psnr_db(truth + 0.02, truth) == pytest.approx(40.0, abs=1e-4)  # range 2, error 0.02: 20 log10(100)
    images = truth + torch.randn_like(truth) * 0.1
    reference = PeakSignalNoiseRatio(data_range=2.0)(images, truth).item()
    assert psnr_db(images, truth) == pytest.approx(reference, abs=1e-4)
    assert psnr_db(truth, truth) == math.inf
    with pytest.raises(ValueError, match="cannot be compared"):
        psnr_db(images[:1], truth)


def test_codebook_use_is_scipy_s_entropy_over_the_whole_set() -> None:
    codes = torch.randint(0, 7, (20, 4, 4))
    use = codebook_use(codes, 10)
    assert use.perplexity == pytest.approx(math.exp(entropy(np.bincount(codes.flatten(), minlength=10))))
    assert use.usage == len(codes.unique()) / 10
    uniform = codebook_use(torch.arange(10).view(1, 2, 5), 10)
    assert uniform.usage == 1 and uniform.perplexity == pytest.approx(10)
    assert codebook_use(torch.zeros(3, 2, 2, dtype=torch.int64), 10).perplexity == pytest.approx(1)


def test_bits_per_code_is_the_sum_of_single_predictions() -> None:
    gpt, rng = model(), np.random.default_rng(0)
    rows = [
        {"modality": "image", "text": text, "codes": rng.integers(0, 24, h * w).tolist(), "shape": [h, w]}
        for text, h, w in (("a small picture", 2, 3), ("a large one", 4, 4), ("", 3, 3))
    ]
    bits, n = 0.0, 0
    for row in rows:
        prompt = GRAMMAR.build_segment(Segment("text", TEXT.encode(row["text"]) or None)).tolist()
        ids = [1, *prompt, 6, 16 + row["shape"][0] - 1, 16 + row["shape"][1] - 1]
        for code in row["codes"]:
            with torch.no_grad():
                p = gpt(torch.tensor([ids]))[0, -1].double().softmax(-1)
            ids.append(GRAMMAR.offset("image") + code)
            bits, n = bits - math.log2(p[ids[-1]]), n + 1
    for batch_rows in (1, 2, 3):
        assert bits_per_code(gpt, GRAMMAR, TEXT, rows, batch_rows) == pytest.approx(bits / n, rel=1e-5)


def test_a_blind_model_needs_log2_of_its_vocabulary() -> None:
    gpt = model()
    with torch.no_grad():
        gpt.embedding.weight.zero_()
    rows = [{"modality": "image", "text": "a large one", "codes": [3, 1, 2, 0], "shape": [2, 2]}]
    assert bits_per_code(gpt, GRAMMAR, TEXT, rows) == pytest.approx(math.log2(GRAMMAR.vocab_size), rel=1e-6)


def test_the_judge_reads_real_digits_and_not_noise() -> None:
    digits = load_digits()
    images = torch.nn.functional.interpolate(
        torch.tensor(digits.images / 8 - 1, dtype=torch.float32)[:, None], size=32, mode="nearest"
    )
    train = np.arange(len(images)) % 5 != 0
    judge = DigitJudge(images[train], digits.target[train])
    assert judge.accuracy(images[~train], digits.target[~train]) > 0.97
    assert judge.accuracy(images[~train], (digits.target[~train] + 1) % 10) < 0.03
    noise = torch.rand(200, 1, 32, 32) * 2 - 1
    assert judge.accuracy(noise, np.arange(200) % 10) < 0.3


def test_the_judge_sees_the_mean_of_each_area() -> None:
    from pipeline.generate.evaluate import _eight

    values = torch.arange(64.0).view(1, 1, 8, 8) / 32 - 1
    blocks = values.repeat_interleave(4, 2).repeat_interleave(4, 3)
    np.testing.assert_allclose(_eight(blocks)[0], np.arange(64) / 4, atol=1e-6)
